"""The gateway on bad days: what certainly did nothing, what may have happened, and who decides."""

from __future__ import annotations

import pytest
from grpc import StatusCode

from qc_adapter.simulator import Fault
from qc_adapter.v1 import quality_control_pb2 as qc

FOREIGN = {
    "list": [1, 2],
    "object": {"hello": "world"},
    "text": "hello",
    "number": 42,
    "null code": {"message": "", "retcode": None},
    "nested code": {"result": {"retcode": "0"}},
}
UNREADABLE = {
    "reset before reading": {"action": "reset_before"},
    "reset after reading": {"action": "reset_after", "processed": False},
    "empty": {"action": "empty200", "processed": False},
    "cut": {"action": "cut_json", "processed": False},
    "not JSON": {"action": "raw_body", "body": "<html>ok</html>", "processed": False},
    **{
        f"foreign {name}": {"action": "foreign_json", "body": body, "processed": False}
        for name, body in FOREIGN.items()
    },
    **{f"HTML {status}": {"action": "html", "status": status} for status in (500, 502, 504)},
}
DONE_UNSEEN = {
    "reset": {"action": "reset_after"},
    "empty": {"action": "empty200"},
    "cut": {"action": "cut_json"},
    "foreign": {"action": "foreign_json"},
    "not JSON": {"action": "raw_body", "body": "done"},
    "HTML 502": {"action": "html", "status": 502, "processed": True},
    "HTML 503": {"action": "html", "status": 503, "processed": True},
}


def assert_unknown(ended):
    """The command may have been executed: looking is advised, repeating is not."""
    assert (ended.code, ended.reason, ended.domain) == (StatusCode.UNKNOWN, "OUTCOME_UNKNOWN", "qc-adapter")
    assert ended.metadata == {"method": "intercept", "outcome": "unknown"}
    assert not ended.retry


@pytest.mark.parametrize("damage", UNREADABLE.values(), ids=UNREADABLE.keys())
async def test_a_reply_without_a_retcode_leaves_the_outcome_unknown(site, damage):
    """Sent and not answered readably, and no event comes: OUTCOME_UNKNOWN, one request, the next one works."""
    await site.listening()
    site.simulator.add_fault(Fault(operation="intercept", **damage))
    ended = await site.ending(site.intercept(confirm_within=0.2))
    assert_unknown(ended)
    assert ended.updates == []
    assert "<html" not in ended.message
    assert "nginx" not in ended.message
    assert site.puts == 1
    assert site.calls[-1]["outcome"] == "unknown"
    assert site.calls[-1]["detail"] == ended.message
    assert 'qc_gateway_requests_total{gateway="default",method="intercept",retcode="none"} 1.0' in await site.page(
        "/metrics"
    )
    await site.goes_on()


@pytest.mark.parametrize("damage", DONE_UNSEEN.values(), ids=DONE_UNSEEN.keys())
async def test_events_settle_an_unknown_outcome(site, damage):
    """The reply is lost and the events come: CONFIRMED, without an `accepted` that nobody has seen."""
    await site.listening()
    site.simulator.add_fault(Fault(operation="intercept", **damage))
    ended = await site.ending(site.intercept())
    assert (ended.code, ended.outcome) == (StatusCode.OK, "CONFIRMED")
    assert ended.kinds == ["AgentEvent_Talking", "AgentMediaEvent_Record", "outcome"]
    assert site.puts == 1
    await site.goes_on()


async def test_lost_reply_and_lost_events_stay_unknown(site):
    """Done, but neither the reply nor an event says so: never a guess, never a second request."""
    await site.listening()
    site.simulator.add_fault(Fault("reset_after", operation="intercept"))
    site.simulator.add_fault(Fault("lose_event", agent_id="101", times=-1))
    assert_unknown(await site.ending(site.intercept(confirm_within=0.2)))
    assert site.simulator.state_of("101") == "INTERCEPTED"
    assert site.puts == 1
    assert 'qc_command_outcomes_total{gateway="default",method="intercept",outcome="unknown"} 1.0' in await site.page(
        "/metrics"
    )
    await site.goes_on()


async def test_an_unknown_outcome_is_followed_even_without_following(site):
    """FOLLOW_NONE ends at the receipt; without one the stream goes on until the events have settled it."""
    await site.listening()
    site.simulator.add_fault(Fault("reset_after", operation="intercept"))
    ended = await site.ending(site.intercept(follow=qc.FOLLOW_NONE))
    assert (ended.code, ended.outcome) == (StatusCode.OK, "CONFIRMED")
    assert site.puts == 1


@pytest.mark.parametrize("processed", [False, True], ids=["not done", "done"])
async def test_a_silent_gateway_leaves_the_outcome_unknown(open_site, processed):
    """No reply until our patience ends: UNKNOWN without events, CONFIRMED with them, one request in both."""
    site = await open_site(QC_GATEWAY_TIMEOUT_SECONDS="1")
    await site.ending(site.sign_in())
    await site.listening()
    site.simulator.add_fault(Fault("hang", operation="intercept", processed=processed))
    ended = await site.ending(site.intercept(confirm_within=0.2))
    if processed:
        assert (ended.code, ended.outcome) == (StatusCode.OK, "CONFIRMED")
        assert "accepted" not in ended.kinds
    else:
        assert_unknown(ended)
    assert site.puts == 1
    await site.goes_on()


async def test_a_gateway_that_refuses_connections_is_unavailable(site):
    """Nothing was sent: UNAVAILABLE with RetryInfo, and the same request id runs when the gateway is back."""
    await site.listening()
    await site.loses_the_gateway(site.wire)
    for _ in range(2):
        ended = await site.ending(site.intercept(request_id="again"))
        assert (ended.code, ended.reason) == (StatusCode.UNAVAILABLE, "GATEWAY_UNAVAILABLE")
        assert ended.metadata == {"method": "intercept"}
        assert ended.retry
        assert ended.updates == []
    assert site.puts == 0
    assert '"gateway":{"ok":false' in await site.page("/readyz")
    assert 'qc_gateway_up{gateway="default"} 0.0' in await site.page("/metrics")
    await site.wire.accept()
    good = await site.ending(site.intercept(request_id="again"))
    assert (good.code, good.outcome) == (StatusCode.OK, "CONFIRMED")
    assert site.puts == 1
    await site.goes_on()


async def test_a_sign_in_at_a_gateway_that_refuses_connections_is_unavailable(open_site):
    """The adapter starts without a gateway, says so, and serves when it comes."""
    site = await open_site()
    await site.wire.refuse()
    ended = await site.ending(site.sign_in())
    assert (ended.code, ended.reason, ended.retry) == (StatusCode.UNAVAILABLE, "GATEWAY_UNAVAILABLE", True)
    await site.wire.accept()
    await site.goes_on()


@pytest.mark.parametrize(
    "damage",
    [
        {"action": "html", "status": 401},
        {"action": "html", "status": 403},
        {"action": "redirect"},
        {"action": "redirect", "location": "http://127.0.0.1:9/login"},
    ],
    ids=["401", "403", "redirect", "redirect elsewhere"],
)
async def test_something_before_the_gateway_is_a_misconfiguration(site, damage):
    """An allow list or a login page is INTERNAL GATEWAY_MISCONFIGURED; no GUID follows a redirect."""
    await site.listening()
    site.simulator.add_fault(Fault(operation="intercept", **damage))
    ended = await site.ending(site.intercept())
    assert (ended.code, ended.reason, ended.domain) == (StatusCode.INTERNAL, "GATEWAY_MISCONFIGURED", "qc-adapter")
    assert ended.metadata == {"method": "intercept"}
    assert not ended.retry
    assert "login" not in ended.message
    assert site.puts == 1
    assert site.simulator.record.replies["getAgentEvent", "http_404"] == 0
    await site.goes_on()


@pytest.mark.parametrize(
    "oddity",
    [
        {"action": "slow_drip", "seconds": 0.2},
        {"action": "charset", "charset": "gbk"},
        {"action": "charset", "charset": "undecodable"},
        {"action": "charset", "charset": "bom"},
        {"action": "delay", "seconds": 0.2},
        {"action": "raw_body", "body": '{"retcode":0}'},
        {"action": "raw_body", "body": '{"message":"","result":"","retcode":"0","extra":[{}]}'},
    ],
    ids=["slow", "gbk", "undecodable", "bom", "late", "number", "odd result"],
)
async def test_an_odd_reply_with_a_retcode_is_read(site, oddity):
    """Slow, oddly encoded or oddly typed: a readable "0" is accepted."""
    await site.listening()
    site.simulator.add_fault(Fault(operation="intercept", **oddity))
    ended = await site.ending(site.intercept())
    assert (ended.code, ended.outcome) == (StatusCode.OK, "CONFIRMED")
    assert ended.kinds[0] == "accepted"
    assert site.puts == 1
    await site.goes_on()


async def test_a_lost_reply_of_another_command_is_settled_too(site):
    """Listening is confirmed by the picked-up phone as intercepting is by the talk."""
    site.simulator.start_call("292")
    site.simulator.add_fault(Fault("reset_after", operation="addSupervise"))
    ended = await site.ending(site.commands.Listen(qc.ListenRequest(agent_id="101", work_no="292"), timeout=20))
    assert (ended.code, ended.outcome) == (StatusCode.OK, "CONFIRMED")
    assert "accepted" not in ended.kinds
    assert len(site.simulator.requests("addSupervise")) == 1


@pytest.mark.parametrize(
    ("damage", "code", "reason"),
    [
        ({"action": "reset_after"}, StatusCode.UNKNOWN, "OUTCOME_UNKNOWN"),
        ({"action": "empty200"}, StatusCode.UNKNOWN, "OUTCOME_UNKNOWN"),
        ({"action": "html", "status": 403}, StatusCode.INTERNAL, "GATEWAY_MISCONFIGURED"),
        ({"action": "raw_body", "body": '{"retcode":"0"}', "processed": False}, StatusCode.OK, None),
        ({"action": "retcode", "code": "100-003"}, StatusCode.UNAVAILABLE, "GATEWAY_UNAVAILABLE"),
        ({"action": "retcode", "code": "110-016"}, StatusCode.PERMISSION_DENIED, "GATEWAY_REFUSED"),
    ],
    ids=["reset", "empty", "403", "no GUID", "no provider", "locked"],
)
async def test_a_sign_in_is_never_repeated_by_itself(open_site, damage, code, reason):
    """Whatever a sign-in ends with, it went out once, and the next one works."""
    site = await open_site()
    site.simulator.add_fault(Fault(operation="login", **damage))
    ended = await site.ending(site.sign_in())
    if damage["action"] == "raw_body":
        code, reason = StatusCode.INTERNAL, "GATEWAY_MISCONFIGURED"  # accepted, but without a Set-GUID
        assert "GUID" in ended.message or ended.code is StatusCode.OK
    assert (ended.code, ended.reason) == (code, reason)
    assert len(site.simulator.requests("login")) == 1
    assert (await site.ending(site.get())).reason == "INSPECTOR_NOT_SIGNED_IN"
    await site.goes_on()
