"""Session records that another system writes: polled by one replica, as long as they are there."""

from __future__ import annotations

import asyncio

from grpc import StatusCode

from qc_adapter.simulator import Fault
from qc_adapter.v1 import sessions_pb2
from tests.support.watches import hold, read, until_told


async def test_a_record_written_by_hand_is_polled_by_one_replica(open_cluster, until):
    """Ten records appear: within a moment each inspector is polled, by exactly one of the replicas."""
    cluster = await open_cluster()
    ids = [str(number) for number in range(101, 111)]
    for agent_id in ids:
        await cluster.adopted(agent_id)
    await until(lambda: all(cluster.polls(agent_id) for agent_id in ids), "a poll for each")
    first, second = (one.held for one in cluster.replicas)
    assert first | second == set(ids)
    assert not first & second


async def test_a_deleted_record_ends_polls_and_watches(cluster, pair, until):
    """The record goes: watches on every replica end with INSPECTOR_NOT_SIGNED_IN, and the polls stop."""
    streams = [one.watch() for one in pair]
    for stream in streams:
        await read(stream, 1)
    await cluster.write("DEL", "qc:session:101")
    for one, stream in zip(pair, streams, strict=True):
        ended = await one.ending(stream)
        assert (ended.code, ended.reason) == (StatusCode.FAILED_PRECONDITION, "INSPECTOR_NOT_SIGNED_IN")
    await until(lambda: not any(one.held for one in pair), "nobody polls")
    assert cluster.changes("session_lost") == []


async def test_an_overwritten_record_is_polled_on(cluster, pair):
    """Another system signs the inspector in anew and overwrites the GUID: within a moment events and commands go on."""
    cluster.may_sign_out = True
    _, other = pair
    await cluster.adopted("101")
    await other.held_poll()
    stream = other.watch()
    await read(stream, 1)
    cluster.simulator.inject("101", hold(1))
    await until_told(stream, "9-1")
    stream.cancel()
    await other.listening()
    assert (await other.ending(other.intercept())).outcome == "CONFIRMED"
    assert sum("101" in one.held for one in pair) == 1


async def test_a_record_without_polls_gets_them_when_it_says_so(open_cluster, until):
    """With event_source none nobody polls, and commands go out; changed to poll, one replica does."""
    cluster = await open_cluster()
    await cluster.adopted("101", event_source="none")
    for one in cluster.replicas:
        found = await one.ending(one.get())
        assert found.updates[0].session.event_source == sessions_pb2.EVENT_SOURCE_NONE
    # A record that came later is polled: so the first one was looked at, and left alone.
    await cluster.adopted("102")
    await until(lambda: cluster.polls("102"), "a poll for the other one")
    assert cluster.polls("101") == 0
    await cluster.write("HSET", "qc:session:101", "event_source", "poll")
    await until(lambda: cluster.polls("101"), "a poll")
    assert sum("101" in one.held for one in cluster.replicas) == 1
    await cluster.write("HSET", "qc:session:101", "event_source", "none")
    await until(lambda: not any("101" in one.held for one in cluster.replicas), "nobody polls")


async def test_every_replica_knows_how_polling_goes(cluster, pair, until):
    """Active, degraded, lost: each replica says it of a session, whoever polls."""
    cluster.may_sign_out = True

    async def states():
        found = [await one.ending(one.get()) for one in pair]
        listed = [await one.ending(one.sessions.List(sessions_pb2.ListRequest(), timeout=20)) for one in pair]
        seen = {one.updates[0].session.state for one in found}
        return seen | {session.state for one in listed for session in one.updates[0].sessions}

    async def become(state):
        async with asyncio.timeout(15):
            while await states() != {state}:
                pass

    await become(sessions_pb2.SESSION_STATE_ACTIVE)
    cluster.simulator.add_fault(Fault("html", operation="getAgentEvent", times=-1))
    cluster.simulator.inject("101", hold(1))
    await become(sessions_pb2.SESSION_STATE_DEGRADED)
    cluster.simulator.clear_faults()
    await become(sessions_pb2.SESSION_STATE_ACTIVE)
    cluster.simulator.sign_out("101")
    await become(sessions_pb2.SESSION_STATE_LOST)
