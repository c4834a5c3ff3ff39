"""What a command did, as the events tell it: the closed loop."""

from __future__ import annotations

import asyncio

import pytest
from grpc import StatusCode

from qc_adapter.simulator import Fault
from qc_adapter.v1 import quality_control_pb2 as qc
from qc_adapter.v1 import sessions_pb2

WHOLE = ["accepted", "AgentEvent_Talking", "AgentMediaEvent_Record", "outcome"]


def assert_cursors_rise(updates):
    """Every update stands at or behind the one before."""
    places = [int(update.cursor.rsplit("-", 1)[1]) for update in updates]
    assert places == sorted(places)


async def test_an_intercept_is_confirmed_by_its_events(site):
    """Accepted, the events in their order, confirmed: with the call's id and nothing missing."""
    call_id = await site.listening()
    ended = await site.ending(site.intercept())
    assert (ended.code, ended.kinds) == (StatusCode.OK, WHOLE)
    accepted, talking, record, last = ended.updates
    assert accepted.accepted.method == "intercept"
    assert talking.event.talking.call_id == call_id == record.event.record.call_id
    assert talking.event.work_no == "101"
    assert talking.event.content.struct_value["callid"] == call_id
    assert last.outcome == qc.CommandOutcome(state=qc.CommandOutcome.CONFIRMED, call_id=call_id)
    assert_cursors_rise(ended.updates)
    assert site.puts == 1


async def test_an_intercept_of_a_named_call_is_confirmed(site):
    """With a call id the gateway is asked for that call."""
    call_id = await site.listening()
    ended = await site.ending(site.intercept(call_id=call_id))
    assert ended.kinds == WHOLE
    [sent] = site.simulator.requests("intercept")
    assert sent.path.endswith(f"/qualitycontrol/101/intercept/292/{call_id}")


async def test_events_before_the_reply_confirm_once(site):
    """The events are read before the PUT's reply: accepted still comes first, then they, then one outcome."""
    await site.listening()
    site.simulator.add_fault(Fault("delay", operation="intercept", seconds=0.4, after=True))
    ended = await site.ending(site.intercept())
    assert (ended.code, ended.kinds, ended.outcome) == (StatusCode.OK, WHOLE, "CONFIRMED")
    assert_cursors_rise(ended.updates)
    assert site.puts == 1
    assert 'qc_command_outcomes_total{gateway="default",method="intercept",outcome="confirmed"} 1.0' in await site.page(
        "/metrics"
    )
    await site.goes_on()


async def test_no_event_at_all_is_unconfirmed(site):
    """Taken by the gateway and nothing comes: UNCONFIRMED with what is missing, and no second request."""
    await site.listening()
    site.simulator.add_fault(Fault("lose_event", agent_id="101", times=-1))
    ended = await site.ending(site.intercept(confirm_within=0.2))
    assert (ended.code, ended.kinds, ended.outcome) == (StatusCode.OK, ["accepted", "outcome"], "UNCONFIRMED")
    assert list(ended.updates[-1].outcome.missing_event_types) == ["AgentEvent_Talking", "AgentMediaEvent_Record"]
    assert ended.updates[-1].outcome.call_id == ""
    assert site.puts == 1
    assert (
        'qc_command_outcomes_total{gateway="default",method="intercept",outcome="unconfirmed"} 1.0'
        in await site.page("/metrics")
    )
    await site.goes_on()


async def test_the_wait_for_events_is_a_setting(open_site):
    """Without confirm_within in the call, QC_CONFIRM_WITHIN_SECONDS counts."""
    site = await open_site(QC_CONFIRM_WITHIN_SECONDS="1")
    await site.ending(site.sign_in())
    await site.listening()
    site.simulator.add_fault(Fault("lose_event", agent_id="101", times=-1))
    assert (await site.ending(site.intercept())).outcome == "UNCONFIRMED"


async def test_an_intercept_without_recording_is_confirmed_with_what_is_missing(open_site):
    """The talk proves it; that no recording began stands in the outcome."""
    site = await open_site(gateway={"recording": False})
    await site.ending(site.sign_in())
    await site.listening()
    ended = await site.ending(site.intercept(confirm_within=0.3))
    assert (ended.outcome, ended.kinds) == ("CONFIRMED", ["accepted", "AgentEvent_Talking", "outcome"])
    assert list(ended.updates[-1].outcome.missing_event_types) == ["AgentMediaEvent_Record"]


async def test_a_recording_before_the_talk_is_no_proof(open_site):
    """The record event alone confirms nothing; the talk behind it does."""
    order = ("AgentMediaEvent_Record", "AgentEvent_Talking")
    site = await open_site(gateway={"intercept_inspector_events": order})
    await site.ending(site.sign_in())
    await site.listening()
    ended = await site.ending(site.intercept())
    assert (ended.outcome, ended.kinds) == ("CONFIRMED", ["accepted", *order, "outcome"])
    site.simulator.add_fault(Fault("lose_event", event_type="AgentEvent_Talking", agent_id="102", times=-1))
    await site.ending(site.sign_in("102"))
    await site.listening("102", "293")
    unproven = await site.ending(site.intercept("102", "293", confirm_within=0.3))
    assert (unproven.outcome, unproven.kinds) == ("UNCONFIRMED", ["accepted", "AgentMediaEvent_Record", "outcome"])


async def test_a_repeated_talk_of_a_held_call_proves_nothing(site):
    """Taking a held call back repeats AgentEvent_Talking: it is shown, and does not confirm another command."""
    call_id = await site.listening()
    assert (await site.ending(site.intercept())).outcome == "CONFIRMED"
    site.simulator.add_fault(Fault("retcode", operation="intercept", code="0"))
    site.simulator.hold_call(call_id, held=True)
    stream = site.intercept(work_no="293", confirm_within=0.5)
    assert (await stream.read()).HasField("accepted")
    site.simulator.hold_call(call_id, held=False)
    ended = await site.ending(stream)
    assert ended.outcome == "UNCONFIRMED"
    assert "AgentEvent_Talking" in ended.kinds
    await site.goes_on()


async def test_a_stream_that_does_not_follow_ends_at_the_receipt(site):
    """FOLLOW_NONE brings `accepted` only; its cursor leads a watch to the events."""
    await site.listening()
    ended = await site.ending(site.intercept(follow=qc.FOLLOW_NONE))
    assert (ended.code, ended.kinds) == (StatusCode.OK, ["accepted"])
    stream = site.watch(cursor=ended.updates[0].cursor)
    assert (await stream.read()).HasField("subscribed")
    assert (await stream.read()).event.event_type == "AgentEvent_Talking"
    assert (await stream.read()).event.event_type == "AgentMediaEvent_Record"
    stream.cancel()
    assert site.puts == 1


async def test_a_stream_until_the_release_goes_on_after_the_outcome(site):
    """FOLLOW_UNTIL_RELEASED tells the outcome, what comes after it, and ends with the inspector's part in the call."""
    call_id = await site.listening()
    stream = site.intercept(follow=qc.FOLLOW_UNTIL_RELEASED)
    updates = [await stream.read() for _ in WHOLE]
    assert updates[-1].outcome.state == qc.CommandOutcome.CONFIRMED
    site.simulator.hold_call(call_id, held=True)
    site.simulator.hold_call(call_id, held=False)
    site.simulator.end_call(call_id)
    ended = await site.ending(stream)
    assert ended.code is StatusCode.OK
    assert ended.kinds[:2] == ["AgentEvent_Hold", "AgentEvent_Talking"]
    assert ended.kinds[-1] in {"AgentOther_PhoneRelease", "AgentState_Ready", "AgentState_Work"}
    assert ended.outcome is None
    assert site.puts == 1
    await site.goes_on()


async def test_a_stream_until_the_release_ends_unconfirmed(site):
    """A command that is not confirmed in time has no call to follow: the stream ends with the outcome."""
    await site.listening()
    site.simulator.add_fault(Fault("lose_event", agent_id="101", times=-1))
    ended = await site.ending(site.intercept(follow=qc.FOLLOW_UNTIL_RELEASED, confirm_within=0.2))
    assert (ended.code, ended.kinds, ended.outcome) == (StatusCode.OK, ["accepted", "outcome"], "UNCONFIRMED")


async def test_a_session_whose_events_others_read_stays_unconfirmed(open_site, until):
    """With event source NONE commands work, nothing is polled, and nothing is confirmed."""
    site = await open_site()
    guid = site.simulator.sign_in("101")
    request = sessions_pb2.AdoptRequest(agent_id="101", guid=guid, event_source=sessions_pb2.EVENT_SOURCE_NONE)
    assert (await site.ending(site.sessions.Adopt(request, timeout=20))).code is StatusCode.OK
    site.simulator.start_call("292")
    listen = qc.ListenRequest(agent_id="101", work_no="292")
    listen.options.confirm_within.FromMilliseconds(100)
    assert (await site.ending(site.commands.Listen(listen, timeout=20))).outcome == "UNCONFIRMED"
    await until(lambda: site.simulator.state_of("101") == "LISTENING")
    assert (await site.ending(site.intercept(confirm_within=0.2))).outcome == "UNCONFIRMED"
    assert site.simulator.state_of("101") == "INTERCEPTED"
    assert site.simulator.requests("getAgentEvent") == ()


@pytest.mark.parametrize(
    ("begin", "end", "operations"),
    [
        ("Listen", "StopInspecting", ("addSupervise", "stopSuperviseOrInsert")),
        ("Insert", "StopInspecting", ("addInsert", "stopSuperviseOrInsert")),
        ("Whisper", "StopWhispering", ("requestWhisperAgent", "requestStopWhisperAgent")),
    ],
)
async def test_every_inspection_goes_the_same_way(site, until, begin, end, operations):
    """Begun, confirmed, ended, confirmed; each request went out once; a second end is a wrong state each time."""
    site.simulator.start_call("292")
    for rpc in (begin, end):
        request = getattr(qc, f"{rpc}Request")(agent_id="101", work_no="292")
        ended = await site.ending(getattr(site.commands, rpc)(request, timeout=20))
        assert (ended.code, ended.outcome, ended.kinds[0]) == (StatusCode.OK, "CONFIRMED", "accepted")
        await until(lambda: site.simulator.state_of("101") != "SEIZED")
    assert [len(site.simulator.requests(operation)) for operation in operations] == [1, 1]
    for _ in range(2):
        again = await site.ending(getattr(site.commands, end)(request, timeout=20))
        assert (again.code, again.reason) == (StatusCode.FAILED_PRECONDITION, "WRONG_INSPECTION_STATE")
    await site.goes_on()


async def test_inspectors_at_work_together_are_not_mixed_up(open_site):
    """Twelve inspectors intercept at once: each sees its own call only, and each command went out once."""
    site = await open_site()
    pairs = {str(number): str(number + 500) for number in range(201, 213)}
    signed_in = await asyncio.gather(*(site.ending(site.sign_in(agent_id)) for agent_id in pairs))
    assert {ended.code for ended in signed_in} == {StatusCode.OK}
    call_ids = await asyncio.gather(*(site.listening(agent_id, work_no) for agent_id, work_no in pairs.items()))
    endings = await asyncio.gather(*(site.ending(site.intercept(*pair)) for pair in pairs.items()))
    assert [ended.updates[-1].outcome.call_id for ended in endings] == call_ids
    for agent_id, ended in zip(pairs, endings, strict=True):
        assert ended.kinds == WHOLE
        assert {update.event.work_no for update in ended.updates if update.HasField("event")} == {agent_id}
        assert len(site.simulator.requests("intercept", agent_id)) == 1
    assert site.simulator.record.poll_overlaps() == 0
