"""What the adapter says that an inspector does, beside what the simulated gateway knows."""

from __future__ import annotations

import asyncio
import re
import time

from grpc import StatusCode

from qc_adapter.simulator import Fault
from qc_adapter.v1 import quality_control_pb2 as qc
from qc_adapter.v1 import sessions_pb2
from tests.support.watching import until

FINE = StatusCode.OK


async def told(site, agent_id="101"):
    """What Get says: the state by its name, since when, and the inspected agent."""
    [reply] = (await site.ending(site.get(agent_id))).updates
    session = reply.session
    name = sessions_pb2.InspectorState.Name(session.inspector_state).removeprefix("INSPECTOR_STATE_")
    return name, session.inspector_state_since.ToNanoseconds() / 1e9, session.inspected_work_no


async def becomes(site, state, work_no="", agent_id="101"):
    """Wait until Get and the gateway say that state; returns since when."""
    async with asyncio.timeout(10):
        while (found := await told(site, agent_id))[::2] != (state, work_no):  # noqa: ASYNC110 - it is asked for
            await asyncio.sleep(0.005)
    known = site.simulator.state_of(agent_id)
    assert state in (known, "AWAY", "UNSPECIFIED"), known
    return found[1]


async def command(site, rpc, work_no="292", *, agent_id="101", **more):
    """Run a command to its end."""
    request = getattr(qc, f"{rpc}Request")(agent_id=agent_id, work_no=work_no, **more)
    return await site.ending(getattr(site.commands, rpc)(request, timeout=20))


async def does(site, rpc, work_no="292", **more):
    """Run a command that has to work."""
    ended = await command(site, rpc, work_no, **more)
    assert ended.code is FINE, ended


async def test_every_way_through_the_states_is_told(site):
    """Listen, insert, whisper, intercept, stop, hang up: Get says what the gateway knows, since when and of whom."""
    begun = time.time()
    since = await becomes(site, "IDLE")
    for rpc, state, stop in (
        ("Listen", "LISTENING", "StopInspecting"),
        ("Insert", "INSERTED", "StopInspecting"),
        ("Whisper", "WHISPERING", "StopWhispering"),
    ):
        call_id = site.simulator.start_call("292")
        await does(site, rpc)
        later = await becomes(site, state, "292")
        assert begun - 5 < since < later <= time.time()
        await does(site, stop)
        since = await becomes(site, "IDLE")
        await does(site, rpc)
        await does(site, "Intercept")
        later = await becomes(site, "INTERCEPTED", "292")
        site.simulator.end_call(call_id)
        since = await becomes(site, "IDLE")
        assert since > later
    [listed] = (await site.sessions.List(sessions_pb2.ListRequest(), timeout=20)).sessions
    assert listed.inspector_state == sessions_pb2.INSPECTOR_STATE_IDLE
    assert listed.inspector_state_since.ToNanoseconds() / 1e9 == since


async def test_a_changed_mode_is_told_from_its_receipt_on(site):
    """Switching and toggling bring the inspector no event: the receipt changes the state, and since when."""
    site.simulator.start_call("292")
    await does(site, "Listen")
    since = await becomes(site, "LISTENING", "292")
    for rpc, more, state in (
        ("ToggleListenInsert", {}, "INSERTED"),
        ("SwitchMode", {"mode": qc.MODE_WHISPER}, "WHISPERING"),
        ("SwitchMode", {"mode": qc.MODE_LISTEN}, "LISTENING"),
    ):
        await does(site, rpc, **more)
        before, since = since, await becomes(site, state, "292")
        assert since > before
    await site.ending(site.sign_in("102"))
    await does(site, "ForceBusy", "101", agent_id="102")
    await does(site, "ForceIdle", "101", agent_id="102")
    assert await becomes(site, "LISTENING", "292") == since  # that was about the time after the call
    await does(site, "Intercept")
    assert await becomes(site, "INTERCEPTED", "292") > since


async def test_a_phone_that_is_not_answered_and_a_call_that_ends(open_site):
    """Seized until the phone is picked up, idle again when it is not, and when the inspected call ends."""
    site = await open_site(gateway={"answer_timeout_seconds": 0.2})
    await site.ending(site.sign_in())
    site.simulator.set_agent("101", phone_answered=False)
    call_id = site.simulator.start_call("292")
    options = qc.CommandOptions(follow=qc.FOLLOW_NONE)
    await does(site, "Listen", options=options)
    await becomes(site, "SEIZED", "292")
    await becomes(site, "IDLE")
    site.simulator.set_agent("101", phone_answered=True, phone_connected=True)
    await does(site, "Listen")
    await becomes(site, "LISTENING", "292")
    site.simulator.end_call(call_id)
    await becomes(site, "IDLE")


async def test_away_and_calls_of_its_own(site):
    """Forced busy, resting, and on a call of its own, an inspector is away; idle again when that is over."""
    await site.ending(site.sign_in("102"))
    await does(site, "ForceBusy", "101", agent_id="102")
    await becomes(site, "AWAY")
    await does(site, "ForceIdle", "101", agent_id="102")
    await becomes(site, "IDLE")
    for event_type in ("AgentState_Force_SetNotReady", "AgentState_SetRest_Success", "AgentState_Work"):
        site.simulator.inject("101", {"eventType": event_type, "workNo": "101", "content": None})
        await becomes(site, "AWAY")
        site.simulator.inject("101", {"eventType": "AgentState_Ready", "workNo": "101", "content": None})
        await becomes(site, "IDLE")
    site.simulator.start_call("292")
    call_id = site.simulator.start_call("101")
    await becomes(site, "AWAY")
    ended = await command(site, "Listen")
    assert ended.metadata["inspector_state"] == "away"
    assert "make it idle first" in ended.message
    site.simulator.end_call(call_id)
    await becomes(site, "IDLE")


async def test_a_refusal_says_what_is_missing(site):
    """Each command that comes at the wrong time is told the state that the adapter saw, and what to do first."""
    site.simulator.start_call("292")
    site.simulator.start_call("293")
    await becomes(site, "IDLE")
    idle = ("idle", None, "idle since", "listen, insert or whisper first")
    expected = dict.fromkeys(("Intercept", "StopInspecting", "StopWhispering"), idle)
    await assert_refused(site, expected)
    await does(site, "Listen")
    await becomes(site, "LISTENING", "292")
    listening = ("listening", "292", "listening to 292 since")
    expected = dict.fromkeys(("Listen", "Insert", "Whisper"), (*listening, "stop inspecting first"))
    await assert_refused(site, expected | {"StopWhispering": (*listening, "stop inspecting instead")})
    await assert_refused(site, {"Intercept": (*listening, "name agent 292, or stop that inspection first")}, "293")
    await does(site, "Intercept")
    await becomes(site, "INTERCEPTED", "292")
    talking = ("intercepted", "292", "talking with the customer of 292 since")
    await assert_refused(site, {"Listen": (*talking, "end its call first")}, "293")


async def assert_refused(site, expected, work_no="292"):
    for rpc, (state, inspected, does_what, missing) in expected.items():
        ended = await command(site, rpc, work_no)
        assert ended.reason == "WRONG_INSPECTION_STATE", rpc
        seen = {name: value for name, value in ended.metadata.items() if name.startswith("inspect")}
        assert seen == {"inspector_state": state} | ({"inspected_work_no": inspected} if inspected else {})
        assert f"The adapter saw inspector 101 {does_what}" in ended.message
        assert ended.message.endswith(f": {missing}.")


async def test_a_refusal_says_nothing_where_nothing_is_known(open_site):
    """Without events no state is guessed, from receipts alone neither."""
    site = await open_site(QC_CONFIRM_WITHIN_SECONDS="0.1")
    guid = site.simulator.sign_in("101")
    adopt = sessions_pb2.AdoptRequest(agent_id="101", guid=guid, event_source=sessions_pb2.EVENT_SOURCE_NONE)
    await site.ending(site.sessions.Adopt(adopt, timeout=20))
    site.secrets.add(guid)
    site.simulator.start_call("292")
    await does(site, "Listen")
    assert await told(site) == ("UNSPECIFIED", 0.0, "")
    ended = await command(site, "Listen")
    assert (ended.reason, "inspector_state" in ended.metadata) == ("WRONG_INSPECTION_STATE", False)
    assert "saw inspector" not in ended.message


async def test_an_unknown_outcome_that_events_confirm_counts(site):
    """A listen whose reply got lost is followed like one with a receipt, once its events have proven it."""
    site.simulator.start_call("292")
    site.simulator.add_fault(Fault("reset_after", operation="addSupervise"))
    await does(site, "Listen")
    await becomes(site, "LISTENING", "292")


async def test_an_unknown_change_of_mode_leaves_the_mode_unknown(site):
    """Nobody can say whether it was done, until the next change says what the mode is."""
    site.simulator.start_call("292")
    await does(site, "Listen")
    await becomes(site, "LISTENING", "292")
    site.simulator.add_fault(Fault("reset_after", operation="switchSuperviseOrInsert"))
    options = qc.CommandOptions()
    options.confirm_within.FromMilliseconds(50)
    assert (await command(site, "ToggleListenInsert", options=options)).reason == "OUTCOME_UNKNOWN"
    await becomes(site, "UNSPECIFIED", "292")
    await does(site, "SwitchMode", mode=qc.MODE_LISTEN)
    await becomes(site, "LISTENING", "292")


async def test_the_metric_counts_each_session_once(site):
    """A session is counted under what is wrong with it, and else under what its inspector does."""
    site.simulator.start_call("292")

    async def counted(state):
        await until(lambda: +site.adapter.readers.counts() == {("default", state): 1}, state)

    await counted("idle")
    await does(site, "Listen")
    await counted("listening")
    site.simulator.add_fault(Fault("retcode", operation="getAgentEvent", code="000-004", times=1000))
    await counted("degraded")
    site.simulator.clear_faults()
    await counted("listening")
    async with asyncio.timeout(10):
        while 'state="listening"} 1.0' not in (page := await site.page("/metrics")):  # noqa: ASYNC110 - asked for
            await asyncio.sleep(0.02)
    assert sum(float(count) for count in re.findall(r"^qc_sessions\{.*\} (.*)$", page, re.MULTILINE)) == 1.0


async def test_a_watch_says_at_once_how_the_session_is(open_site):
    """While the gateway switches over the session is degraded: a bookmark says so at once, and when it is over."""
    site = await open_site(QC_BOOKMARK_SECONDS="10")
    await site.ending(site.sign_in())
    await becomes(site, "IDLE")
    stream = site.watch()
    assert (await stream.read()).HasField("subscribed")
    site.simulator.add_fault(Fault("retcode", operation="getAgentEvent", code="000-004", times=1000))
    message = await stream.read()
    assert message.bookmark.session_state == sessions_pb2.SESSION_STATE_DEGRADED
    assert "000-004" in message.bookmark.detail
    late = site.watch()
    assert (await late.read()).HasField("subscribed")
    assert (await late.read()).bookmark == message.bookmark
    late.cancel()
    site.simulator.clear_faults()
    message = await stream.read()
    assert message.bookmark.session_state == sessions_pb2.SESSION_STATE_ACTIVE
    assert message.bookmark.detail == ""
    stream.cancel()


async def test_an_inspector_that_was_signed_out_is_told_so(site):
    """Who lost the sign-in is signed out, whatever was under way; after a new sign-in nothing of it is left."""
    await site.listening()
    await becomes(site, "LISTENING", "292")
    site.simulator.sign_out("101")
    await becomes(site, "SIGNED_OUT")
    await site.ending(site.sign_in())
    await becomes(site, "IDLE")
