"""What a collector is told of a call, over real sockets from the caller to the gateway and from the adapter to it."""

from __future__ import annotations

import contextlib
import json

import pytest
from grpc import StatusCode

from bench.ports import free_port
from qc_adapter.simulator import Fault
from qc_adapter.telemetry import export
from qc_adapter.v1 import quality_control_pb2 as qc
from qc_adapter.v1.events_pb2 import FeedRequest
from qc_adapter.v1.sessions_pb2 import EVENT_SOURCE_NONE, AdoptRequest
from tests.support.callers import PASSWORD, Caller
from tests.support.collector import Collector
from tests.support.opening import PUSH_TOKEN, opened, pushing, simulated
from tests.support.watches import hold, read

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
SERVER, CLIENT, PRODUCER = 2, 3, 4
LISTEN, INTERCEPT = "QualityControl/Listen", "QualityControl/Intercept"
OPEN_METRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}


def called_from(flags="01"):
    """The metadata of a caller who has a trace."""
    return (("traceparent", f"00-{TRACE}-{SPAN}-{flags}"),)


@pytest.fixture
def collector(monkeypatch):
    """A collector, to which whoever is told of it sends spans at once."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    made = Collector()
    made.start()
    yield made
    made.stop()


@pytest.fixture
def open_traced(collector, open_site):
    """Open a site that tells the collector, with inspector 101 signed in."""

    async def opening(gateway=None, **environment):
        site = await open_site(gateway=gateway, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, **environment)
        assert (await site.ending(site.sign_in())).code is StatusCode.OK
        return site

    return opening


async def test_one_trace_joins_caller_adapter_and_gateway(collector, open_traced):
    """The span of the call has the caller's for its parent, and the gateway is told the one of our request to it."""
    site = await open_traced()
    await site.listening()
    assert (await site.ending(site.intercept(metadata=called_from()))).outcome == "CONFIRMED"
    call, sent, found = [await collector.span(name) for name in (INTERCEPT, "PUT intercept", "find session")]
    assert (call.trace_id, call.parent_id, call.kind) == (TRACE, SPAN, SERVER)
    assert (sent.trace_id, sent.parent_id, sent.kind) == (TRACE, call.span_id, CLIENT)
    found = next(span for span in collector.named("find session") if span.trace_id == TRACE)
    assert found.parent_id == call.span_id
    (request,) = site.simulator.requests("intercept")
    assert request.traceparent == f"00-{TRACE}-{sent.span_id}-01"
    assert call.attributes == {
        "rpc.system": "grpc",
        "rpc.service": "qc_adapter.v1.QualityControl",
        "rpc.method": "Intercept",
        "rpc.grpc.status_code": 0,
        "qc.method": "intercept",
        "qc.agent_id": "101",
        "qc.work_no": "292",
        "qc.gateway": "default",
        "qc.retcode": "0",
        "qc.outcome": "confirmed",
    }
    assert [name for name, _ in call.events] == ["accepted", "event", "event", "outcome"]
    assert sent.attributes == {
        "http.request.method": "PUT",
        "http.response.status_code": 200,
        "url.template": "/qualitycontrol/{agent_id}/intercept/{work_no}",
        "server.address": "127.0.0.1",
        "server.port": site.wire.port,
        "qc.method": "intercept",
        "qc.gateway": "default",
        "qc.retcode": "0",
        "qc.outcome": "ok",
    }
    assert collector.resources[0].items() >= {"service.name": "qc-adapter", "service.version": "0.1.0"}.items()
    line = next(line for line in site.calls if line["rpc"] == "Intercept")
    assert line["trace_id"] == TRACE


async def test_each_event_has_a_short_span_that_is_linked_to_its_command(collector, open_traced):
    """An event has a trace of its own, as long as it was under way, with a link to the call that it was told to."""
    site = await open_traced()
    await site.listening()
    await site.ending(site.intercept(metadata=called_from()))
    call, talking = await collector.span(INTERCEPT), await collector.span("event AgentEvent_Talking")
    assert talking.links == [call.place]
    assert (talking.parent_id, talking.kind) == ("", PRODUCER)
    assert talking.trace_id != TRACE
    assert call.began_ns < talking.began_ns < talking.ended_ns <= call.ended_ns
    assert talking.attributes == {
        "qc.event_type": "AgentEvent_Talking",
        "qc.agent_id": "101",
        "qc.gateway": "default",
    }


async def test_no_span_is_open_as_long_as_its_stream(collector, open_traced):
    """A Watch's span ends when it stands, a command's with its outcome; what comes after is linked to them."""
    site = await open_traced()
    await site.held_poll()
    watch = site.watch()
    await read(watch, 1)
    opened = await collector.span("InspectorEvents/Watch")
    site.simulator.inject("101", hold(1))
    await read(watch, 1)
    assert (await collector.span("event AgentEvent_Hold")).links == [opened.place]
    watch.cancel()
    call_id = await site.listening()
    followed = site.intercept(follow=qc.FOLLOW_UNTIL_RELEASED)
    for _ in range(4):
        await followed.read()
    call = await collector.span(INTERCEPT)
    assert call.attributes["qc.outcome"] == "confirmed"
    site.simulator.end_call(call_id)
    assert (await site.ending(followed)).code is StatusCode.OK
    released = await collector.span("Release")
    assert released.links == [call.place]
    assert released.began_ns > call.ended_ns
    assert len(collector.named(INTERCEPT)) == 1


async def test_a_refusal_has_its_reason_and_only_a_fault_is_an_error(collector, open_traced):
    """A command in the wrong state is no error of ours; a gateway that is away or answers nothing readable is one."""
    site = await open_traced()
    site.simulator.start_call("292")
    site.simulator.add_fault(Fault("retcode", operation="intercept", code="900-003"))
    await site.ending(site.intercept())
    refused, asked = await collector.span(INTERCEPT), await collector.span("PUT intercept")
    assert (refused.attributes["qc.reason"], refused.attributes["qc.retcode"]) == ("WRONG_INSPECTION_STATE", "900-003")
    assert (asked.attributes["qc.outcome"], asked.attributes["qc.retcode"]) == ("refused", "900-003")
    assert refused.attributes["rpc.grpc.status_code"] == StatusCode.FAILED_PRECONDITION.value[0]
    assert (refused.error, asked.error) == (None, None)
    site.simulator.add_fault(Fault("retcode", operation="intercept", code="900-001"))
    await site.ending(site.intercept())
    away = await collector.span(INTERCEPT, 2)
    assert (away.error, away.attributes["qc.retcode"]) == ("GATEWAY_UNAVAILABLE", "900-001")
    site.simulator.add_fault(Fault("reset_after", operation="intercept"))
    await site.ending(site.intercept(confirm_within=0.05))
    unknown, lost = await collector.span(INTERCEPT, 3), await collector.span("PUT intercept", 3)
    assert (unknown.error, unknown.attributes["error.type"]) == ("OUTCOME_UNKNOWN", "OUTCOME_UNKNOWN")
    assert (lost.error, lost.attributes["error.type"]) == ("unknown", "unknown")
    await site.ending(site.intercept("102"))
    absent = await collector.span(INTERCEPT, 4)
    assert (absent.error, absent.attributes["qc.reason"]) == (None, "INSPECTOR_NOT_SIGNED_IN")


async def test_a_caller_that_is_not_sampled_is_not_exported(collector, open_traced):
    """Its trace goes on in our log and to the gateway, and nothing of it to the collector or into an exemplar."""
    site = await open_traced()
    await site.listening()
    await site.ending(site.intercept(metadata=called_from("00")))
    (request,) = site.simulator.requests("intercept")
    assert request.traceparent.startswith(f"00-{TRACE}-")
    assert request.traceparent.endswith("-00")
    assert site.calls[-1]["trace_id"] == TRACE
    await site.ending(site.get())
    await collector.span("InspectorSessions/Get")  # whatever was before it in the queue is there by now
    assert not collector.named("ntercept")
    assert not collector.named("Talking")
    assert TRACE not in await site.page("/metrics", **OPEN_METRICS)


async def test_the_share_that_is_recorded_can_be_chosen(collector, open_site):
    """With a ratio of 0 only callers who are sampled are; an event is recorded whenever its call is."""
    site = await open_site(
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        OTEL_TRACES_SAMPLER="parentbased_traceidratio",
        OTEL_TRACES_SAMPLER_ARG="0",
    )
    await site.ending(site.sign_in())
    await site.listening()
    await site.ending(site.intercept(metadata=called_from()))
    call = await collector.span(INTERCEPT)
    assert (await collector.span("event AgentEvent_Talking")).links == [call.place]
    assert not collector.named(LISTEN)
    assert not collector.named("SignIn")


async def test_latencies_point_to_traces(collector, open_traced):
    """The OpenMetrics page has the trace of a call that is recorded beside its latency, the plain page has none."""
    site = await open_traced()
    await site.listening()
    await site.ending(site.intercept(metadata=called_from()))
    shown = [line for line in (await site.page("/metrics", **OPEN_METRICS)).splitlines() if TRACE in line]
    assert {line.partition("_bucket{")[0] for line in shown} == {"qc_request_seconds", "qc_gateway_request_seconds"}
    assert all(f'# {{trace_id="{TRACE}"}} 0.' in line and 'method="intercept"' in line for line in shown)
    assert TRACE not in await site.page("/metrics")


async def test_polls_and_heartbeats_are_in_no_trace(collector, open_traced):
    """What nobody called for carries no header and has no span, also if a call began it; nor have its log lines."""
    site = await open_traced()
    await site.held_poll()
    polls = site.simulator.requests("getAgentEvent")
    assert polls
    assert {poll.traceparent for poll in polls} == {""}
    (login,) = site.simulator.requests("login")
    signed_in = next(line for line in site.tape.lines if line["event"] == "signed_in")
    assert login.traceparent.split("-")[1] == signed_in["trace_id"] == site.calls[0]["trace_id"]
    assert all("trace_id" not in line for line in site.tape.lines if line["event"] == "polling_started")
    assert (await collector.span("SignIn")).trace_id == signed_in["trace_id"]
    assert not collector.named("getAgentEvent")


async def test_a_heartbeat_is_in_no_trace(open_site, until):
    """It is sent like a command, and still is nobody's."""
    site = await open_site(**pushing(free_port()))
    await site.ending(site.sign_in())
    await until(lambda: site.simulator.requests("handShake"), "a heartbeat")
    assert {beat.traceparent for beat in site.simulator.requests("handShake")} == {""}


async def test_without_an_endpoint_there_are_still_ids(site):
    """The gateway gets a valid traceparent with the id of our log line, the caller's or a new one."""
    await site.listening()
    await site.ending(site.intercept(metadata=called_from()))
    (listen,), (intercept,) = site.simulator.requests("addSupervise"), site.simulator.requests("intercept")
    for request, line in zip((listen, intercept), site.calls[-2:], strict=True):
        version, trace_id, span_id, _ = request.traceparent.split("-")
        assert (version, trace_id) == ("00", line["trace_id"])
        assert int(span_id, 16)
    assert intercept.traceparent.startswith(f"00-{TRACE}-")
    assert SPAN not in intercept.traceparent


async def test_the_name_of_an_event_is_ours_or_none(collector, open_site):
    """Whoever brings an event may call it anything, at any length: spans know the names of the table and "other"."""
    site = await open_site(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    adopt = AdoptRequest(agent_id="101", guid=site.simulator.sign_in("101"), event_source=EVENT_SOURCE_NONE)
    await site.ending(site.sessions.Adopt(adopt, timeout=20))
    watch = site.watch()
    await read(watch, 1)
    odd = "canary4711" * 10_000
    body = json.dumps({"retcode": "0", "event": {"eventType": odd, "workNo": "101", "content": None}}).encode()
    await site.events.Feed(FeedRequest(agent_id="101", body=body), timeout=20)
    (message,) = await read(watch, 1)
    assert message.event.event_type == odd
    told = await collector.span("event other")
    assert told.attributes["qc.event_type"] == "other"
    assert b"canary4711" not in collector.raw


async def test_no_secret_is_in_a_span(collector, open_traced):
    """Neither GUIDs nor cookies, the password or the token of the pushes, also where the gateway quotes them."""
    site = await open_traced(**pushing(free_port()))
    site.secrets.add(PUSH_TOKEN)
    await site.listening()
    guid = site.simulator.guid_of("101")
    for message in (f"Guid: {guid} expired", f"JSESSIONID={guid}"):
        site.simulator.add_fault(Fault("retcode", operation="intercept", code="987-654", message=message))
        await site.ending(site.intercept())
    site.simulator.add_fault(Fault("raw_body", operation="intercept", body=f"<pre>{guid}</pre>", processed=False))
    await site.ending(site.intercept(confirm_within=0.05))
    site.simulator.add_fault(Fault("retcode", operation="login", code="100-004", message=f"wrong {PASSWORD}"))
    await site.ending(site.sign_in(agent_id="102"))
    await collector.span(INTERCEPT, 3)
    await collector.span("SignIn", 2)
    secrets = site.secrets | site.wire.secrets
    assert len(secrets) > 3
    assert [secret for secret in secrets if secret.encode() in collector.raw] == []


async def test_an_unreadable_tracestate_is_no_line_of_ours(collector, open_traced):
    """What a caller sends there is dropped in silence, and its traceparent still counts."""
    site = await open_traced()
    await site.ending(site.intercept(metadata=(*called_from(), ("tracestate", "no tracestate at all"))))
    assert (await collector.span(INTERCEPT)).trace_id == TRACE
    assert [line for line in site.tape.lines if "logger" in line] == []


async def test_a_collector_that_hangs_does_not_hold_the_process(collector, nothing_leaks, tape, until, monkeypatch):
    """At the end what it does not take is given up, though the SDK would wait on for longer than this test may take."""
    monkeypatch.setattr(export, "FLUSH_SECONDS", 0.05)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "300")
    collector.hold()
    async with contextlib.AsyncExitStack() as stack:
        simulator = await stack.enter_async_context(simulated())
        environment = {"QC_GATEWAY_URL": simulator.url, "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        adapter, channel = await opened(stack, environment)
        site = Caller(simulator=simulator, adapter=adapter, channel=channel)
        await site.ending(site.sign_in())
        await until(lambda: collector.asked, "spans on their way")
    assert collector.spans == []
    assert tape.lines[-1]["event"] == "stopped"


async def test_a_collector_that_takes_nothing_costs_one_line(collector, open_traced, until):
    """Calls go on, and the log says it once for many batches."""
    collector.refuses = True
    site = await open_traced()
    for asked in range(1, 6):
        assert (await site.ending(site.get())).code is StatusCode.OK
        await until(lambda asked=asked: collector.asked >= asked, "another batch")
    (said,) = [line for line in site.tape.lines if "logger" in line]
    assert said["level"] == "error"
    assert "UNAUTHENTICATED" in said["event"]
