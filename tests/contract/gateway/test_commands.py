"""Commands against a gateway of scripted bytes: what each answer means, and that nothing goes out twice."""

from __future__ import annotations

import asyncio

import pytest

from qc_adapter.gateway import requests
from qc_adapter.gateway.observation import Outcome
from qc_adapter.gateway.requests import SignInForm, SkillReset
from qc_adapter.model.deadline import Deadline
from qc_adapter.model.errors import (
    DeadlineExceeded,
    GatewayMisconfigured,
    GatewayRefused,
    GatewayUnavailable,
    OutcomeUnknown,
)
from qc_adapter.model.session import EventSource, Renewal, Secret, Session

INTERCEPT = requests.intercept("117", "291")
GUID = "0b" * 24 + ".AgentGateway1"
PAGE = b"<html><body>secret page text</body></html>"


def soon():
    return Deadline.after(20)


async def test_a_command_is_one_request_with_the_sessions_guid(gateway, client, session):
    """An intercept is a PUT without body, with the GUID, a JSON content type and no cookie."""
    receipt = await client.send(session, INTERCEPT, soon())
    (heard,) = gateway.heard
    assert (heard.verb, heard.target) == ("PUT", "/agentgateway/resource/qualitycontrol/117/intercept/291")
    assert heard.header("Guid") == session.guid.reveal()
    assert heard.header("Content-Type") == "application/json; charset=UTF-8"
    assert heard.header("Cookie") is None
    assert heard.header("Accept-Encoding") is None
    assert heard.header("Host") == f"127.0.0.1:{gateway.port}"
    assert heard.body == b""
    assert (receipt.message, receipt.renewal, receipt.result) == ("", None, None)


@pytest.mark.parametrize(
    "request_",
    [
        requests.listen("117", "291"),
        requests.insert("117", "291"),
        requests.stop_inspecting("117", "291"),
        requests.whisper("117", "291"),
        requests.stop_whispering("117", "291"),
        requests.intercept("117", "291", "1/2 3"),
        requests.reset_skills("117", SkillReset(skill_ids=(1, 2))),
    ],
    ids=lambda request: request.operation.method,
)
async def test_every_operation_reaches_the_wire_as_it_was_built(gateway, client, session, request_):
    """Verb, quoted path and query go out unchanged; A92: no body."""
    await client.send(session, request_, soon())
    (heard,) = gateway.heard
    query = f"?{request_.query}" if request_.query else ""
    assert heard.verb == request_.operation.verb
    assert heard.target == f"/agentgateway/resource{request_.path}{query}"
    assert heard.body == b""


async def test_the_sessions_cookies_go_along(gateway, client, session):
    """A47: a session sends its own cookies; another session of the same client does not."""
    gateway.script.append(gateway.reply(headers=[("Set-Cookie", "lb=from-the-wire")]))
    await client.send(session.renewed(Renewal(cookies=Secret("lb=1; s=2"))), INTERCEPT, soon())
    await client.send(Session("118", Secret("other-guid")), requests.listen("118", "291"), soon())
    assert [heard.header("Cookie") for heard in gateway.heard] == ["lb=1; s=2", None]
    assert gateway.heard[1].header("Guid") == "other-guid"


async def test_a_reply_renews_the_session(gateway, client, session):
    """A42, A48: a new GUID on any reply is handed to the caller, whatever its node."""
    gateway.script.append(gateway.reply(headers=[("Set-Cookie", "lb=2; Path=/"), ("Set-GUID", f"JSESSIONID={GUID}")]))
    receipt = await client.send(session, INTERCEPT, soon())
    assert receipt.renewal == Renewal(Secret(GUID), Secret("lb=2"))


@pytest.mark.parametrize("code", ["000-003", "100-006", "900-002", "900-003", "900-005", "999-999", "100006"])
async def test_a_retcode_is_a_refusal(gateway, client, session, bench, code):
    """A85-A87: HTTP 200 with a code is a refusal that keeps the code, its text and a renewal."""
    body = f'{{"message":"no right to invite resouce","result":"","retcode":"{code}"}}'.encode()
    gateway.script.append(gateway.reply(body, headers=[("Set-GUID", GUID)]))
    with pytest.raises(GatewayRefused) as raised:
        await client.send(session, INTERCEPT, soon())
    assert (raised.value.method, raised.value.retcode) == ("intercept", code)
    assert raised.value.text == "no right to invite resouce"
    assert raised.value.renewal == Renewal(guid=Secret(GUID))
    assert [(call.method, call.retcode, call.outcome) for call in bench.calls] == [("intercept", code, Outcome.REFUSED)]
    assert client.last_seen.reachable is True


ANSWERS = [
    pytest.param(("403 Forbidden", PAGE), GatewayMisconfigured, id="allow list"),
    pytest.param(("401 Unauthorized", PAGE), GatewayMisconfigured, id="401"),
    pytest.param(("302 Found", PAGE), GatewayMisconfigured, id="redirect"),
    pytest.param(("404 Not Found", PAGE), GatewayRefused, id="404"),
    pytest.param(("503 Service Unavailable", PAGE), OutcomeUnknown, id="503"),
    pytest.param(("500 Internal Server Error", PAGE), OutcomeUnknown, id="500"),
    pytest.param(("502 Bad Gateway", PAGE), OutcomeUnknown, id="502"),
    pytest.param(("504 Gateway Timeout", PAGE), OutcomeUnknown, id="504"),
    pytest.param(("418 Teapot", b"{}"), OutcomeUnknown, id="418"),
    pytest.param(("502 Bad Gateway", b'{"message":"","retcode":"0"}'), OutcomeUnknown, id="502 with a success"),
    pytest.param(("200 OK", PAGE), OutcomeUnknown, id="page with 200"),
    pytest.param(("200 OK", b""), OutcomeUnknown, id="empty 200"),
    pytest.param(("200 OK", b'{"message":"","retco'), OutcomeUnknown, id="cut with its length"),
    pytest.param(("200 OK", b'{"status":"fine"}'), OutcomeUnknown, id="foreign JSON"),
    pytest.param(("200 OK", b'{"eventList":[{"eventType":"A"}]}'), OutcomeUnknown, id="events only"),
    pytest.param(("500 Internal Server Error", b'{"message":"x","retcode":"900-001"}'), GatewayRefused, id="500 code"),
]


@pytest.mark.parametrize(("answer", "error"), ANSWERS)
async def test_http_answers_mean_what_is_known_about_the_command(gateway, client, session, bench, *, answer, error):
    """A20-A25, A33: each odd answer becomes the one error that is certain, without the page's text and unrepeated."""
    status, body = answer
    gateway.script.append(gateway.reply(body, status=status, headers=[("Location", "/login.html")]))
    with pytest.raises(error) as raised:
        await client.send(session, INTERCEPT, soon())
    assert "secret page text" not in raised.value.message
    assert raised.value.method == "intercept"
    assert len(gateway.heard) == 1
    assert len(bench.calls) == 1
    if status.startswith("404"):
        assert raised.value.retcode == "000-002"
    if error is not GatewayRefused:
        assert client.last_seen.reachable is False
        assert client.last_seen.why


LOSSES = [
    pytest.param(lambda g: g.RESET, id="reset after reading"),
    pytest.param(lambda g: g.CLOSE, id="close after reading"),
    pytest.param(lambda g: (g.reply(length=500), g.CLOSE), id="body cut"),
    pytest.param(lambda g: (b"HTTP/1.1 200 OK\r\nContent-Le", g.CLOSE), id="head cut"),
    pytest.param(lambda g: (b"\x16\x03\x01 this is not HTTP\r\n\r\n", g.CLOSE), id="not HTTP"),
]


@pytest.mark.parametrize("answer", LOSSES)
@pytest.mark.parametrize("request_", [INTERCEPT, requests.stop_inspecting("117", "291")], ids=["PUT", "DELETE"])
async def test_a_command_that_went_out_is_never_repeated(gateway, client, session, bench, *, answer, request_):
    """A29, A84: once bytes may have gone out, a lost reply is an unknown outcome and the request is sent once."""
    gateway.script.append(answer(gateway))
    sent = []
    with pytest.raises(OutcomeUnknown):
        await client.send(session, request_, soon(), lambda: sent.append(True))
    assert len(gateway.heard) == 1
    assert sent == [True]
    assert [(call.retcode, call.outcome) for call in bench.calls] == [("none", Outcome.UNKNOWN)]


async def test_a_stale_kept_connection_sends_a_put_at_most_once(gateway, client, session):
    """A29: a kept connection that closes as the PUT arrives does not make the client send it again."""
    gateway.script += [gateway.reply(), gateway.CLOSE]
    await client.send(session, INTERCEPT, soon())
    with pytest.raises(OutcomeUnknown):
        await client.send(session, INTERCEPT, soon())
    assert len(gateway.heard) == 2
    assert gateway.connections == 1


async def test_a_connection_that_the_gateway_will_close_is_not_kept(gateway, client, session):
    """After `Connection: close` the next command goes out on a new connection."""
    gateway.script.append((gateway.reply(headers=[("Connection", "close")]), gateway.CLOSE))
    await client.send(session, INTERCEPT, soon())
    await client.send(session, INTERCEPT, soon())
    assert len(gateway.heard) == 2
    assert gateway.connections == 2


async def test_a_cut_reply_still_renews_the_session(gateway, client, session):
    """A new GUID in the head of a reply that broke off is not lost."""
    gateway.script.append((gateway.reply(headers=[("Set-GUID", GUID)], length=500), gateway.CLOSE))
    with pytest.raises(OutcomeUnknown) as raised:
        await client.send(session, INTERCEPT, soon())
    assert raised.value.renewal == Renewal(guid=Secret(GUID))


@pytest.mark.parametrize("steps", [lambda g: g.STALL, lambda g: (g.reply(length=500), g.STALL)], ids=["silent", "body"])
async def test_no_reply_in_time_is_an_unknown_outcome(gateway, bench, session, steps):
    """A84: the gateway's silence after the PUT ends with an unknown outcome, not with a second PUT."""
    client = bench.client(gateway.url, request_timeout_seconds=0.3, connect_timeout_seconds=0.3)
    gateway.script.append(steps(gateway))
    with pytest.raises(OutcomeUnknown):
        await client.send(session, INTERCEPT, soon())
    assert len(gateway.heard) == 1
    assert client.last_seen.reachable is False


async def test_a_callers_short_deadline_says_nothing_about_the_gateway(gateway, client, session):
    """A command cut short by its caller is unknown, and the gateway's health stays as it was."""
    gateway.script.append(gateway.STALL)
    with pytest.raises(OutcomeUnknown):
        await client.send(session, INTERCEPT, Deadline.after(0.2))
    assert client.last_seen.reachable is None


async def test_a_refused_connection_is_certainly_not_executed(bench, session):
    """Nothing listens: unavailable, and on_send was never called."""
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    client = bench.client(f"http://127.0.0.1:{port}")
    sent = []
    with pytest.raises(GatewayUnavailable, match="refused the connection"):
        await client.send(session, INTERCEPT, soon(), lambda: sent.append(True))
    assert sent == []
    assert client.last_seen.reachable is False


async def test_an_unknown_host_is_certainly_not_executed(bench, session):
    """A name that does not resolve is unavailable, and the message does not name the host."""
    client = bench.client("http://no-such-host.invalid:8043")
    with pytest.raises(GatewayUnavailable) as raised:
        await client.send(session, INTERCEPT, soon())
    assert "no-such-host" not in raised.value.message


async def test_a_deadline_that_is_over_sends_nothing(gateway, client, session):
    """The deadline came first: not sent, and nobody was asked."""
    with pytest.raises(DeadlineExceeded) as raised:
        await client.send(session, INTERCEPT, Deadline.after(0))
    assert raised.value.outcome == "not_sent"
    assert gateway.connections == 0


async def test_waiting_for_a_slot_is_not_sending(gateway, bench, session):
    """With all slots taken a command ends unsent: by its own deadline, or as unavailable by our patience."""
    client = bench.client(gateway.url, command_slots=1, request_timeout_seconds=30)
    patient = bench.client(gateway.url, command_slots=1, request_timeout_seconds=0.3, connect_timeout_seconds=0.3)
    gateway.script.append(gateway.STALL)
    sent = []
    first = asyncio.ensure_future(client.send(session, INTERCEPT, soon()))
    await gateway.until(lambda g: len(g.heard) == 1)
    with pytest.raises(DeadlineExceeded) as raised:
        await client.send(session, INTERCEPT, Deadline.after(0.2), lambda: sent.append(True))
    assert raised.value.outcome == "not_sent"
    gateway.script.append(gateway.STALL)
    ends = await asyncio.gather(*(patient.send(session, INTERCEPT, soon()) for _ in range(2)), return_exceptions=True)
    assert {type(end) for end in ends} == {OutcomeUnknown, GatewayUnavailable}
    gateway.resume()
    with pytest.raises(OutcomeUnknown):
        await first
    assert sent == []


async def test_a_cancelled_command_leaks_no_connection_and_no_slot(gateway, bench, session):
    """Cancelled in flight, a command closes its connection, frees its slot and is told as cancelled."""
    client = bench.client(gateway.url, command_slots=1)
    for _ in range(3):
        gateway.script.append(gateway.STALL)
        heard = len(gateway.heard)
        task = asyncio.ensure_future(client.send(session, INTERCEPT, soon()))
        await gateway.until(lambda g, heard=heard: len(g.heard) > heard)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await gateway.until(lambda g: g.open_connections == 0)
    assert [call.outcome for call in bench.calls] == [Outcome.CANCELLED] * 3
    await client.send(session, INTERCEPT, soon())


async def test_a_reply_over_the_limit_is_an_unknown_outcome(gateway, bench, session):
    """A reply without end is given up right after the limit."""
    client = bench.client(gateway.url, max_reply_bytes=1000)
    endless = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"800\r\n" + b"x" * 0x800 + b"\r\n"
    gateway.script.append((endless, gateway.STALL))
    with pytest.raises(OutcomeUnknown, match="more than 1000 bytes"):
        await client.send(session, INTERCEPT, soon())
    await gateway.until(lambda g: g.open_connections == 0)


@pytest.mark.parametrize(
    "broken",
    [
        Session("117", Secret("a\r\nX: y")),
        Session("117", Secret("a"), cookies=Secret("b\nc")),
        Session("117", Secret("")),
    ],
    ids=["guid", "cookie", "no guid"],
)
async def test_a_stored_value_that_would_break_the_header_is_not_sent(gateway, client, broken):
    """A50: a session with control characters sends nothing and is a configuration error."""
    with pytest.raises(GatewayMisconfigured, match="117"):
        await client.send(broken, INTERCEPT, soon())
    assert gateway.connections == 0


async def test_a_refused_header_is_reported(gateway, client, session, bench):
    """A50: a GUID on the wire that no header may carry is ignored, and the observer is told."""
    gateway.script.append(gateway.reply(headers=[("Set-GUID", "a b")]))
    receipt = await client.send(session, INTERCEPT, soon())
    assert receipt.renewal is None
    assert [call.header_refused for call in bench.calls] == [True]


async def test_no_message_shows_a_secret(gateway, client, session):
    """A GUID that the gateway repeats in its message is cut out."""
    gateway.script.append(gateway.refusal("000-003", f"guid {session.guid.reveal()} is old"))
    with pytest.raises(GatewayRefused) as raised:
        await client.send(session, INTERCEPT, soon())
    assert raised.value.text == "guid <hidden> is old"
    assert session.guid.reveal() not in f"{raised.value} {raised.value.__cause__!r}"


async def test_no_cause_of_an_error_shows_a_secret(gateway, client, session):
    """The errors beneath ours do not carry the request's headers on."""
    gateway.script.append((b"HTTP/1.1 xyz\r\n\r\n", gateway.CLOSE))
    with pytest.raises(OutcomeUnknown) as raised:
        await client.send(session, INTERCEPT, soon())
    cause = raised.value
    while cause is not None:
        assert session.guid.reveal() not in f"{cause!r} {cause}"
        cause = cause.__cause__


SIGNED_IN = (
    b'{"message":"success","retcode":"0","result":{"vdnid":1,"workno":"117","mediatype":"TFF",'
    b'"loginTime":"1700000000123","isForceChange":"true","serverName":"cluster1","timeRemaining":"42"}}'
)


async def test_a_sign_in_opens_a_session(gateway, client):
    """A40: a sign-in sends no GUID, and its reply becomes a session with GUID, cookies and the agent's facts."""
    headers = [("Set-Cookie", "lb=1; Path=/"), ("Set-GUID", f"JSESSIONID={GUID}")]
    gateway.script.append(gateway.reply(SIGNED_IN, headers=headers))
    signed_in = await client.sign_in("117", SignInForm(Secret("pass-word")), force=True, deadline=soon())
    (heard,) = gateway.heard
    assert heard.header("Guid") is None
    assert heard.body == b'{"password":"pass-word"}'
    assert heard.target.endswith("/onlineagent/117/forcelogin")
    session = signed_in.session
    assert (session.agent_id, session.guid, session.cookies) == ("117", Secret(GUID), Secret("lb=1"))
    assert (session.event_source, session.server_name) == (EventSource.POLL, "cluster1")
    assert session.signed_in_at > 0
    assert (signed_in.vdn_id, signed_in.work_no, signed_in.media_type) == ("1", "117", "TFF")
    assert (signed_in.login_time_ms, signed_in.password_days_left) == (1700000000123, 42)
    assert signed_in.must_change_password


async def test_an_odd_result_does_not_spoil_a_sign_in(gateway, client):
    """A sign-in whose result is not an object still opens a session, with push when the form asks for it."""
    gateway.script.append(gateway.reply(b'{"retcode":0,"result":""}', headers=[("set-guid", GUID)]))
    form = SignInForm(callback_uri="https://adapter/push", service_token=Secret("token"))
    signed_in = await client.sign_in("117", form, force=False, deadline=soon())
    assert signed_in.session.event_source is EventSource.PUSH
    assert (signed_in.work_no, signed_in.vdn_id, signed_in.password_days_left) == ("117", "", None)


async def test_a_sign_in_without_a_guid_is_a_configuration_error(gateway, client):
    """Without Set-GUID nothing can follow a sign-in: the way to the gateway is wrong."""
    gateway.script.append(gateway.reply(SIGNED_IN))
    with pytest.raises(GatewayMisconfigured, match="Set-GUID"):
        await client.sign_in("117", SignInForm(), force=False, deadline=soon())


async def test_a_wrong_password_is_tried_once(gateway, client):
    """A44: a failed sign-in is not repeated, for repetition locks the account."""
    gateway.script.append(gateway.refusal("100-004"))
    with pytest.raises(GatewayRefused) as raised:
        await client.sign_in("117", SignInForm(Secret("wrong")), force=True, deadline=soon())
    assert raised.value.retcode == "100-004"
    assert len(gateway.heard) == 1


@pytest.mark.parametrize("code", ["0", "100-006", "000-003", "100-008"])
async def test_being_out_already_is_a_successful_sign_out(gateway, client, session, code):
    """A68: a sign-out that finds no session has reached its goal."""
    gateway.script.append(gateway.refusal(code))
    await client.sign_out(session, force=False, deadline=soon())
    assert gateway.heard[0].verb == "DELETE"


async def test_a_refused_sign_out_is_told(gateway, client, session):
    """A sign-out in the wrong state is a refusal."""
    gateway.script.append(gateway.refusal("100-010"))
    with pytest.raises(GatewayRefused):
        await client.sign_out(session, force=True, deadline=soon())


async def test_a_closed_client_is_unavailable(gateway, client, session):
    """After closing, a command is certainly not executed."""
    await client.close()
    with pytest.raises(GatewayUnavailable):
        await client.send(session, INTERCEPT, soon())
    assert gateway.connections == 0
