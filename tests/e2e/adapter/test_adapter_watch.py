"""Watching an inspector: nothing lost, and if so, said."""

from __future__ import annotations

from itertools import pairwise

import pytest
from grpc import StatusCode

from qc_adapter.simulator import Fault
from qc_adapter.v1 import sessions_pb2
from tests.support.watches import hold, read, told, until_told

FIRST = ["AgentOther_InService", "AgentState_Ready"]


async def test_a_watch_begins_now(site):
    """The first message is `subscribed`; then comes what happens from then on, each with a rising cursor."""
    await site.held_poll()
    stream = site.watch()
    messages = await read(stream, 1)
    for number in range(3):
        site.simulator.inject("101", hold(number))
    messages += await read(stream, 3)
    assert told(messages) == ["subscribed", "9-0", "9-1", "9-2"]
    assert len({message.cursor for message in messages}) == 4
    assert [message.event.cursor for message in messages[1:]] == [message.cursor for message in messages[1:]]
    stream.cancel()


async def test_a_watch_from_the_oldest_brings_what_is_kept(site):
    """With "oldest" the events of the sign-in come first."""
    await site.held_poll()
    stream = site.watch(cursor="oldest")
    assert told(await read(stream, 3)) == ["subscribed", *FIRST]
    stream.cancel()


@pytest.mark.parametrize("taken", range(6))
async def test_a_watch_resumes_with_exactly_the_rest(site, taken):
    """From any cursor: no event twice, none missing, in the gateway's order."""
    for number in range(3):
        site.simulator.inject("101", hold(number))
    whole = [*FIRST, "9-0", "9-1", "9-2"]
    first = site.watch(cursor="oldest")
    messages = await read(first, 1 + taken)
    first.cancel()
    assert told(messages)[1:] == whole[:taken]
    second = site.watch(cursor=messages[-1].cursor)
    assert told(await read(second, 6 - taken)) == ["subscribed", *whole[taken:]]
    site.simulator.inject("101", hold(3))
    assert told(await read(second, 1)) == ["9-3"]
    second.cancel()


async def test_a_watch_resumes_from_a_command(site):
    """The cursor of any update of a command leads to what came after it."""
    await site.listening()
    updates = (await site.ending(site.intercept())).updates
    for taken, update in enumerate(updates, 1):
        rest = [one.event.event_type for one in updates[taken:] if one.HasField("event")]
        stream = site.watch(cursor=update.cursor)
        assert told(await read(stream, 1 + len(rest))) == ["subscribed", *rest]
        stream.cancel()


async def test_an_idle_watch_carries_bookmarks(open_site):
    """When nothing happens a bookmark says so, at a place to resume from."""
    site = await open_site(QC_BOOKMARK_SECONDS="0.05")
    await site.ending(site.sign_in())
    await site.held_poll()
    stream = site.watch()
    messages = [await stream.read() for _ in range(4)]
    assert [message.WhichOneof("update") for message in messages] == ["subscribed"] + ["bookmark"] * 3
    assert len({message.cursor for message in messages}) == 1
    site.simulator.inject("101", hold(1))
    assert told(await read(stream, 1)) == ["9-1"]
    stream.cancel()
    again = site.watch(cursor=messages[-1].cursor)
    assert told(await read(again, 2)) == ["subscribed", "9-1"]
    again.cancel()


async def test_a_poll_reply_that_arrived_in_part_is_one_gap(site):
    """The gateway has answered, so it holds nothing any more: what comes next is certain."""
    stream = site.watch()
    assert told(await read(stream, 1)) == ["subscribed"]
    await site.held_poll()
    await until_only_holds(site, stream)
    site.simulator.add_fault(Fault("cut_json", operation="getAgentEvent"))
    for number in range(3):
        site.simulator.inject("101", hold(number))
    assert told(await until_told(stream, "9-2")) == ["9-0", "gap", "9-2"]
    stream.cancel()


async def test_a_poll_reply_that_was_lost_is_a_gap(site):
    """The reply took an event away and never arrived: a gap stands there, and before what comes in that time."""
    stream = site.watch()
    assert told(await read(stream, 1)) == ["subscribed"]
    await site.held_poll()
    await until_only_holds(site, stream)
    site.simulator.add_fault(Fault("reset_after", operation="getAgentEvent"))
    for number in range(3):
        site.simulator.inject("101", hold(number))
    messages = await until_told(stream, "9-2")
    # As long as the gateway may still hold the poll, the next event may not be the next one.
    assert told(messages) == ["9-0", "gap", "gap", "9-2"]
    for before, message in pairwise(messages[:3]):
        assert message.gap.reason == "POLL_REPLY_LOST"
        assert (getattr(message.gap, "from"), message.gap.to) == (before.cursor, message.cursor)
    assert told(await read(stream, 1)) == ["gap"]  # the end of that time
    site.simulator.inject("101", hold(3))
    assert told(await read(stream, 1)) == ["9-3"]
    stream.cancel()
    metrics = await site.page("/metrics")
    assert 'qc_event_gaps_total{gateway="default",reason="poll_reply_lost"} 3.0' in metrics
    assert [line["level"] for line in site.tape.lines if line["event"] == "event_gap"] == ["warning"] * 3
    assert site.simulator.record.lost_on_wire["101"] == 1
    await site.goes_on()


async def until_only_holds(site, stream):
    """Let a mark pass, so that whatever the sign-in brought lies behind."""
    site.simulator.inject("101", hold("mark"))
    while told(await read(stream, 1)) != ["9-mark"]:
        pass
    await site.held_poll()


@pytest.mark.parametrize(
    "damage",
    [
        {"action": "retcode", "code": "000-004"},
        {"action": "retcode", "code": "000-003"},
        {"action": "switch_over", "seconds": 0.1},
    ],
    ids=["switching", "GUID refused once", "switch-over"],
)
async def test_a_poll_that_took_nothing_is_no_gap(site, damage):
    """The gateway turned a poll away before it looked: the stream goes on without a gap and without a loss."""
    stream = site.watch()
    await read(stream, 1)
    await until_only_holds(site, stream)
    site.simulator.add_fault(Fault(operation="getAgentEvent", **damage))
    for number in range(2):
        site.simulator.inject("101", hold(number))
    assert told(await read(stream, 2)) == ["9-0", "9-1"]
    stream.cancel()


async def test_odd_events_pass_through(site):
    """Unknown types, bare texts, null, numbers and foreign agents: passed on whole, or dropped and counted."""
    stream = site.watch()
    await read(stream, 1)
    await until_only_holds(site, stream)
    deep = {"x": {"y": [1, 2.5, None, True, "\u4f60\u597d"]}, "big": 2**60}
    for event in (
        {"eventType": "AgentEvent_Brand_New", "workNo": 101, "content": deep, "more": 1},
        {"eventType": "AgentEvent_Talking", "workNo": "101", "content": None},
        hold(1, work_no="292"),
        hold(1, work_no="279fe21d-2caa-4437-84c3-ab9e9dae20f5.AgentGateway0" + 1000 * " x"),
        hold(2),
    ):
        site.simulator.inject("101", event)
    new, talking, last = await read(stream, 3)
    assert (new.event.event_type, new.event.work_no) == ("AgentEvent_Brand_New", "101")
    assert new.event.content.struct_value["x"]["y"][4] == "\u4f60\u597d"
    assert new.event.content.struct_value["big"] == str(2**60)
    assert talking.event.HasField("talking")
    assert talking.event.talking.call_id == ""
    assert told([last]) == ["9-2"]
    stream.cancel()
    metrics = await site.page("/metrics")
    assert 'qc_events_total{event_type="other",gateway="default"} 1.0' in metrics
    plain, odd = [line["work_no"] for line in site.tape.lines if line["event"] == "foreign_event_dropped"]
    assert (plain, odd[:11], len(odd)) == ("292", "<hidden> x ", 200)  # a text of the gateway's, safe and short


@pytest.mark.parametrize("way", ["kicked", "taken over"])
async def test_a_watch_of_a_lost_session_says_so(site, way):
    """The gateway ended the sign-in: all events before it, then INSPECTOR_SESSION_LOST, and no takeover by itself."""
    stream = site.watch()
    await read(stream, 1)
    await site.held_poll()
    if way == "kicked":
        site.simulator.sign_out("101")
    else:
        site.simulator.sign_in("101")
    ended = await site.ending(stream)
    assert (ended.code, ended.reason) == (StatusCode.FAILED_PRECONDITION, "INSPECTOR_SESSION_LOST")
    assert ended.metadata["retcode"] == "100-006"
    if way == "kicked":
        assert ended.updates[-1].event.event_type == "AgentOther_ShutdownService"
    assert (await site.ending(site.watch())).reason == "INSPECTOR_SESSION_LOST"
    assert (await site.ending(site.get())).updates[0].session.state == sessions_pb2.SESSION_STATE_LOST
    changes = [line for line in site.tape.lines if line["event"] == "lease_changed"]
    assert [line["level"] for line in changes if line["reason"] == "session_lost"] == ["warning"]
    assert len(site.simulator.requests("login")) == 1
    assert site.simulator.requests("forceLogin") == ()
    if way == "taken over":
        site.simulator.sign_out("101")
    await site.goes_on()


async def test_a_lost_session_whose_guid_is_replaced_is_polled_again(site):
    """Another system signs the inspector in again and its GUID is adopted: the events come again."""
    await site.held_poll()
    guid = site.simulator.sign_in("101")
    assert (await site.ending(site.watch())).reason == "INSPECTOR_SESSION_LOST"
    request = sessions_pb2.AdoptRequest(agent_id="101", guid=guid)
    assert (await site.ending(site.sessions.Adopt(request, timeout=20))).code is StatusCode.OK
    stream = site.watch()
    await read(stream, 1)
    await until_only_holds(site, stream)
    stream.cancel()
    await site.goes_on()


async def test_a_watch_ends_with_the_sign_out(site):
    """Signed out through the adapter: the stream ends with INSPECTOR_NOT_SIGNED_IN."""
    stream = site.watch()
    await read(stream, 1)
    request = sessions_pb2.SignOutRequest(agent_id="101")
    assert (await site.ending(site.sessions.SignOut(request, timeout=20))).code is StatusCode.OK
    ended = await site.ending(stream)
    assert (ended.code, ended.reason) == (StatusCode.FAILED_PRECONDITION, "INSPECTOR_NOT_SIGNED_IN")
    await site.goes_on()


async def test_watches_of_one_inspector_share_one_poller(site):
    """Fifty streams see the same events, and the gateway sees one poll at a time."""
    streams = [site.watch() for _ in range(50)]
    for stream in streams:
        await read(stream, 1)
    site.simulator.inject("101", hold("all"))
    for stream in streams:
        while told(await read(stream, 1)) != ["9-all"]:
            pass
        stream.cancel()
    assert site.simulator.record.poll_overlaps() == 0


async def test_guid_rotations_cost_no_event(open_site):
    """While the GUID changes all the time, every event arrives once and in order."""
    site = await open_site(gateway={"guid_interval_seconds": 0.05, "guid_timeout_seconds": 5.0})
    await site.ending(site.sign_in())
    stream = site.watch()
    await read(stream, 1)
    await until_only_holds(site, stream)
    for number in range(20):
        site.simulator.rotate("101")
        site.simulator.inject("101", hold(number))
    assert told(await read(stream, 20)) == [f"9-{number}" for number in range(20)]
    stream.cancel()
    assert list(site.simulator.record.sign_outs) == []
    await site.goes_on()
