"""Every operation of the contract through its rpc: from the request to its effect at the gateway and its proof."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from google.protobuf.duration_pb2 import Duration
from grpc import StatusCode

from qc_adapter.gateway import operations
from qc_adapter.simulator import Fault
from qc_adapter.v1 import quality_control_pb2 as qc
from qc_adapter.v1 import sessions_pb2

BE_QC_START = "AgentOther_BeQcStart"
REST = {"duration": Duration(seconds=600), "cause": 7}
AT_TARGET = ["SwitchMode", "ToggleListenInsert", "ForceBusy", "ForceIdle", "ForceSignOut", "ForceRest"]


@dataclass(frozen=True)
class Case:
    """
    How an operation is tried: what happens before, and what is true afterwards.

    `call` says that agent 292 talks with a customer; {call_id} in a field stands for that call.
    """

    effect: object
    before: tuple = ()
    call: bool = True
    fields: dict = field(default_factory=dict)
    outcome: str = "CONFIRMED"
    proof: str | None = None


def _inspecting(state):
    return lambda simulator: simulator.state_of("101") == state


def _agent(**wanted):
    return lambda simulator: wanted.items() <= simulator.state()["agents"]["292"].items()


CASES = {
    operations.INTERCEPT: Case(_inspecting("INTERCEPTED"), before=("Listen",)),
    operations.INTERCEPT_CALL: Case(_inspecting("INTERCEPTED"), before=("Whisper",), fields={"call_id": "{call_id}"}),
    operations.LISTEN: Case(_inspecting("LISTENING")),
    operations.INSERT: Case(_inspecting("INSERTED")),
    operations.STOP_INSPECTING: Case(_inspecting("IDLE"), before=("Insert",)),
    operations.WHISPER: Case(_inspecting("WHISPERING")),
    operations.STOP_WHISPERING: Case(_inspecting("IDLE"), before=("Whisper",)),
    operations.SWITCH_MODE: Case(
        _inspecting("WHISPERING"), before=("Listen",), fields={"mode": qc.MODE_WHISPER}, proof=BE_QC_START
    ),
    operations.TOGGLE_LISTEN_INSERT: Case(_inspecting("INSERTED"), before=("Listen",), proof=BE_QC_START),
    operations.FORCE_BUSY: Case(_agent(posture="busy"), call=False, proof="AgentState_Force_SetNotReady"),
    operations.FORCE_IDLE: Case(
        _agent(posture="idle"), before=("ForceBusy",), call=False, proof="AgentState_Force_Ready"
    ),
    operations.FORCE_REST: Case(_agent(posture="rest"), call=False, fields=REST, proof="AgentState_SetRest_Success"),
    operations.FORCE_SIGN_OUT_AGENT: Case(_agent(signed_in=False), call=False, proof="AgentOther_ShutdownService"),
    operations.FORCE_DROP_CALL: Case(
        lambda simulator: simulator.state()["calls"] == [],
        before=("Listen", "Intercept"),
        fields={"call_id": "{call_id}", "work_no": None},
    ),
    operations.ADJUST_SKILLS: Case(
        _agent(skills=(10, 25)), call=False, fields={"skill_ids": [10, 25]}, outcome="STATE_UNSPECIFIED"
    ),
    operations.MONITOR: Case(
        lambda simulator: simulator.watched_by("101") == ("292", "293"),
        call=False,
        fields={"work_no": None, "work_nos": ["292", "293"]},
        outcome="STATE_UNSPECIFIED",
    ),
    operations.STOP_MONITORING: Case(
        lambda simulator: simulator.watched_by("101") == ("292",),
        before=("Monitor",),
        call=False,
        fields={"work_no": None, "work_nos": ["293", "294"]},
        outcome="STATE_UNSPECIFIED",
    ),
}


def ask(site, rpc, **fields):
    """Begin a command of inspector 101 about agent 292."""
    given = {"agent_id": "101", "work_no": "292"} | fields
    request = getattr(qc, f"{rpc}Request")(**{name: value for name, value in given.items() if value is not None})
    return getattr(site.commands, rpc)(request, timeout=20)


def options(seconds=None, **more):
    """Options of a command; `seconds` is how long it may take to be confirmed."""
    made = qc.CommandOptions(**more)
    if seconds is not None:
        made.confirm_within.FromMilliseconds(int(seconds * 1000))
    return made


@pytest.fixture
async def pair(site):
    """The site with agent 292 signed in through the adapter too."""
    assert (await site.ending(site.sign_in("292"))).code is StatusCode.OK
    await site.held_poll("292")
    return site


@pytest.mark.parametrize("operation", operations.INSPECTIONS, ids=lambda one: one.path.partition("}/")[2])
async def test_an_operation_works_from_the_request_to_its_effect(pair, until, operation):
    """One request of the contract's form, its effect, its outcome with its proof, its name in the log and metrics."""
    case = CASES[operation]
    call_id = pair.simulator.start_call("292") if case.call else ""
    for rpc in case.before:
        group = {"work_no": None, "work_nos": ["292", "293"]} if rpc == "Monitor" else {}
        assert (await pair.ending(ask(pair, rpc, **group))).code is StatusCode.OK
    await until(lambda: pair.simulator.state_of("101") != "SEIZED")
    fields = {name: call_id if value == "{call_id}" else value for name, value in case.fields.items()}
    ended = await pair.ending(ask(pair, operation.rpc, **fields))
    assert (ended.code, ended.kinds[0], ended.outcome) == (StatusCode.OK, "accepted", case.outcome), ended
    assert ended.updates[0].accepted.method == operation.method
    outcome = ended.updates[-1].outcome
    assert outcome.HasField("proof") == (case.proof is not None)
    if case.proof is not None:
        assert (outcome.proof.event_type, outcome.proof.work_no) == (case.proof, "292")
    await until(lambda: case.effect(pair.simulator))
    [sent] = pair.simulator.requests(operation.method)
    assert (sent.verb, sent.retcode) == (operation.verb, "0")
    line = pair.calls[-1]
    label = {"STATE_UNSPECIFIED": "accepted"}.get(case.outcome, case.outcome.lower())
    assert (line["method"], line["rpc"], line["outcome"]) == (operation.method, operation.rpc, label)
    sample = f'qc_command_outcomes_total{{gateway="default",method="{operation.method}",outcome="{label}"}} 1.0'
    assert sample in await pair.page("/metrics")


async def test_the_proof_can_be_found_in_the_log_of_the_agent(pair):
    """The cursor of the proof is one of the agent's log, and the inspector's stream has nothing of the agent."""
    ended = await pair.ending(ask(pair, "ForceBusy"))
    assert ended.kinds == ["accepted", "outcome"]
    proof = ended.updates[-1].outcome.proof
    stream = pair.watch("292", "oldest")
    while not (message := await stream.read()).HasField("event") or message.cursor != proof.cursor:
        pass
    assert message.event == proof
    stream.cancel()


@pytest.mark.parametrize("source", ["no session", "NONE"])
async def test_effects_that_nobody_sees_leave_the_outcome_open(site, source):
    """Without events of the agent an accepted command ends at once, without a state and without a proof."""
    guid = site.simulator.sign_in("292")
    if source == "NONE":
        adopt = sessions_pb2.AdoptRequest(agent_id="292", guid=guid, event_source=sessions_pb2.EVENT_SOURCE_NONE)
        assert (await site.ending(site.sessions.Adopt(adopt, timeout=20))).code is StatusCode.OK
    site.simulator.start_call("292")
    await site.ending(ask(site, "Listen"))
    for rpc, fields in (
        ("SwitchMode", {"mode": qc.MODE_INSERT}),
        ("ToggleListenInsert", {}),
        ("ForceRest", REST),
        ("ForceIdle", {}),
        ("ForceBusy", {}),
        ("ForceSignOut", {}),
    ):
        ended = await site.ending(ask(site, rpc, **fields, options=options(follow=qc.FOLLOW_UNTIL_RELEASED)))
        assert (ended.code, ended.outcome) == (StatusCode.OK, "STATE_UNSPECIFIED"), rpc
        assert ended.updates[-1].outcome == qc.CommandOutcome()


async def test_a_call_of_somebody_else_is_dropped_unseen(pair, until):
    """The inspector's log tells nothing of a call that is not its own: accepted, and no state."""
    call_id = pair.simulator.start_call("292")
    ended = await pair.ending(ask(pair, "ForceDropCall", work_no=None, call_id=call_id))
    assert (ended.code, ended.kinds, ended.outcome) == (StatusCode.OK, ["accepted", "outcome"], "STATE_UNSPECIFIED")
    await until(lambda: pair.simulator.state()["calls"] == [])


async def test_what_the_agent_is_not_told_is_unconfirmed(pair):
    """The agent's log is followed and brings no proof: UNCONFIRMED, with what would have been one."""
    pair.simulator.add_fault(Fault("lose_event", agent_id="292", times=-1))
    for rpc, fields, missing in (
        ("ForceBusy", {}, ["AgentState_Force_SetNotReady", "AgentState_SetNotReady_Success"]),
        ("ForceRest", REST, ["AgentState_SetRest_Success"]),
    ):
        ended = await pair.ending(ask(pair, rpc, **fields, options=options(0.1)))
        assert (ended.code, ended.outcome) == (StatusCode.OK, "UNCONFIRMED")
        assert list(ended.updates[-1].outcome.missing_event_types) == missing


async def test_the_newer_names_of_a_forced_state_prove_it_too(open_site, until):
    """A gateway of a newer edition says busy with reason 3; the agent's own busy is no proof."""
    site = await open_site(gateway={"forced_state_events": "success"})
    for agent_id in ("101", "292"):
        assert (await site.ending(site.sign_in(agent_id))).code is StatusCode.OK
    own = {"eventType": "AgentState_SetNotReady_Success", "workNo": "292", "content": {"reason": "1"}}
    site.simulator.add_fault(Fault("lose_event", agent_id="292", event_type="AgentState_SetNotReady_Success"))
    stream = ask(site, "ForceBusy", options=options(0.2))
    assert (await stream.read()).HasField("accepted")
    await until(lambda: site.simulator.record.lost_by_fault["292"] == 1)
    site.simulator.inject("292", own)
    assert (await site.ending(stream)).outcome == "UNCONFIRMED"
    ended = await site.ending(ask(site, "ForceBusy"))
    assert (ended.outcome, ended.updates[-1].outcome.proof.state.reason) == ("CONFIRMED", "3")


async def test_the_end_of_the_agents_session_proves_its_sign_out(open_site):
    """An agent that is out can often fetch no event any more: the refusal of its next poll is the proof."""
    site = await open_site(gateway={"shutdown_event_to_held_poll": False})
    for agent_id in ("101", "292"):
        assert (await site.ending(site.sign_in(agent_id))).code is StatusCode.OK
    await site.held_poll("292")
    ended = await site.ending(ask(site, "ForceSignOut"))
    assert (ended.code, ended.outcome) == (StatusCode.OK, "CONFIRMED")
    assert not ended.updates[-1].outcome.HasField("proof")
    again = await site.ending(ask(site, "ForceSignOut"))
    assert (again.code, again.reason) == (StatusCode.NOT_FOUND, "AGENT_UNKNOWN")


async def test_a_lost_reply_is_settled_by_the_agents_events(pair):
    """The reply got lost, the agent's event came: confirmed, without a receipt, and sent once."""
    pair.simulator.add_fault(Fault("reset_after", operation="forceBusy"))
    ended = await pair.ending(ask(pair, "ForceBusy"))
    assert (ended.code, ended.kinds, ended.outcome) == (StatusCode.OK, ["outcome"], "CONFIRMED")
    assert ended.updates[0].outcome.proof.event_type == "AgentState_Force_SetNotReady"
    assert len(pair.simulator.requests("forceBusy")) == 1


async def test_a_lost_reply_that_no_event_settles_is_unknown(site):
    """Where the agent's events are not read, and where none is documented, it stays OUTCOME_UNKNOWN."""
    site.simulator.set_agent("292", on_duty=True)
    for rpc, operation, fields in (
        ("ForceBusy", "forceBusy", {}),
        ("AdjustSkills", "adjustSkill", {"skill_ids": [10]}),
        ("ToggleListenInsert", "switchSuperviseOrInsert", {}),
    ):
        site.simulator.add_fault(Fault("reset_before", operation=operation))
        ended = await site.ending(ask(site, rpc, **fields))
        assert (ended.code, ended.reason, ended.retry) == (StatusCode.UNKNOWN, "OUTCOME_UNKNOWN", False)
        assert len(site.simulator.requests(operation)) == 1


async def test_a_repetition_joins_the_command_and_its_proof(pair):
    """The same request id brings the same updates, proof and all; with another length of the rest it is refused."""
    first, again = [
        await pair.ending(ask(pair, "ForceRest", **REST, options=options(request_id="one"))) for _ in range(2)
    ]
    assert first == again
    assert first.updates[-1].outcome.proof.event_type == "AgentState_SetRest_Success"
    other = REST | {"cause": 8}
    refused = await pair.ending(ask(pair, "ForceRest", **other, options=options(request_id="one")))
    assert (refused.code, refused.reason) == (StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
    assert len(pair.simulator.requests("forceRest")) == 1


async def test_a_toggle_is_never_sent_twice(open_site):
    """A GUID that rotates under it costs other commands a second request; a toggle and a dropped call never."""
    site = await open_site(gateway={"guid_grace_override_seconds": 0.0})
    for agent_id in ("101", "292"):
        assert (await site.ending(site.sign_in(agent_id))).code is StatusCode.OK
    call_id = await site.listening()
    for rpc, method, fields, sent in (
        ("SwitchMode", "requestSwitchInsertWhisperAgent", {"mode": qc.MODE_INSERT}, ["000-003", "0"]),
        ("ToggleListenInsert", "switchSuperviseOrInsert", {}, ["000-003"]),
        ("ForceDropCall", "forceDropCall", {"work_no": None, "call_id": call_id}, ["000-003"]),
    ):
        await site.held_poll()
        site.simulator.add_fault(Fault("rotate_now", operation=method))
        ended = await site.ending(ask(site, rpc, **fields))
        assert [entry.retcode for entry in site.simulator.requests(method)] == sent
        if sent[-1] == "0":
            assert ended.outcome == "CONFIRMED"
        else:
            assert (ended.reason, ended.metadata["retcode"]) == ("INSPECTOR_SESSION_LOST", "000-003")
    assert site.simulator.state_of("101") == "INSERTED"
    ended = await site.ending(ask(site, "ToggleListenInsert"))  # the caller's own decision
    assert (ended.outcome, site.simulator.state_of("101")) == ("CONFIRMED", "LISTENING")


FIELDS = {
    "SwitchMode": {"mode": qc.MODE_LISTEN},
    "ToggleListenInsert": {},
    "ForceBusy": {},
    "ForceIdle": {},
    "ForceSignOut": {},
    "ForceRest": REST,
    "AdjustSkills": {"skill_ids": [1]},
    "ForceDropCall": {"work_no": None, "call_id": "1-1"},
}


async def test_refusals_have_their_answers(site, until):
    """No right, an unknown agent, a wrong state and the inspector itself: for every operation that has them."""
    site.simulator.set_agent("101", inspector=False)
    for rpc, fields in FIELDS.items():
        ended = await site.ending(ask(site, rpc, **fields))
        assert (ended.code, ended.reason) == (StatusCode.PERMISSION_DENIED, "NO_INSPECTION_RIGHT"), rpc
        assert ended.metadata["retcode"] == "900-002"
    site.simulator.set_agent("101", inspector=True)
    for rpc in FIELDS.keys() - {"ForceDropCall"}:
        ended = await site.ending(ask(site, rpc, **FIELDS[rpc]))
        assert (ended.code, ended.reason) == (StatusCode.NOT_FOUND, "AGENT_UNKNOWN"), rpc
        assert ended.metadata["retcode"] == "900-004"
        itself = await site.ending(ask(site, rpc, **FIELDS[rpc] | {"work_no": "101"}))
        assert (itself.reason, itself.fields) == ("SELF_INSPECTION", ("work_no",))
    site.simulator.start_call("292")
    for rpc, retcode in (("SwitchMode", "900-005"), ("ToggleListenInsert", "900-005")):
        ended = await site.ending(ask(site, rpc, **FIELDS[rpc]))
        assert (ended.code, ended.reason) == (StatusCode.FAILED_PRECONDITION, "WRONG_INSPECTION_STATE"), rpc
        assert ended.metadata["retcode"] == retcode
    await site.goes_on(work_no="293")


BAD = [
    ("SwitchMode", {}, ["mode"]),
    ("SwitchMode", {"mode": 7}, ["mode"]),
    ("ForceRest", {}, ["duration", "cause"]),
    ("ForceRest", {"duration": Duration(seconds=86_400), "cause": 256}, ["duration", "cause"]),
    ("ForceRest", {"duration": Duration(seconds=1, nanos=1), "cause": 1}, ["duration"]),
    ("ForceDropCall", {"work_no": None}, ["call_id"]),
    ("ForceDropCall", {"work_no": None, "call_id": "../x"}, ["call_id"]),
    ("AdjustSkills", {}, ["skill_ids"]),
    ("AdjustSkills", {"skill_ids": range(1, 1002)}, ["skill_ids"]),
    ("AdjustSkills", {"skill_ids": [0, 5, 2**31, 5]}, ["skill_ids[0]", "skill_ids[2]", "skill_ids[3]"]),
    ("Monitor", {"work_no": None}, ["work_nos"]),
    ("Monitor", {"work_no": None, "work_nos": ["292"] * 10_001}, ["work_nos"]),
    ("StopMonitoring", {"work_no": None, "work_nos": ["292", "293", "292"]}, ["work_nos[2]"]),
]


async def test_bad_values_are_refused_before_anything_is_sent(site):
    """Each value out of its range is named with its field, together with bad options, and the gateway hears nothing."""
    before = len(site.simulator.record.commands)
    for rpc, fields, named in BAD:
        ended = await site.ending(ask(site, rpc, **fields, options=options(request_id=" ")))
        assert (ended.code, ended.reason) == (StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT"), (rpc, fields)
        assert list(ended.fields) == [*named, "options.request_id"]
    all_bad = await site.ending(ask(site, "ForceRest", agent_id="1", work_no="", options=options(follow=9)))
    assert all_bad.reason == "INVALID_AGENT_ID"
    assert list(all_bad.fields) == ["agent_id", "work_no", "duration", "cause", "options.follow"]
    group = {"work_no": None, "work_nos": ["101", "x", "292"]}
    assert list((await site.ending(ask(site, "Monitor", **group))).fields) == ["work_nos[1]", "work_nos[0]"]
    itself = await site.ending(ask(site, "Monitor", work_no=None, work_nos=["292", "101"]))
    assert (itself.reason, itself.fields) == ("SELF_INSPECTION", ("work_nos[1]",))
    assert len(site.simulator.record.commands) == before
