"""Commands whose effects only the inspected agent hears of: its log proves them, where somebody reads it."""

import pytest

from qc_adapter.commands.model import Command, Follow
from qc_adapter.events.model import AgentEvent, Details
from qc_adapter.gateway import requests
from qc_adapter.gateway.requests import Mode
from qc_adapter.model.errors import GatewayRefused, NotSignedIn, OutcomeUnknown, SessionLost
from qc_adapter.model.session import EventSource, Secret, Session

BE_QC_START, READY, PHONE_RELEASE = "AgentOther_BeQcStart", "AgentState_Ready", "AgentOther_PhoneRelease"
TALKING, CALL_RELEASE = "AgentEvent_Talking", "AgentEvent_Call_Release"
FORCE_BUSY = requests.force_busy("101", "292")
FORCE_SIGN_OUT = requests.force_sign_out("101", "292")


def command(request, **changes):
    return Command("101", "292", request, **{"confirm_within_seconds": 300.0} | changes)


def begun(qc_type, qc_agent_id):
    """The agent is told of an inspection."""
    fields = {"ended": False, "qc_type": qc_type} | ({"qc_agent_id": qc_agent_id} if qc_agent_id else {})
    return AgentEvent(BE_QC_START, "292", None, None, 0.0, details=Details("qc", fields))


@pytest.fixture
async def agent(desk):
    """The log of agent 292, who is signed in here."""
    await desk.store.put(Session("292", Secret("of-292")))
    return desk.hub.feed("292")


async def accepted(desk, made):
    caller = desk.follow(made)
    trip = await desk.gate.arrived()
    trip.go()
    trip.accept()
    await caller.until(1)
    return caller


@pytest.mark.parametrize("qc_agent_id", ["101", "292", ""])
async def test_a_change_of_mode_is_proven_by_the_mode_that_was_asked_for(desk, agent, qc_agent_id):
    """Neither another mode nor another inspector is a proof; the pages differ on whose id the event carries."""
    caller = await accepted(desk, command(requests.switch_mode("101", "292", Mode.WHISPER)))
    agent.append(begun("9", "101"))
    agent.append(begun("20172", "117"))
    assert desk.outcomes == []
    proof = agent.append(begun("20173", qc_agent_id))
    updates = await caller.end()
    assert caller.kinds == ["accepted", "outcome"]
    assert (updates[-1].verdict.confirmed, updates[-1].verdict.proof) == (True, proof)
    assert updates[-1].verdict.missing == ()


async def test_what_the_agent_was_told_before_the_sending_proves_nothing(desk, agent):
    """The agent's log counts from the moment at which the request goes out."""
    caller = desk.follow(command(FORCE_BUSY, confirm_within_seconds=0.02))
    trip = await desk.gate.arrived()
    forced = AgentEvent("AgentState_Force_SetNotReady", "292", None, None, 0.0)
    agent.append(forced)
    trip.go()
    trip.accept()
    assert (await caller.end())[-1].verdict.confirmed is False
    again = desk.follow(command(FORCE_BUSY))
    trip = await desk.gate.arrived()
    trip.go()
    agent.append(forced)  # before the reply
    trip.accept()
    assert (await again.end())[-1].verdict.confirmed is True


async def test_a_changed_mode_is_followed_to_the_inspectors_release(desk, agent):
    """After the proof the stream goes on with the inspector's events; the agent's end no stream of the inspector."""
    caller = await accepted(
        desk, command(requests.switch_mode("101", "292", Mode.INSERT), follow=Follow.UNTIL_RELEASED)
    )
    agent.append(begun("9", "101"))
    await caller.until(2)
    agent.append(AgentEvent(READY, "292", None, None, 0.0))
    desk.tell("AgentEvent_Hold")
    await caller.until(3)
    desk.tell(PHONE_RELEASE)
    await caller.end()
    assert caller.kinds == ["accepted", "outcome", "AgentEvent_Hold", PHONE_RELEASE]


async def test_a_forced_state_has_no_call_to_follow(desk, agent):
    """The inspector takes no part in a call by it: the stream ends with the outcome."""
    caller = await accepted(desk, command(requests.force_idle("101", "292"), follow=Follow.UNTIL_RELEASED))
    agent.append(AgentEvent(READY, "292", None, None, 0.0))
    await caller.end()
    assert caller.kinds == ["accepted", "outcome"]


@pytest.mark.parametrize(("why", "confirmed"), [(SessionLost("292", "100-006"), True), (NotSignedIn("292"), False)])
async def test_a_session_that_the_gateway_ended_proves_a_sign_out(desk, agent, why, confirmed):
    """A session that was only deleted here says nothing of the gateway."""
    caller = await accepted(desk, command(FORCE_SIGN_OUT, confirm_within_seconds=0.02))
    agent.end(why)
    verdict = (await caller.end())[-1].verdict
    assert (verdict.confirmed, verdict.proof) == (confirmed, None)


async def test_who_was_signed_out_by_force_is_not_signed_in_again(desk, agent):
    """What is kept for that is dropped when the gateway has taken the command, and not before."""
    caller = desk.follow(command(FORCE_SIGN_OUT))
    trip = await desk.gate.arrived()
    trip.go()
    trip.refuse("900-003")
    with pytest.raises(GatewayRefused):
        await caller.end()
    assert desk.kept == []
    await accepted(desk, command(FORCE_SIGN_OUT))
    assert desk.kept == [("dismiss", "292")]


async def test_a_session_that_is_recovering_proves_nothing(desk, agent):
    """Nobody reads its events now, so the outcome has no state, and nobody waits for one."""
    await desk.store.put(Session("292", Secret("of-292"), recovering=True))
    caller = await accepted(desk, command(FORCE_BUSY))
    assert (await caller.end())[-1].verdict.confirmed is None


async def test_the_end_of_a_session_proves_no_other_command(desk, agent):
    """An agent that is gone need not have become busy."""
    caller = await accepted(desk, command(FORCE_BUSY, confirm_within_seconds=0.02))
    agent.end(SessionLost("292", "100-006"))
    assert (await caller.end())[-1].verdict.confirmed is False


async def test_a_log_that_nobody_fills_proves_nothing(desk, agent):
    """No session, one that others read, one that was lost, one that cannot be read: the outcome is open at once."""
    await desk.store.put(Session("292", Secret("of-292"), EventSource.NONE))
    open_ones = [await accepted(desk, command(FORCE_BUSY))]
    await desk.store.put(Session("292", Secret("of-292")))
    agent.end(SessionLost("292", "100-006"))
    open_ones.append(await accepted(desk, command(FORCE_BUSY)))
    await desk.store.remove("292")
    open_ones.append(await accepted(desk, command(FORCE_BUSY)))
    desk.unreadable.add("292")
    open_ones.append(await accepted(desk, command(FORCE_BUSY)))
    assert [(await caller.end())[-1].verdict.confirmed for caller in open_ones] == [None] * 4
    assert desk.outcomes == [("forceBusy", "accepted")] * 4


async def test_the_agent_is_one_of_the_inspectors_gateway(desk):
    """Agent 292 of another gateway is somebody else; how the agent's events come makes no difference."""
    made = Command("north/101", "292", requests.force_busy("north/101", "292"), confirm_within_seconds=300.0)
    for agent_id in ("north/101", "292", "north/292"):
        await desk.store.put(Session(agent_id, Secret(f"of-{agent_id}"), EventSource.PUSH))
    caller = await accepted(desk, made)
    for agent_id in ("292", "north/292"):
        assert desk.outcomes == []
        desk.hub.feed(agent_id).append(AgentEvent("AgentState_Force_SetNotReady", "292", None, None, 0.0))
    assert (await caller.end())[-1].verdict.confirmed is True


async def test_a_lost_reply_is_the_agents_to_settle(desk, agent):
    """With the agent's log it is waited for; without it the outcome is unknown at once."""
    caller = desk.follow(command(FORCE_BUSY))
    trip = await desk.gate.arrived()
    trip.go()
    trip.lose()
    agent.append(AgentEvent("AgentState_Force_SetNotReady", "292", None, None, 0.0))
    assert (await caller.end())[-1].verdict.confirmed is True
    await desk.store.remove("292")
    unseen = desk.follow(command(FORCE_BUSY))
    trip = await desk.gate.arrived()
    trip.go()
    trip.lose()
    with pytest.raises(OutcomeUnknown):
        await unseen.end()


async def test_a_settled_command_leaves_the_agents_log_alone(desk, agent):
    """Proven, refused or never sent: nothing listens any more."""
    proven = await accepted(desk, command(FORCE_SIGN_OUT))
    agent.append(AgentEvent("AgentOther_ShutdownService", "292", None, None, 0.0))
    await proven.end()
    refused = desk.follow(command(FORCE_SIGN_OUT))
    trip = await desk.gate.arrived()
    trip.go()
    trip.refuse("900-004")
    left = desk.follow(command(FORCE_SIGN_OUT))
    await desk.gate.arrived()
    await refused.leave()
    await left.leave()
    await desk.runner.stop(0)
    assert not agent.listeners
    assert not agent.endings


@pytest.mark.parametrize(("event_type", "call_id"), [(CALL_RELEASE, "7-1"), (PHONE_RELEASE, "")])
async def test_a_dropped_call_of_the_inspector_is_proven_by_its_release(desk, event_type, call_id):
    """The release of another call is no proof; of a call that is not the inspector's no event is waited for."""
    desk.tell(TALKING, call_id="7-1")
    desk.tell(TALKING, call_id="7-2")
    caller = await accepted(desk, command(requests.force_drop_call("101", "7-1")))
    desk.release("7-2")
    await caller.until(2)
    assert desk.outcomes == []
    if event_type == CALL_RELEASE:
        desk.release("7-1")
    else:
        desk.tell(event_type)
    verdict = (await caller.end())[-1].verdict
    assert (verdict.confirmed, verdict.call_id, verdict.proof) == (True, call_id, None)
    elsewhere = await accepted(desk, command(requests.force_drop_call("101", "9-9")))
    assert (await elsewhere.end())[-1].verdict.confirmed is None
