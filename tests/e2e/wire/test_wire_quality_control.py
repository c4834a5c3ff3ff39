"""Rows A80 to A95: commands of inspection, from the gateway's bytes to what the caller is told."""

from __future__ import annotations

import asyncio
from urllib.parse import unquote

import pytest
from grpc import StatusCode

from qc_adapter.v1 import events_pb2
from qc_adapter.v1 import quality_control_pb2 as qc
from tests.support.agent_gateway import event, news, refusal
from tests.support.watches import read
from tests.support.watching import until

TALKING = event("AgentEvent_Talking", {"callid": "1-2"})
RECORD = event("AgentMediaEvent_Record", {"callId": "1-2", "recordID": "r-7"})


async def test_wire_a80_a_receipt_and_then_the_talk_confirm(site):
    """A80: accepted when the receipt comes, confirmed when the talk does, with the call's id; sent once."""
    call = site.command(confirm_within=10.0)
    assert (await call.read()).accepted.method == "intercept"
    site.gateway.tell(news(TALKING), news(RECORD))
    ended = await site.ending(call)
    assert (ended.kinds, ended.outcome) == (["AgentEvent_Talking", "AgentMediaEvent_Record", "outcome"], "CONFIRMED")
    assert ended.updates[-1].outcome.call_id == "1-2"
    assert site.gateway.commands == ["login", "intercept"]
    assert await site.sample("qc_command_outcomes_total", method="intercept", outcome="confirmed") == 1.0


async def test_wire_a81_a_receipt_alone_confirms_nothing(site):
    """A81: accepted and no event: not confirmed, with what is missing, and no second PUT."""
    ended = await site.ending(site.command())
    assert (ended.code, ended.kinds, ended.outcome) == (StatusCode.OK, ["accepted", "outcome"], "UNCONFIRMED")
    assert list(ended.updates[-1].outcome.missing_event_types) == ["AgentEvent_Talking", "AgentMediaEvent_Record"]
    assert site.gateway.commands == ["login", "intercept"]
    assert await site.sample("qc_command_outcomes_total", method="intercept", outcome="unconfirmed") == 1.0


async def test_wire_a82_the_talk_before_the_receipt_confirms_once(site):
    """A82: the talk is polled before the PUT is answered: accepted is told first, the talk once, confirmed once."""
    stream = await site.watching()
    answered = asyncio.Event()
    site.gateway.answer("intercept", (answered, site.gateway.reply()))
    call = site.command(confirm_within=10.0)
    await until(lambda: site.gateway.requests("intercept"), "the PUT")
    site.gateway.tell(news(TALKING, RECORD))
    await read(stream, 2)
    answered.set()
    ended = await site.ending(call)
    assert ended.kinds == ["accepted", "AgentEvent_Talking", "AgentMediaEvent_Record", "outcome"]
    assert ended.outcome == "CONFIRMED"
    stream.cancel()
    assert site.gateway.commands == ["login", "intercept"]
    assert await site.sample("qc_command_outcomes_total", method="intercept") == 1.0


@pytest.mark.parametrize("settled", [False, True], ids=["no event", "the talk comes"])
async def test_wire_a84_no_reply_in_time_is_unknown_unless_events_settle_it(open_wire, settled):
    """A84: no reply to the PUT: never repeated; the talk proves it, and without the talk it stays unknown."""
    site = await open_wire(QC_GATEWAY_TIMEOUT_SECONDS="0.3")
    site.gateway.answer("intercept", site.gateway.STALL)
    call = site.command()
    if settled:
        await until(lambda: site.gateway.requests("intercept"), "the PUT")
        site.gateway.tell(news(TALKING, RECORD))
    ended = await site.ending(call)
    if settled:
        assert (ended.code, ended.outcome) == (StatusCode.OK, "CONFIRMED")
        assert ended.kinds == ["AgentEvent_Talking", "AgentMediaEvent_Record", "outcome"]
    else:
        assert (ended.code, ended.reason, ended.retry) == (StatusCode.UNKNOWN, "OUTCOME_UNKNOWN", False)
    assert site.gateway.commands == ["login", "intercept"]


@pytest.mark.parametrize("rpc", ["Intercept", "Listen", "Insert", "Whisper", "StopInspecting", "StopWhispering"])
async def test_wire_a85_no_right_is_permission_denied(site, rpc):
    """A85: 900-002 is PERMISSION_DENIED for every inspection, with the gateway's words, and is not repeated."""
    operation = {"Listen": "addsupervise", "Insert": "addinsert", "Whisper": "requestwhisperagent"}.get(rpc, "")
    operation = operation or {"Intercept": "intercept", "StopInspecting": "stop"}.get(rpc, "requeststopwhisperagent")
    site.gateway.answer(operation, refusal("900-002", "no right to invite resouce"))
    ended = await site.ending(site.command(rpc))
    assert (ended.code, ended.reason, ended.retry) == (StatusCode.PERMISSION_DENIED, "NO_INSPECTION_RIGHT", False)
    assert ended.metadata["retcode"] == "900-002"
    assert "no right to invite resouce" in ended.message
    assert site.gateway.commands == ["login", operation]


@pytest.mark.parametrize("code", ["900-003", "900-005"])
async def test_wire_a86_a_wrong_state_is_a_failed_precondition(site, code):
    """A86: both codes for a wrong state are FAILED_PRECONDITION, with the code in the details."""
    site.gateway.answer("intercept", refusal(code))
    ended = await site.ending(site.command())
    assert (ended.code, ended.reason) == (StatusCode.FAILED_PRECONDITION, "WRONG_INSPECTION_STATE")
    assert ended.metadata["retcode"] == code
    assert [kind for kind, _ in ended.preconditions] == ["WRONG_INSPECTION_STATE"]
    assert ended.updates == []
    assert site.gateway.commands == ["login", "intercept"]
    assert await site.sample("qc_gateway_requests_total", method="intercept", retcode=code) == 1.0
    assert [line["retcode"] for line in site.calls if line["method"] == "intercept"] == [code]


async def test_wire_a87_an_unknown_agent_is_not_found(site):
    """A87: 900-004 is NOT_FOUND."""
    site.gateway.answer("intercept", refusal("900-004"))
    ended = await site.ending(site.command())
    assert (ended.code, ended.reason, ended.metadata["retcode"]) == (StatusCode.NOT_FOUND, "AGENT_UNKNOWN", "900-004")


async def test_wire_a88_a_stop_when_nothing_runs_is_refused_every_time(site):
    """A88: the gateway's 900-005 is a wrong state, the first time and the second; each stop goes out once."""
    site.gateway.answer("stop", *[refusal("900-005")] * 2)
    endings = [await site.ending(site.command("StopInspecting")) for _ in range(2)]
    assert {(ended.code, ended.reason) for ended in endings} == {
        (StatusCode.FAILED_PRECONDITION, "WRONG_INSPECTION_STATE")
    }
    assert site.gateway.commands == ["login", "stop", "stop"]


BARE = {
    "Intercept": ("PUT", "intercept/292"),
    "Listen": ("PUT", "addsupervise/292"),
    "Insert": ("PUT", "addinsert/292"),
    "StopInspecting": ("DELETE", "292"),
    "Whisper": ("POST", "requestwhisperagent?whisperagentid=292"),
    "StopWhispering": ("POST", "requeststopwhisperagent?whisperagentid=292"),
}


@pytest.mark.parametrize("rpc", BARE)
async def test_wire_a92_inspections_have_no_body(site, rpc):
    """A92: verb, path and query are those of the list, and the body is empty."""
    await site.ending(site.command(rpc))
    [sent] = site.gateway.requests(site.gateway.commands[-1])
    assert (sent.verb, sent.target.removeprefix("/agentgateway/resource/qualitycontrol/291/")) == BARE[rpc]
    assert sent.body == b""


@pytest.mark.parametrize(("mode", "number"), [(qc.MODE_LISTEN, 0), (qc.MODE_INSERT, 1), (qc.MODE_WHISPER, 2)])
async def test_wire_a89_switch_types_are_sent_as_the_gateway_numbers_them(site, mode, number):
    """A89: listening, inserting and whispering are 0, 1 and 2 on the wire, in one request."""
    ended = await site.ending(site.command("SwitchMode", mode=mode))
    assert (ended.code, ended.kinds[0]) == (StatusCode.OK, "accepted")
    [sent] = site.gateway.requests("requestswitchinsertwhisperagent")
    assert sent.target.partition("?")[2] == f"whisperagentid=292&switchtype={number}"
    assert (sent.verb, sent.body) == ("POST", b"")


@pytest.mark.parametrize("mode", [0, 4, 7])
async def test_wire_a89_other_switch_types_never_reach_the_wire(site, mode):
    """A89: no mode, or one that there is not, is INVALID_ARGUMENT with its field."""
    ended = await site.ending(site.command("SwitchMode", mode=mode))
    assert (ended.code, ended.reason, ended.fields) == (StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT", ("mode",))
    assert site.gateway.commands == ["login"]


def notify(subtype, monitored="292"):
    """News of a monitored agent, for inspector 291."""
    return event("QC_AgentState_Notify", {"monitoredagent": monitored, "subtype": subtype})


async def test_wire_a90_news_of_a_monitored_agent_are_its_own(site):
    """A90: watchers of the inspector see it, attributed to the monitored agent, whose id may be a number."""
    stream = await site.watching()
    site.gateway.tell(news(notify("QC_AgentState_Idle")), news(notify("QC_AgentState_Talking", 293)))
    idle, talking = [message.event for message in await read(stream, 2)]
    assert [(one.work_no, one.monitored.work_no) for one in (idle, talking)] == [("292", "292"), ("293", "293")]
    kinds = events_pb2.MonitoredAgent.Kind
    assert (idle.monitored.kind, talking.monitored.kind) == (kinds.IDLE, kinds.TALKING)
    assert idle.monitored.subtype == "QC_AgentState_Idle"
    stream.cancel()
    assert site.logged("foreign_event_dropped") == []


async def test_wire_a91_somebody_elses_listening_is_not_ours(site):
    """A91: that some inspector listens to the agent is passed on, and proves nothing about a command of ours."""
    call = site.command("Listen", confirm_within=0.4)
    assert (await call.read()).HasField("accepted")
    site.gateway.tell(news(notify("QC_AgentState_SuperviseInsert")), news(notify("QC_AgentState_StopSuperviseInsert")))
    ended = await site.ending(call)
    assert (ended.kinds, ended.outcome) == (["QC_AgentState_Notify"] * 2 + ["outcome"], "UNCONFIRMED")
    kinds = events_pb2.MonitoredAgent.Kind
    assert [update.event.monitored.kind for update in ended.updates[:2]] == [kinds.INSPECTED, kinds.INSPECTION_ENDED]


@pytest.mark.parametrize(("rpc", "operation"), [("Monitor", "beginmonitor"), ("StopMonitoring", "endmonitor")])
async def test_wire_a92_a_semicolon_stands_between_two_agents(site, rpc, operation):
    """A92: the agents of one request arrive as two numbers, the semicolon encoded or not; no body."""
    request = getattr(qc, f"{rpc}Request")(agent_id="291", work_nos=["292", "293"])
    assert (await site.ending(getattr(site.commands, rpc)(request, timeout=20))).code is StatusCode.OK
    [sent] = site.gateway.requests(operation)
    name, _, value = sent.target.partition("?")[2].partition("=")
    assert (name, unquote(value).split(";")) == ("agents", ["292", "293"])
    assert (sent.verb, sent.body) == ("POST", b"")


async def test_wire_a93_an_inspector_cannot_inspect_itself(site):
    """A93: refused before the wire, and 000-005 of the gateway means the same."""
    ended = await site.ending(site.command(work_no="291"))
    assert (ended.code, ended.reason) == (StatusCode.INVALID_ARGUMENT, "SELF_INSPECTION")
    assert site.gateway.commands == ["login"]
    site.gateway.answer("intercept", refusal("000-005"))
    ended = await site.ending(site.command())
    assert (ended.code, ended.reason) == (StatusCode.INVALID_ARGUMENT, "SELF_INSPECTION")
    assert ended.metadata["retcode"] == "000-005"


async def test_wire_a95_a_forced_state_says_who_forced_it(site):
    """A95: on the agent's own stream a forced state is typed as forced; one of the agent's own is not."""
    await site.signed_in("292")
    stream = await site.watching("292")
    changes = (
        event("AgentState_Force_SetNotReady", None, "292"),
        event("AgentState_SetNotReady_Success", {"reason": "3"}, "292"),
        event("AgentState_Force_Ready", None, "292"),
        event("AgentState_SetNotReady_Success", {"reason": "0"}, "292"),
    )
    site.gateway.tell(*(news(change) for change in changes), agent_id="292")
    states = [message.event.state for message in await read(stream, 4)]
    named = [(type(state).State.Name(state.state), state.forced) for state in states]
    assert named == [("BUSY", True), ("BUSY", True), ("IDLE", True), ("BUSY", False)]
    stream.cancel()
