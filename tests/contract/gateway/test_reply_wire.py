"""Replies that are made to be misread, over a real socket: headers that break out, lengths that disagree, bombs."""

from __future__ import annotations

import asyncio
import gzip
import re
import time

import pytest

from qc_adapter.gateway import requests
from qc_adapter.model.deadline import Deadline
from qc_adapter.model.errors import GatewayError, GatewayRefused, OutcomeUnknown, PollFailed
from qc_adapter.model.session import Secret, Session

LISTEN = requests.listen("117", "291")
OTHER = Session("118", Secret("0c" * 24 + ".AgentGateway0"))
FOREIGN = "0f" * 24 + ".AgentGateway0"
OK = b'{"message":"","retcode":"0"}'
#: A whole reply, hidden in or behind another one, with a GUID that belongs to nobody here.
HIDDEN = (
    b'HTTP/1.1 200 OK\r\nSet-GUID: %s\r\nContent-Length: 38\r\n\r\n{"message":"hidden","retcode":"0"}    '
    % FOREIGN.encode()
)


def soon():
    return Deadline.after(20)


def raw(*lines, body=OK):
    """A reply of these very lines."""
    return b"HTTP/1.1 200 OK\r\n" + b"".join(lines) + b"\r\n" + body


ODD = {
    "two lengths": raw(b"Content-Length: 28\r\nContent-Length: 200\r\n"),
    "two lengths in one": raw(b"Content-Length: 28, 200\r\n"),
    "length and chunks": raw(
        b"Content-Length: 34\r\nTransfer-Encoding: chunked\r\n", body=b"1c\r\n" + OK + b"\r\n0\r\n\r\n" + HIDDEN
    ),
    "chunked is not last": raw(b"Transfer-Encoding: chunked, identity\r\n", body=b"1c\r\n" + OK + b"\r\n0\r\n\r\n"),
    "chunked with a tab": raw(b"Transfer-Encoding:\x0bchunked\r\n", body=b"1c\r\n" + OK + b"\r\n0\r\n\r\n"),
    "negative length": raw(b"Content-Length: -1\r\n"),
    "length with a sign": raw(b"Content-Length: +28\r\n"),
    "huge length": raw(b"Content-Length: 99999999999999999999999\r\n"),
    "folded": raw(b"Content-Length: 28\r\nX-Fold: a\r\n Set-GUID: " + FOREIGN.encode() + b"\r\n"),
    "bare CR": raw(b"Content-Length: 28\r\nX: a\rSet-GUID: " + FOREIGN.encode() + b"\r\n"),
    "space before the colon": raw(b"Content-Length: 28\r\nSet-GUID : " + FOREIGN.encode() + b"\r\n"),
    "NUL in a GUID": raw(b"Content-Length: 28\r\nSet-GUID: 0f\x00" + FOREIGN.encode() + b"\r\n"),
    "no colon": raw(b"Content-Length: 28\r\nSet-GUID\r\n"),
    "two replies": raw(b"Content-Length: 28\r\n") + HIDDEN,
    "two replies, the first without a body": b"HTTP/1.1 204 No Content\r\n\r\n" + HIDDEN,
    "a body that none may have": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\n\r\n" + HIDDEN,
    "chunk size too large": raw(b"Transfer-Encoding: chunked\r\n", body=b"fffffffffffffffff\r\n" + OK),
    "chunk size negative": raw(b"Transfer-Encoding: chunked\r\n", body=b"-1c\r\n" + OK),
    "trailer": raw(
        b"Transfer-Encoding: chunked\r\n", body=b"1c\r\n" + OK + b"\r\n0\r\nSet-GUID: " + FOREIGN.encode() + b"\r\n\r\n"
    ),
    "many headers": raw(b"Content-Length: 28\r\n" + b"X: y\r\n" * 5000),
    "a long header": raw(b"Content-Length: 28\r\nX: " + b"y" * 500_000 + b"\r\n"),
    "a long reason": b"HTTP/1.1 200 " + b"O" * 500_000 + b"\r\n\r\n",
    "another version": b"HTTP/2.0 200 OK\r\nContent-Length: 28\r\n\r\n" + OK,
    "switched": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n" + HIDDEN,
}


@pytest.mark.parametrize("bytes_", ODD.values(), ids=ODD)
async def test_no_odd_reply_reaches_beyond_its_request(gateway, bench, session, bytes_):
    """Whatever a reply is made of, it brings no GUID that stood in no header of its own, and the next one is whole."""
    client = bench.client(gateway.url, request_timeout_seconds=0.3, connect_timeout_seconds=0.3)
    gateway.script.append(bytes_)
    try:
        receipt = await client.send(session, LISTEN, soon())
    except (OutcomeUnknown, GatewayRefused) as failure:
        renewal = failure.renewal
    except GatewayError:
        renewal = None
    else:
        renewal = receipt.renewal
    assert renewal is None
    # Where the reply was read, the connection is free for the next one; what was left on it is nobody's reply.
    own = "0d" * 24 + ".AgentGateway0"
    gateway.script.append(gateway.reply(headers=[("Set-GUID", own)]))
    receipt = await client.send(session, LISTEN, soon())
    assert (receipt.message, receipt.renewal.guid) == ("", Secret(own))
    assert len(gateway.heard) == 2


async def test_a_bare_line_feed_ends_a_header(gateway, client, session):
    """RFC 9112 lets a lone LF end a line: what follows is a header of its own, and no part of the GUID before it."""
    own = "0d" * 24 + ".AgentGateway0"
    gateway.script.append(raw(b"Content-Length: 28\r\nSet-GUID: " + own.encode() + b"\nX: a\r\n"))
    assert (await client.send(session, LISTEN, soon())).renewal.guid == Secret(own)


async def answered_twice(gateway, client, session, times):
    """Let that many commands at once have a reply, and their connections, once they are free, another one."""
    replied, late = asyncio.Event(), asyncio.Event()
    gateway.script += [(replied, gateway.reply(), late, HIDDEN, gateway.STALL)] * times
    commands = [asyncio.ensure_future(client.send(session, LISTEN, soon())) for _ in range(times)]
    await gateway.until(lambda g: len(g.heard) == times)
    replied.set()
    await asyncio.gather(*commands)
    late.set()
    await gateway.until(lambda g: g.open_connections == 0)


async def test_a_reply_that_nobody_asked_for_is_nobodys(gateway, client, session):
    """A second reply on a connection that lies in the pool is not taken for the reply to the next command."""
    await answered_twice(gateway, client, session, 1)
    sent = []
    receipt = await client.send(session, LISTEN, soon(), lambda: sent.append(True))
    assert (receipt.message, receipt.renewal, sent) == ("", None, [True])
    assert gateway.connections == 2


async def test_every_connection_that_brings_what_nobody_asked_for_is_closed(gateway, client, session):
    """However many kept connections bring unasked replies, the next command goes out on a new one, once."""
    await answered_twice(gateway, client, session, 9)
    sent = []
    receipt = await client.send(session, LISTEN, soon(), lambda: sent.append(True))
    assert (receipt.message, receipt.renewal, sent) == ("", None, [True])
    assert gateway.connections == 10


async def test_no_two_inspectors_share_a_connection(gateway, client, session):
    """Requests of an inspector go out on connections that carry only its own, also where another's is free."""
    for one in (session, OTHER, session, OTHER):
        await client.send(one, requests.listen(one.agent_id, "291"), soon())
    assert gateway.connections == 2
    for one in (session, OTHER, session, OTHER):
        await client.poll(one, hold_seconds=10)
    assert gateway.connections == 4


async def test_a_packed_reply_is_not_unpacked(gateway, client, session):
    """A small body that unpacks to 100 MB is read as the bytes it is: no reply, and nothing is unpacked."""
    bomb = gzip.compress(bytes(100 << 20))
    for _ in range(2):
        gateway.script.append(gateway.reply(bomb, headers=[("Content-Encoding", "gzip")]))
    with pytest.raises(OutcomeUnknown, match="not JSON"):
        await client.send(session, LISTEN, soon())
    with pytest.raises(PollFailed):
        await client.poll(session, hold_seconds=10)


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n"])
async def test_a_reply_in_drops_ends_with_the_time_of_its_request(gateway, bench, session, head):
    """A byte now and then does not hold a command: its time is that of the whole reply, head and body."""
    client = bench.client(gateway.url, request_timeout_seconds=0.4, connect_timeout_seconds=0.4)
    gateway.script.append((head, *(step for _ in range(100) for step in (b"y", pause()))))
    began = time.monotonic()
    with pytest.raises(OutcomeUnknown):
        await client.send(session, LISTEN, soon())
    assert time.monotonic() - began < 1.5
    await gateway.until(lambda g: g.open_connections == 0)


def pause():
    """An event that is set by itself soon after somebody waits for it."""

    class Soon(asyncio.Event):
        async def wait(self):
            await asyncio.sleep(0.03)

    return Soon()


async def test_interim_replies_without_end_end_with_the_time_of_the_request(gateway, bench, session):
    """A flood of 100 Continue is no reply, and ends with the command's time."""
    client = bench.client(gateway.url, request_timeout_seconds=0.4, connect_timeout_seconds=0.4)
    interim = b"HTTP/1.1 100 Continue\r\n\r\n"
    gateway.script.append((*(step for _ in range(100) for step in (interim * 10, pause())), gateway.CLOSE))
    with pytest.raises(OutcomeUnknown, match="in time"):
        await client.send(session, LISTEN, soon())


async def test_cookies_of_a_reply_are_bounded(gateway, client, session):
    """A reply with more cookies than a header may hold changes no cookie, and says that it was refused."""
    headers = [("Set-Cookie", f"c{number}={'v' * 60}") for number in range(100)]
    gateway.script.append(gateway.reply(headers=headers))
    receipt = await client.send(session, LISTEN, soon())
    assert receipt.renewal is None


async def test_a_header_of_a_request_breaks_out_nowhere(gateway, client, session):
    """What callers name in a path arrives as one quoted part of it, whatever is in it."""
    for odd in ("1\r\nX-Evil: 1", "a\x00b", "a/../../b", "a?b#c", "\u4f60", "a;b&c=d"):
        await client.send(session, requests.intercept("117", "291", odd), soon())
    prefix = "/agentgateway/resource/qualitycontrol/117/intercept/291/"
    for heard in gateway.heard:
        assert re.fullmatch(r"[A-Za-z0-9%._~-]+", heard.target.removeprefix(prefix))
        assert heard.header("X-Evil") is None


async def test_a_token_that_would_break_its_header_is_not_sent(gateway, client, session):
    """A heartbeat whose token holds a line break sends nothing and says which header it was."""
    with pytest.raises(GatewayError, match="service_token"):
        await client.heartbeat(session, Secret("tok\r\nen"))
    assert gateway.connections == 0


async def test_the_environment_names_no_proxy_and_no_password(gateway, client, session, monkeypatch, tmp_path):
    """Proxies and a netrc file of the environment are not used: commands and polls go straight and as they are."""
    proxied = []

    async def proxy(reader, writer):
        proxied.append(await reader.read(1))
        writer.close()

    server = await asyncio.start_server(proxy, "127.0.0.1", 0)
    there = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, there)
        monkeypatch.setenv(name.lower(), there)
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login somebody password something\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    await client.send(session, LISTEN, soon())
    await client.poll(session, hold_seconds=10)
    assert proxied == []
    assert [heard.header("Authorization") for heard in gateway.heard] == [None, None]
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
async def test_a_redirect_to_another_host_gets_nothing(gateway, client, session, status):
    """No kind of redirect is followed, by command or poll: the other host is not even connected to."""
    elsewhere = type(gateway)()
    await elsewhere.start()
    for _ in range(2):
        gateway.script.append(gateway.reply(status=status, headers=[("Location", f"{elsewhere.url}/x")]))
    with pytest.raises(GatewayError, match="elsewhere"):
        await client.send(session, LISTEN, soon())
    with pytest.raises(GatewayError, match="elsewhere"):
        await client.poll(session, hold_seconds=10)
    assert (elsewhere.connections, len(gateway.heard)) == (0, 2)
    await elsewhere.stop()
