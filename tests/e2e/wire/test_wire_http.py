"""Rows A20 to A33: what stands between the adapter and the gateway, and connections that break."""

from __future__ import annotations

import asyncio
import ssl

import pytest
import trustme
from grpc import StatusCode

from tests.support.agent_gateway import AgentGateway, event, news, page, refusal, reply
from tests.support.scripted import ScriptedGateway
from tests.support.watches import hold, read, told, until_told
from tests.support.watching import until

CUT = b'{"message":"","retco'


def context_for(authority, name):
    """The TLS context of a gateway with a certificate for that name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


async def unknown(site):
    """An intercept ends unknown after one request, and the next one works."""
    before = len(site.gateway.requests("intercept"))
    ended = await site.ending(site.command())
    assert (ended.code, ended.reason, ended.retry) == (StatusCode.UNKNOWN, "OUTCOME_UNKNOWN", False)
    assert ended.metadata == {"method": "intercept", "outcome": "unknown"}
    assert len(site.gateway.requests("intercept")) == before + 1
    assert (await site.ending(site.command())).kinds == ["accepted", "outcome"]
    return ended


async def test_wire_a20_an_html_error_of_a_poll_is_got_over(site):
    """A20: a 502 page degrades the session until a poll works again; a possible loss is told, the page never."""
    stream = await site.watching()
    site.gateway.tell(page(502))
    session = await site.in_state("DEGRADED")
    assert "502" in session.detail
    assert "html" not in session.detail
    site.gateway.tell(news(hold(1, "291")))
    messages = await until_told(stream, "9-1")
    # Until the gateway must have let go of the failed poll, what comes may not be the next event.
    assert told(messages) == ["gap", "gap", "9-1"]
    stream.cancel()
    await site.in_state("ACTIVE")
    assert "html" not in repr(site.tape.lines) + repr(messages)


@pytest.mark.parametrize("status", [500, 502, 503])
async def test_wire_a20_an_html_error_of_a_command_is_unknown(site, status):
    """A20: the page may hide that the gateway executed the command: unknown, sent once, the page never shown."""
    site.gateway.answer("intercept", page(status))
    ended = await unknown(site)
    assert str(status) in ended.message
    assert "html" not in ended.message
    assert "nginx" not in ended.message


async def test_wire_a21_an_allow_list_is_a_misconfiguration(site):
    """A21: 403 is told loudly and not polled against; no sign-in goes out by itself."""
    site.gateway.tell(page(403, "Forbidden"))
    session = await site.in_state("DEGRADED")
    assert "allow list" in session.detail
    [line] = site.logged("polling_degraded")
    assert line["level"] == "error"
    polls = len(site.gateway.polls())
    site.gateway.answer("intercept", page(403, "Forbidden"), page(403, "Forbidden"))
    for _ in range(2):
        ended = await site.ending(site.command())
        assert (ended.code, ended.reason, ended.retry) == (StatusCode.INTERNAL, "GATEWAY_MISCONFIGURED", False)
        assert "allow list" in ended.message
    assert len(site.gateway.polls()) == polls
    assert site.gateway.commands == ["login", "intercept", "intercept"]


@pytest.mark.parametrize("answer", [page(404, "Not Found"), refusal("000-002", "no such")], ids=["404", "000-002"])
async def test_wire_a22_an_unroutable_path_is_an_invalid_argument(site, answer):
    """A22: an id outside the gateway's pattern is INVALID_ARGUMENT, whichever of the two answers it gives."""
    site.gateway.answer("intercept", answer)
    ended = await site.ending(site.command())
    assert (ended.code, ended.reason) == (StatusCode.INVALID_ARGUMENT, "GATEWAY_BAD_PARAMETER")
    assert ended.metadata == {"method": "intercept", "retcode": "000-002"}
    assert not ended.retry
    assert site.gateway.commands == ["login", "intercept"]


async def test_wire_a23_an_empty_poll_is_a_failure(site):
    """A23: an empty 200 is no answer: polling pauses longer and goes on; it was made from no event, so no gap."""
    stream = await site.watching()
    site.gateway.tell(reply(b""))
    assert "empty" in (await site.in_state("DEGRADED")).detail
    site.gateway.tell(news(hold(1, "291")))
    assert told(await read(stream, 1)) == ["9-1"]
    stream.cancel()
    assert max(site.gateway.pauses["291"]) >= 0.25


async def test_wire_a23_an_empty_reply_to_a_command_is_unknown(site):
    """A23: a command that is answered with nothing may have been executed."""
    site.gateway.answer("intercept", reply(b""))
    assert "empty" in (await unknown(site)).message


async def test_wire_a25_cut_json_of_a_poll_is_a_gap(site):
    """A25: a poll's reply that breaks off may have held an event: the gap is told, once, and polling goes on."""
    stream = await site.watching()
    site.gateway.tell((reply(CUT, length=28), site.gateway.CLOSE), news(hold(1, "291")))
    messages = await read(stream, 2)
    assert told(messages) == ["gap", "9-1"]
    assert messages[0].gap.reason == "POLL_REPLY_LOST"
    stream.cancel()
    assert await site.sample("qc_event_gaps_total", reason="poll_reply_lost") == 1.0


@pytest.mark.parametrize("length", [28, len(CUT)], ids=["by the connection", "before"])
async def test_wire_a25_cut_json_of_a_command_is_unknown(site, length):
    """A25: a command whose reply breaks off before its code may have been executed."""
    site.gateway.answer("intercept", (reply(CUT, length=length), site.gateway.CLOSE))
    await unknown(site)


@pytest.mark.parametrize(
    ("kind", "headers"),
    [("text/plain", [("JSON-Type", "application/json")]), (None, ()), ("text/html", ())],
    ids=["text", "none", "html"],
)
async def test_wire_a26_the_declared_type_does_not_matter(site, kind, headers):
    """A26: JSON is read as JSON, whatever type its header claims."""
    stream = await site.watching()
    site.gateway.tell(reply(b'{"retcode":"0","event":{"eventType":"AgentState_Work"}}', kind=kind, headers=headers))
    assert told(await read(stream, 1)) == ["AgentState_Work"]
    stream.cancel()
    site.gateway.answer("intercept", reply(b'{"message":"","retcode":"0"}', kind=kind, headers=headers))
    assert (await site.ending(site.command())).kinds == ["accepted", "outcome"]


@pytest.mark.parametrize(
    ("kind", "words", "shown"),
    [
        ("application/json;charset=GBK", "\u4f60\u597d".encode("gbk"), "\u4f60\u597d"),
        ("application/json;charset=UTF-8", "\u4f60\u597d".encode("gbk"), "\ufffd"),
        ("application/json;charset=GBK", b"\xff\xff", "\ufffd"),
    ],
    ids=["GBK", "GBK that claims to be UTF-8", "undecodable"],
)
async def test_wire_a27_texts_in_another_charset_are_read(site, kind, words, shown):
    """A27: GBK is read as declared; bytes that no charset explains are replaced, and the code still counts."""
    stream = await site.watching()
    said = b'{"retcode":"0","event":{"eventType":"AgentEvent_Hold","content":"%s"}}' % words
    site.gateway.tell(reply(said, kind=kind))
    [message] = await read(stream, 1)
    assert shown in message.event.content.string_value
    stream.cancel()
    site.gateway.answer("intercept", reply(b'{"message":"%s","result":"","retcode":"900-002"}' % words, kind=kind))
    ended = await site.ending(site.command())
    assert (ended.code, ended.metadata["retcode"]) == (StatusCode.PERMISSION_DENIED, "900-002")
    assert shown in ended.message


async def test_wire_a28_a_bom_and_a_trailing_newline_are_no_hindrance(site):
    """A28: what editors leave around JSON is not a part of it."""
    stream = await site.watching()
    site.gateway.tell(reply(b'\xef\xbb\xbf{"retcode":"0","event":{"eventType":"AgentState_Work"}}\n'))
    assert told(await read(stream, 1)) == ["AgentState_Work"]
    stream.cancel()
    site.gateway.answer("intercept", reply(b'\xef\xbb\xbf{"message":"","retcode":"0"}\n'))
    assert (await site.ending(site.command())).kinds == ["accepted", "outcome"]


@pytest.mark.parametrize("ending", [ScriptedGateway.CLOSE, ScriptedGateway.RESET])
async def test_wire_a29_a_kept_connection_that_closes_sends_a_command_once(site, ending):
    """A29: the gateway closes an idle connection as the PUT arrives: not sent again, outcome unknown."""
    assert (await site.ending(site.command())).kinds == ["accepted", "outcome"]
    connections = site.gateway.connections
    site.gateway.answer("intercept", ending)
    await unknown(site)
    assert site.gateway.connections == connections + 1  # the PUT went out on the kept one


async def test_wire_a29_a_connection_that_is_announced_to_close_is_not_kept(site):
    """A29: where the gateway says that it closes, the next command takes another connection and is executed."""
    site.gateway.answer("intercept", (reply(headers=[("Connection", "close")]), site.gateway.CLOSE))
    for _ in range(2):
        assert (await site.ending(site.command())).kinds == ["accepted", "outcome"]
    assert len(site.gateway.requests("intercept")) == 2


async def test_wire_a30_a_poll_that_is_held_longer_is_waited_for(open_wire):
    """A30: a reply after the usual hold is no failure, and commands do not wait for it."""
    site = await open_wire(QC_POLL_HOLD_SECONDS="0.1")
    stream = await site.watching()
    replied = asyncio.Event()
    site.gateway.tell((replied, news(event("AgentState_Work"))))
    await until(site.gateway.told, "a poll that is held")
    polls = len(site.gateway.polls())
    for _ in range(3):
        assert (await site.ending(site.command(confirm_within=0.1))).kinds == ["accepted", "outcome"]
    assert len(site.gateway.polls()) == polls
    replied.set()
    assert told(await read(stream, 1)) == ["AgentState_Work"]
    stream.cancel()
    await site.in_state("ACTIVE")
    assert site.logged("polling_degraded") == []


@pytest.mark.parametrize(("name", "known"), [("gateway.example", True), ("127.0.0.1", False)])
async def test_wire_a32_an_untrusted_certificate_is_refused(open_wire, tmp_path, name, known):
    """A32: a name that does not match, or an authority nobody configured, is refused with words, and nothing sent."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    more = {"QC_GATEWAY_CA_FILE": str(tmp_path / "ca.pem")} if known else {}
    site = await open_wire(tls=context_for(authority, name), signed_in=False, **more)
    ended = await site.ending(site.sign_in("291"))
    assert (ended.code, ended.reason) == (StatusCode.INTERNAL, "GATEWAY_MISCONFIGURED")
    assert "certificate" in ended.message
    assert site.gateway.received == []


async def test_wire_a32_a_configured_authority_is_trusted(open_wire, tmp_path):
    """A32: with the authority that signed it, the same gateway is spoken to by its address."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    site = await open_wire(tls=context_for(authority, "127.0.0.1"), QC_GATEWAY_CA_FILE=str(tmp_path / "ca.pem"))
    site.secrets |= set(site.gateway.guids.values())
    assert (await site.ending(site.command())).kinds == ["accepted", "outcome"]


async def test_wire_a33_a_redirect_is_not_followed(site):
    """A33: a redirect to a login page is a configuration error; no request, and so no GUID, goes there."""
    login_page = AgentGateway()
    await login_page.start()
    elsewhere = reply(b"", status="302 Found", headers=[("Location", f"{login_page.url}/login")], kind=None)
    site.gateway.tell(elsewhere)
    await site.in_state("DEGRADED")
    site.gateway.answer("intercept", elsewhere)
    ended = await site.ending(site.command())
    assert (ended.code, ended.reason, ended.retry) == (StatusCode.INTERNAL, "GATEWAY_MISCONFIGURED", False)
    assert login_page.heard == []
    assert login_page.connections == 0
    assert site.gateway.commands == ["login", "intercept"]
    await login_page.stop()
