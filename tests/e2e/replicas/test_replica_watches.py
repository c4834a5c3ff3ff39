"""Watching on any replica: one log with one set of cursors, whoever polls."""

from __future__ import annotations

import pytest
from grpc import StatusCode

from qc_adapter.v1 import events_pb2
from tests.support.watches import hold, read, told, until_told

FIRST = ["AgentOther_InService", "AgentState_Ready"]


async def test_every_replica_tells_the_same_events(cluster):
    """Watches on all replicas see the same events with the same cursors, in the gateway's order."""
    streams = [one.watch(cursor="oldest") for one in cluster.replicas]
    for number in range(3):
        cluster.simulator.inject("101", hold(number))
    seen = [await read(stream, 6) for stream in streams]
    assert told(seen[0]) == ["subscribed", *FIRST, "9-0", "9-1", "9-2"]
    assert seen[0] == seen[1]
    for stream in streams:
        stream.cancel()


@pytest.mark.parametrize("taken", range(6))
async def test_a_cursor_of_one_replica_counts_on_the_other(pair, taken):
    """A watch that ends on one replica goes on elsewhere with exactly the rest, from any cursor."""
    whole = [*FIRST, "9-0", "9-1", "9-2"]
    for first, second in (pair, pair[::-1]):
        if first is pair[0]:
            for number in range(3):
                first.simulator.inject("101", hold(number))
        stream = first.watch(cursor="oldest")
        messages = await read(stream, 1 + taken)
        stream.cancel()
        again = second.watch(cursor=messages[-1].cursor)
        assert told(await read(again, 6 - taken)) == ["subscribed", *whole[taken:]]
        again.cancel()


async def test_a_cursor_counts_on_a_replica_that_hears_nothing(cluster, pair):
    """The other replica hears no notices: a watch that resumes there misses nothing, and is told nothing twice."""
    first, second = pair
    behind = second.watch()
    await read(behind, 1)
    await second.adapter.shared.mirror.stop()
    stream = first.watch()
    cursors = [(await read(stream, 1))[0].cursor]
    for number in range(3):
        cluster.simulator.inject("101", hold(number))
        cursors += [message.cursor for message in await until_told(stream, f"9-{number}")]
    stream.cancel()
    again = second.watch(cursor=cursors[2])
    assert told(await read(again, 2)) == ["subscribed", "9-2"]
    second.adapter.shared.mirror.start()
    cluster.simulator.inject("101", hold(3))
    assert told(await read(again, 1)) == ["9-3"]
    assert told(await read(behind, 4)) == ["9-0", "9-1", "9-2", "9-3"]
    assert await second.sample('qc_event_gaps_total{gateway="default",reason="cursor_expired"}') == 0
    for one in (again, behind):
        one.cancel()


async def test_a_cursor_outlives_all_replicas(cluster):
    """All replicas end and others begin: the same cursor leads to what came meanwhile, and nothing is missing."""
    stream = cluster.replicas[0].watch()
    cursor = (await read(stream, 1))[0].cursor
    stream.cancel()
    for replica in list(cluster.replicas):
        await cluster.leave(replica)
    cluster.simulator.inject("101", hold(1))
    fresh = await cluster.add()
    again = fresh.watch(cursor=cursor)
    assert told(await read(again, 2)) == ["subscribed", "9-1"]
    again.cancel()


async def test_a_cursor_of_what_is_not_kept_has_expired_everywhere(cluster, pair, until):
    """What came after a cursor was trimmed: OUT_OF_RANGE on another replica, or a gap and then what is kept."""
    first, _ = pair
    stream = first.watch(cursor="oldest")
    cursor = (await read(stream, 2))[-1].cursor
    for number in range(3):
        cluster.simulator.inject("101", hold(number))
    await until_told(stream, "9-2")
    stream.cancel()
    await cluster.write("XTRIM", "qc:events:101", "MAXLEN", 2)
    third = await cluster.add()
    ended = await third.ending(third.watch(cursor=cursor))
    assert (ended.code, ended.reason) == (StatusCode.OUT_OF_RANGE, "CURSOR_EXPIRED")
    assert ended.metadata["cursor"] == cursor
    stream = third.watch(cursor=cursor, on_expired=events_pb2.ON_EXPIRED_GAP)
    messages = await read(stream, 4)
    assert told(messages) == ["subscribed", "gap", "9-1", "9-2"]
    assert (messages[1].gap.reason, getattr(messages[1].gap, "from")) == ("CURSOR_EXPIRED", cursor)
    stream.cancel()


async def test_a_sign_out_ends_watches_everywhere(cluster, pair):
    """Signed out on one replica: watches end with INSPECTOR_NOT_SIGNED_IN on the other too, and nobody polls on."""
    cluster.may_sign_out = True
    for out, other in (pair, pair[::-1]):
        stream = other.watch()
        await read(stream, 1)
        assert (await out.ending(out.sign_out())).code is StatusCode.OK
        ended = await other.ending(stream)
        assert (ended.code, ended.reason) == (StatusCode.FAILED_PRECONDITION, "INSPECTOR_NOT_SIGNED_IN")
        assert (await other.ending(other.intercept())).reason == "INSPECTOR_NOT_SIGNED_IN"
        assert cluster.changes("session_lost") == []
        assert (await other.ending(other.sign_in())).code is StatusCode.OK


@pytest.mark.parametrize("way", ["kicked", "taken over"])
async def test_a_lost_session_ends_watches_everywhere(cluster, pair, way):
    """The poll of one replica hears that the sign-in is over: INSPECTOR_SESSION_LOST on the other too."""
    cluster.may_sign_out = True
    for one in pair:
        stream = one.watch()
        await read(stream, 1)
        if one is pair[0]:
            (cluster.simulator.sign_out if way == "kicked" else cluster.simulator.sign_in)("101")
        ended = await one.ending(stream)
        assert (ended.code, ended.reason) == (StatusCode.FAILED_PRECONDITION, "INSPECTOR_SESSION_LOST")
        assert ended.metadata["retcode"] == "100-006"
    assert [line["level"] for line in cluster.changes("session_lost")] == ["warning"]


async def test_a_new_sign_in_elsewhere_takes_the_polls_along(cluster, pair, until):
    """Signed in anew on the other replica: the old poll stops at once, a gap stands there, and events go on."""
    cluster.may_sign_out = True
    first, second = pair
    streams = [one.watch() for one in pair]
    for stream in streams:
        await read(stream, 1)
    assert (await second.ending(second.sign_in(force=True))).code is StatusCode.OK
    await first.held_poll()
    cluster.simulator.inject("101", hold(1))
    for stream in streams:
        seen = await until_told(stream, "9-1")
        gaps = [one.gap.reason for one in seen if one.HasField("gap")]
        assert gaps == ["TAKEOVER"]
        stream.cancel()
    assert cluster.changes("session_lost") == []
    assert (
        await first.sample('qc_event_gaps_total{gateway="default",reason="takeover"}')
        + await second.sample('qc_event_gaps_total{gateway="default",reason="takeover"}')
        == 1
    )
