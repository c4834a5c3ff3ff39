"""Pushed events and several replicas: whichever takes a push, the log is one, and a lost lease loses nothing."""

from __future__ import annotations

import pytest
from grpc import StatusCode

from bench.ports import free_port
from qc_adapter.simulator import Fault
from tests.support.opening import PUSH_TOKEN, pushing
from tests.support.watches import hold, read, told

QUICK = {"push_retry_seconds": 0.1, "push_timeout_seconds": 3.0}


@pytest.fixture
async def pushed_cluster(open_cluster):
    """Two replicas, of which the first one takes the pushes, and inspector 101 signed in through the other."""
    port = free_port()
    made = await open_cluster(0, gateway=QUICK, **pushing(port, QC_STORE_URL=""))
    made.environment.pop("QC_STORE_URL")
    receiver = await made.add()
    other = await made.add(QC_PUSH_LISTEN="127.0.0.1:0")
    assert (await other.ending(other.sign_in())).code is StatusCode.OK
    return made, receiver, other


async def test_a_push_to_one_replica_is_told_by_all(pushed_cluster, until):
    """Streams and commands on either replica see every pushed event once and in order."""
    made, receiver, other = pushed_cluster
    streams = [one.watch() for one in (receiver, other)]
    for stream in streams:
        await read(stream, 1)
    for number in range(30):
        made.simulator.inject("101", hold(number))
    for stream in streams:
        assert told(await read(stream, 30)) == [f"9-{number}" for number in range(30)]
        stream.cancel()
    await other.listening()
    assert (await other.ending(other.intercept())).outcome == "CONFIRMED"
    assert made.polls() == 0
    assert PUSH_TOKEN not in made.tape.getvalue().decode()


async def test_a_lease_that_expires_leaves_no_gap(pushed_cluster, until):
    """Its holder is cut off from Redis: another replica sends the heartbeats, and no stream is told of a loss."""
    made, receiver, other = pushed_cluster
    await until(lambda: receiver.held | other.held == {"101"}, "a lease")
    holder, successor = (receiver, other) if receiver.held else (other, receiver)
    stream = successor.watch()
    await read(stream, 1)
    await holder.store.refuse()
    made.simulator.inject("101", hold(1))  # a receiver without a store answers with a failure: it is pushed again
    await until(lambda: "101" in successor.held, "a takeover")
    await holder.store.accept()
    made.simulator.inject("101", hold(2))
    assert told(await read(stream, 2)) == ["9-1", "9-2"]
    stream.cancel()
    beats = len(made.simulator.requests("handShake", "101"))
    await until(lambda: len(made.simulator.requests("handShake", "101")) > beats, "a heartbeat")
    await until(lambda: "101" not in holder.held, "one holder")


async def test_a_session_that_another_system_makes_a_polled_one_is_polled_at_once(open_cluster, until):
    """Not a heartbeat's pause later: its events wait in the gateway's queue, and its sign-in for a poll."""
    made = await open_cluster(1, **pushing(free_port(), QC_HEARTBEAT_SECONDS="30"))
    made.simulator.add_fault(Fault("delay", operation="handShake", seconds=0.8, times=1))
    await made.adopted(event_source="push")
    await until(lambda: made.replicas[0].held, "a lease")
    await made.write("HSET", "qc:session:101", "event_source", "poll")
    await until(lambda: made.polls() > 0, "a poll")
