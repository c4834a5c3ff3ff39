"""The gateway says no: each return code as its status, reason and advice, and the command is not sent again."""

from __future__ import annotations

import re

import pytest
from grpc import StatusCode

from qc_adapter.simulator import Fault
from qc_adapter.v1 import quality_control_pb2 as qc
from qc_adapter.v1 import sessions_pb2

RETCODES = {
    "000-001": (StatusCode.FAILED_PRECONDITION, "GATEWAY_REFUSED"),
    "000-002": (StatusCode.INVALID_ARGUMENT, "GATEWAY_BAD_PARAMETER"),
    "000-003": (StatusCode.FAILED_PRECONDITION, "INSPECTOR_SESSION_LOST"),
    "000-004": (StatusCode.UNAVAILABLE, "GATEWAY_SWITCHING_OVER"),
    "000-005": (StatusCode.INVALID_ARGUMENT, "SELF_INSPECTION"),
    "000-006": (StatusCode.INVALID_ARGUMENT, "GATEWAY_BAD_PARAMETER"),
    "000-007": (StatusCode.ABORTED, "GATEWAY_BUSY_WITH_SAME_CALL"),
    "100-001": (StatusCode.INVALID_ARGUMENT, "GATEWAY_BAD_PARAMETER"),
    "100-003": (StatusCode.UNAVAILABLE, "GATEWAY_UNAVAILABLE"),
    "100-006": (StatusCode.FAILED_PRECONDITION, "INSPECTOR_SESSION_LOST"),
    "100-008": (StatusCode.FAILED_PRECONDITION, "INSPECTOR_SESSION_LOST"),
    "100-009": (StatusCode.FAILED_PRECONDITION, "WRONG_INSPECTION_STATE"),
    "100-010": (StatusCode.FAILED_PRECONDITION, "WRONG_INSPECTION_STATE"),
    "100-015": (StatusCode.PERMISSION_DENIED, "NO_INSPECTION_RIGHT"),
    "100-021": (StatusCode.ABORTED, "GATEWAY_BUSY_WITH_SAME_CALL"),
    "105-002": (StatusCode.UNAVAILABLE, "GATEWAY_UNAVAILABLE"),
    "900-001": (StatusCode.UNAVAILABLE, "GATEWAY_UNAVAILABLE"),
    "900-002": (StatusCode.PERMISSION_DENIED, "NO_INSPECTION_RIGHT"),
    "900-003": (StatusCode.FAILED_PRECONDITION, "WRONG_INSPECTION_STATE"),
    "900-004": (StatusCode.NOT_FOUND, "AGENT_UNKNOWN"),
    "900-005": (StatusCode.FAILED_PRECONDITION, "WRONG_INSPECTION_STATE"),
    "987-654": (StatusCode.UNKNOWN, "GATEWAY_REFUSED"),
}


def assert_answered(ended, code, reason, retcode, **seen):
    """A refusal by the gateway has these marks, and RetryInfo only when waiting can help."""
    assert (ended.code, ended.reason, ended.domain) == (code, reason, "qc-adapter")
    assert ended.metadata == {"method": "intercept", "retcode": retcode} | seen
    assert retcode in ended.message
    assert ended.retry is (code is StatusCode.UNAVAILABLE)
    assert ended.updates == []
    subject = (reason, "intercept")
    assert ended.preconditions == ((subject,) if code is StatusCode.FAILED_PRECONDITION else ())


@pytest.mark.parametrize(("retcode", "answer"), RETCODES.items())
async def test_a_return_code_has_its_answer(site, retcode, answer):
    """Each return code is answered by the error table, the command went out once, and the next one works."""
    await site.listening()
    site.simulator.add_fault(Fault("retcode", operation="intercept", code=retcode))
    ended = await site.ending(site.intercept())
    about_state = retcode in {"900-003", "900-005", "100-009"}
    seen = {"inspector_state": "listening", "inspected_work_no": "292"} if about_state else {}
    assert_answered(ended, *answer, retcode, **seen)
    assert ("The adapter saw inspector 101 listening to 292 since" in ended.message) is about_state
    assert site.puts == 1
    assert site.calls[-1]["retcode"] == retcode
    assert site.calls[-1]["grpc_code"] == answer[0].name
    label = "other" if retcode == "987-654" else retcode
    metrics = await site.page("/metrics")
    assert f'qc_gateway_requests_total{{gateway="default",method="intercept",retcode="{label}"}} 1.0' in metrics
    assert 'qc_command_outcomes_total{gateway="default",method="intercept",outcome="refused"} 1.0' in metrics
    await site.goes_on()


async def test_an_intercept_without_listening_is_a_precondition_failure(site):
    """The gateway's own state machine refuses an intercept of an agent who is not inspected."""
    site.simulator.start_call("292")
    await site.held_poll()
    ended = await site.ending(site.intercept())
    answer = (StatusCode.FAILED_PRECONDITION, "WRONG_INSPECTION_STATE", "900-003")
    assert_answered(ended, *answer, inspector_state="idle")
    assert re.search(r"saw inspector 101 idle since [-:0-9 ]+ UTC: listen, insert or whisper first", ended.message)
    await site.goes_on()


async def test_an_inspector_without_the_right_is_denied(site):
    """Who may not inspect is PERMISSION_DENIED."""
    site.simulator.set_agent("101", inspector=False)
    ended = await site.ending(site.intercept())
    assert_answered(ended, StatusCode.PERMISSION_DENIED, "NO_INSPECTION_RIGHT", "900-002")
    site.simulator.set_agent("101", inspector=True)
    await site.goes_on()


async def test_an_agent_that_the_gateway_does_not_know_is_not_found(site):
    """An agent who is not on duty is NOT_FOUND."""
    assert_answered(await site.ending(site.intercept()), StatusCode.NOT_FOUND, "AGENT_UNKNOWN", "900-004")
    await site.goes_on()


@pytest.mark.parametrize("answer", ["404", "000-002"])
async def test_an_id_that_the_gateway_does_not_route_is_a_bad_parameter(open_site, answer):
    """An id beyond the gateway's own range is INVALID_ARGUMENT, whether it says so by page or by code."""
    site = await open_site(gateway={"bad_path": answer}, QC_AGENT_ID_MAX="999999")
    await site.ending(site.sign_in())
    ended = await site.ending(site.intercept(work_no="600001"))
    assert_answered(ended, StatusCode.INVALID_ARGUMENT, "GATEWAY_BAD_PARAMETER", "000-002")
    await site.goes_on()


@pytest.mark.parametrize("rpc", ["Intercept", "Listen", "Insert", "StopInspecting", "Whisper", "StopWhispering"])
async def test_an_inspector_who_is_not_signed_in_is_told_to(site, rpc):
    """Without a stored session no command is sent: INSPECTOR_NOT_SIGNED_IN names the inspector."""
    before = len(site.simulator.record.commands)
    request = getattr(qc, f"{rpc}Request")(agent_id="103", work_no="292")
    ended = await site.ending(getattr(site.commands, rpc)(request, timeout=20))
    assert (ended.code, ended.reason) == (StatusCode.FAILED_PRECONDITION, "INSPECTOR_NOT_SIGNED_IN")
    assert ended.preconditions == (("INSPECTOR_NOT_SIGNED_IN", "103"),)
    assert not ended.retry
    assert len(site.simulator.record.commands) == before
    await site.goes_on("103")


async def test_an_unknown_inspector_cannot_be_watched(site):
    """A watch without a session ends at once."""
    ended = await site.ending(site.watch("103"))
    assert (ended.code, ended.reason) == (StatusCode.FAILED_PRECONDITION, "INSPECTOR_NOT_SIGNED_IN")
    assert ended.updates == []


@pytest.mark.parametrize("retcode", ["000-003", "100-006"])
async def test_a_guid_that_the_gateway_does_not_know_is_a_lost_session(open_site, retcode):
    """An adopted GUID that is wrong is INSPECTOR_SESSION_LOST after one request; a new sign-in heals it."""
    site = await open_site(gateway={"wrong_guid_code": retcode})
    site.simulator.sign_in("101")
    site.secrets.add("0123-wrong-guid")
    request = sessions_pb2.AdoptRequest(agent_id="101", guid="JSESSIONID=0123-wrong-guid")
    assert (await site.ending(site.sessions.Adopt(request, timeout=20))).code is StatusCode.OK
    ended = await site.ending(site.intercept())
    assert_answered(ended, StatusCode.FAILED_PRECONDITION, "INSPECTOR_SESSION_LOST", retcode)
    assert site.puts == 1
    watched = await site.ending(site.watch())
    assert (watched.code, watched.reason) == (StatusCode.FAILED_PRECONDITION, "INSPECTOR_SESSION_LOST")
    assert watched.preconditions == (("INSPECTOR_SESSION_LOST", "101"),)
    assert (await site.ending(site.get())).updates[0].session.state == sessions_pb2.SESSION_STATE_LOST
    assert len(site.simulator.requests("getAgentEvent")) <= 5
    assert (await site.ending(site.sign_in(force=True))).code is StatusCode.OK
    await site.goes_on()


@pytest.mark.parametrize("retcode", ["000-003", "100-006"])
async def test_a_guid_that_rotates_under_the_command_costs_one_more_request(open_site, retcode):
    """Refused with the old GUID while the new one reaches the store, the command goes out once more and succeeds."""
    site = await open_site(gateway={"guid_grace_override_seconds": 0.0, "wrong_guid_code": retcode})
    await site.ending(site.sign_in())
    await site.listening()
    await site.held_poll()
    site.simulator.add_fault(Fault("rotate_now", operation="intercept"))
    ended = await site.ending(site.intercept())
    assert (ended.code, ended.outcome) == (StatusCode.OK, "CONFIRMED")
    assert ended.kinds == ["accepted", "AgentEvent_Talking", "AgentMediaEvent_Record", "outcome"]
    sent = site.simulator.requests("intercept")
    assert [entry.guid for entry in sent] == ["expired", "current"]
    assert [entry.retcode for entry in sent] == [retcode, "0"]
    await site.goes_on()


async def test_a_second_refusal_of_a_renewed_guid_is_final(open_site):
    """Once more is all: when the renewed GUID is refused too, the session is lost."""
    site = await open_site(gateway={"guid_grace_override_seconds": 0.0})
    await site.ending(site.sign_in())
    await site.listening()
    await site.held_poll()
    site.simulator.add_fault(Fault("rotate_now", operation="intercept", times=-1))
    ended = await site.ending(site.intercept())
    assert_answered(ended, StatusCode.FAILED_PRECONDITION, "INSPECTOR_SESSION_LOST", "000-003")
    assert site.puts == 2
    assert (await site.ending(site.sign_in(force=True))).code is StatusCode.OK
    await site.goes_on()


async def test_a_rotation_within_its_grace_is_not_noticed(site):
    """While the old GUID still counts, a rotation costs nothing."""
    await site.listening()
    site.simulator.add_fault(Fault("rotate_now", operation="intercept"))
    assert (await site.ending(site.intercept())).outcome == "CONFIRMED"
    assert [entry.guid for entry in site.simulator.requests("intercept")] == ["previous"]
    await site.goes_on()
    assert site.simulator.requests("intercept")[-1].guid == "current"
