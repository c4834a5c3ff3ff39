"""What operators see of a call: one line, closed labels, and never a secret."""

from __future__ import annotations

import re

from grpc import StatusCode

from qc_adapter.model.version import version
from qc_adapter.simulator import Fault
from qc_adapter.v1 import sessions_pb2

ALWAYS = {"event", "level", "timestamp", "method", "rpc", "grpc_code", "duration_ms", "peer", "trace_id"}
TRACE = "0af7651916cd43dd8448eb211c80319c"


async def test_each_call_leaves_one_line_with_its_fields(site):
    """A confirmed and a refused intercept: one line each with the fields that both sides' logs are joined by."""
    await site.listening()
    await site.ending(site.intercept(request_id="job-7"))
    await site.ending(site.intercept(request_id="job-8"))
    good, bad = [line for line in site.calls if line["rpc"] == "Intercept"]
    assert set(good) == ALWAYS | {"retcode", "agent_id", "gateway", "work_no", "request_id", "outcome"}
    assert set(bad) == ALWAYS | {"retcode", "agent_id", "gateway", "work_no", "request_id", "reason"}
    for line, request_id, code, retcode in (
        (good, "job-7", "OK", "0"),
        (bad, "job-8", "FAILED_PRECONDITION", "900-003"),
    ):
        assert (line["method"], line["agent_id"], line["work_no"]) == ("intercept", "101", "292")
        assert (line["request_id"], line["grpc_code"], line["retcode"]) == (request_id, code, retcode)
        assert line["duration_ms"] > 0
        assert line["peer"].startswith("ipv4:127.0.0.1:")
        assert re.fullmatch("[0-9a-f]{32}", line["trace_id"])
    assert (good["level"], good["outcome"]) == ("info", "confirmed")
    assert bad["reason"] == "WRONG_INSPECTION_STATE"


async def test_the_callers_trace_is_kept(site):
    """A traceparent of the caller names the call in our log."""
    metadata = (("traceparent", f"00-{TRACE}-b7ad6b7169203331-01"),)
    await site.sessions.Get(sessions_pb2.GetRequest(agent_id="101"), metadata=metadata, timeout=20)
    assert site.calls[-1]["trace_id"] == TRACE


async def test_a_poll_leaves_no_line(site, until):
    """Polling is silent once it has begun, whatever it brings."""
    await site.held_poll()
    before = len(site.tape.lines)
    polls = len(site.simulator.requests("getAgentEvent"))
    for _ in range(5):
        site.simulator.inject("101", {"eventType": "AgentEvent_Hold", "workNo": "101", "content": "1-1"})
    await until(lambda: len(site.simulator.requests("getAgentEvent")) > polls + 5)
    assert site.tape.lines[before:] == []


async def test_calls_are_counted_by_the_gateways_names(site):
    """The metrics of one intercept, with the gateway's method name and nothing of who called."""
    await site.listening()
    await site.ending(site.intercept())
    metrics = await site.page("/metrics")
    for sample in (
        'qc_requests_total{code="OK",gateway="default",method="intercept"} 1.0',
        'qc_request_seconds_count{gateway="default",method="intercept"} 1.0',
        'qc_gateway_requests_total{gateway="default",method="intercept",retcode="0"} 1.0',
        'qc_gateway_request_seconds_count{gateway="default",method="intercept"} 1.0',
        'qc_events_total{event_type="AgentEvent_Talking",gateway="default"} 1.0',
        'qc_command_outcomes_total{gateway="default",method="intercept",outcome="confirmed"} 1.0',
        'qc_command_confirmation_seconds_count{gateway="default",method="intercept"} 1.0',
        'qc_requests_total{code="OK",gateway="default",method="login"} 1.0',
        "qc_store_up 1.0",
        'qc_gateway_up{gateway="default"} 1.0',
        'qc_sessions_unread{gateway="default"} 0.0',
        f'qc_build_info{{version="{version()}"}} 1.0',
    ):
        assert sample in metrics
    labels = set(re.findall(r'="([^"]*)"', metrics))
    assert not labels & {"101", "292"}


async def test_no_secret_gets_out_on_a_bad_day(site):
    """A gateway that repeats the GUID and the password in its messages is not quoted with them."""
    await site.listening()
    guid = site.simulator.guid_of("101")
    for action, message in (("retcode", f"Guid: {guid} expired"), ("retcode", f"JSESSIONID={guid}"), ("retcode", guid)):
        site.simulator.add_fault(Fault(action, operation="intercept", code="987-654", message=message))
        ended = await site.ending(site.intercept())
        assert (ended.code, ended.reason) == (StatusCode.UNKNOWN, "GATEWAY_REFUSED")
        assert guid not in ended.message
        assert guid not in site.calls[-1]["detail"]
    site.simulator.add_fault(Fault("raw_body", operation="intercept", body=f"<pre>Guid: {guid}</pre>", processed=False))
    assert (await site.ending(site.intercept(confirm_within=0.1))).code is StatusCode.UNKNOWN
    await site.goes_on()


async def test_a_password_that_the_gateway_repeats_is_not_passed_on(open_site, password):
    """Also a refused sign-in is told without what was typed."""
    site = await open_site()
    site.simulator.add_fault(
        Fault("retcode", operation="login", code="100-004", message=f"wrong password {password} of 101")
    )
    ended = await site.ending(site.sign_in())
    assert ended.code is StatusCode.UNAUTHENTICATED
    assert password not in ended.message
