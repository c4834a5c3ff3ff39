"""A replica that goes away as it should: the others go on without a gap, and callers lose only the connection."""

from __future__ import annotations

import asyncio

from grpc import StatusCode

from qc_adapter.simulator import Fault
from qc_adapter.v1 import quality_control_pb2 as qc
from tests.support.watches import hold, read, told, until_told


def assert_draining(ended, cursor):
    """The caller may go on at another replica, from there."""
    assert (ended.code, ended.reason, ended.retry) == (StatusCode.UNAVAILABLE, "DRAINING", True)
    assert ended.metadata["cursor"] == cursor


async def test_a_drain_hands_the_polls_over_without_a_gap(cluster, pair, until):
    """Drained in the midst of events: the other replica polls on, every event is told once, and there is no gap."""
    first, second = pair
    stream = second.watch()
    await read(stream, 1)
    draining = asyncio.create_task(first.adapter.drain())
    for number in range(10):
        cluster.simulator.inject("101", hold(number))
        await until_told(stream, f"9-{number}")
    await draining
    await until(lambda: "101" in second.held, "the lease")
    await cluster.stop(first)
    cluster.simulator.inject("101", hold("last"))
    seen = await until_told(stream, "9-last")
    assert told(seen) == ["9-last"]
    stream.cancel()
    assert (cluster.changes("taken_over"), len(cluster.changes("released"))) == ([], 1)
    again = second.watch(cursor="oldest")
    whole = told(await until_told(again, "9-last"))
    assert whole[3:] == [f"9-{number}" for number in range(10)] + ["9-last"]
    again.cancel()


async def test_a_drain_waits_for_the_poll_that_is_held(cluster, pair):
    """The poll that the gateway holds is not cut off: what it brings is logged by the replica that drains."""
    first, second = pair
    stream = second.watch()
    await read(stream, 1)
    before = cluster.polls()
    draining = asyncio.create_task(first.adapter.drain())
    cluster.simulator.inject("101", hold(1))
    assert told(await read(stream, 1)) == ["9-1"]
    await draining
    stream.cancel()
    assert cluster.simulator.requests("getAgentEvent", "101")[before - 1].retcode == "0"
    assert cluster.changes("revoked") == []


async def test_a_watch_resumes_elsewhere_without_loss(cluster, pair):
    """The watch of the drained replica ends with DRAINING, cursor and RetryInfo; from there it goes on elsewhere."""
    first, second = pair
    stream = first.watch()
    await read(stream, 1)
    cluster.simulator.inject("101", hold(1))
    [last] = await read(stream, 1)
    draining = asyncio.create_task(first.adapter.drain())
    ended = await first.ending(stream)
    cluster.simulator.inject("101", hold(2))
    assert told(ended.updates) == []
    assert_draining(ended, last.cursor)
    again = second.watch(cursor=ended.metadata["cursor"])
    assert told(await read(again, 2)) == ["subscribed", "9-2"]
    again.cancel()
    await draining


async def test_a_command_in_flight_gets_its_receipt(pair, until):
    """A command that is out when its replica drains gets the gateway's reply, and a repetition elsewhere the rest."""
    first, second = pair
    await first.listening()
    first.simulator.add_fault(Fault("delay", operation="intercept", seconds=0.4))
    call = asyncio.create_task(first.ending(first.intercept(request_id="one", follow=qc.FOLLOW_NONE)))
    await until(lambda: first.puts == 1)
    draining = asyncio.create_task(first.adapter.drain())
    ended = await call
    assert (ended.code, ended.kinds) == (StatusCode.OK, ["accepted"])
    joined = await second.ending(second.intercept(request_id="one"))
    assert (joined.code, joined.outcome) == (StatusCode.OK, "CONFIRMED")
    await draining
    assert first.puts == 1


async def test_the_last_replica_signs_nobody_out(cluster):
    """Both replicas drain at once: the inspector stays signed in, and a new replica goes on without a gap."""
    stream = cluster.replicas[0].watch()
    cursor = (await read(stream, 1))[0].cursor
    stream.cancel()
    await asyncio.gather(*(one.adapter.drain() for one in cluster.replicas))
    for replica in list(cluster.replicas):
        await cluster.stop(replica)
    cluster.simulator.inject("101", hold(1))
    fresh = await cluster.add()
    again = fresh.watch(cursor=cursor)
    assert told(await read(again, 2)) == ["subscribed", "9-1"]
    again.cancel()
    assert cluster.changes("taken_over") == []


async def test_a_stream_elsewhere_does_not_notice_a_drain(cluster, pair, until):
    """A command is followed until the release while the polls change hands: its stream goes on to its end."""
    first, second = pair
    call_id = await second.listening()
    call = second.intercept(follow=qc.FOLLOW_UNTIL_RELEASED)
    while not (await call.read()).HasField("outcome"):
        pass
    await cluster.leave(first)
    await until(lambda: "101" in second.held, "the lease")
    cluster.simulator.end_call(call_id)
    ended = await second.ending(call)
    assert (ended.code, "gap" in ended.kinds) == (StatusCode.OK, False)
