"""Our own HTTP connections before a gateway of scripted bytes, on both event loops: what each end of a reply means."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
import ssl
import threading

import pytest
import trustme
import uvloop

from qc_adapter.gateway import connections, connector, requests
from qc_adapter.gateway.reply_reader import MOST_HEAD_BYTES
from qc_adapter.gateway.requests import SignInForm
from qc_adapter.gateway.settings import GatewaySettings
from qc_adapter.gateway.transport import GatewayTransport
from qc_adapter.gateway.wire import NotSent, NotSentWhy, ReplyLost
from qc_adapter.model.session import Secret
from tests.support.handshakes import serve_one_handshake
from tests.support.scripted import ScriptedGateway

LISTEN = requests.listen("117", "291")
OK = b'{"message":"","retcode":"0"}'
LONG_SECONDS = 20.0


class Site:
    """A scripted gateway and the transport to it."""

    def __init__(self, gateway, transport):
        self.gateway, self.transport = gateway, transport

    async def send(self, request=LISTEN, *, seconds=LONG_SECONDS, sent=None, headers=()):
        """Send a command; `sent` notes that bytes may have gone out."""
        noted = [] if sent is None else sent
        return await self.transport.send(request, dict(headers), seconds, lambda: noted.append(True))

    def poll(self, seconds=LONG_SECONDS):
        """Begin a poll."""
        held = self.transport.poll(requests.poll("117"), {}, seconds, lambda: None)
        return asyncio.ensure_future(held)

    async def heard(self, count):
        """Wait until so many requests have come."""
        await self.gateway.until(lambda g: len(g.heard) >= count)


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def on(request):
    """Runs a scenario with a gateway and a transport; no connection is open in the end."""

    async def run(scenario, tls, url, settings):
        gateway = ScriptedGateway(tls=tls)
        await gateway.start()
        known = {"connect_timeout_seconds": 5.0} | settings
        transport = GatewayTransport(GatewaySettings(url.format(port=gateway.port) if url else gateway.url, **known))
        try:
            try:
                await scenario(Site(gateway, transport))
            finally:
                await transport.close()
                gateway.resume()
            await gateway.until(lambda g: g.open_connections == 0)
        finally:
            await gateway.stop()

    def on(scenario, *, tls=None, url="", **settings):
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(run(scenario, tls, url, settings))

    return on


def raw(*lines, body=OK, status=b"200 OK", version=b"1.1"):
    """A reply of these very lines."""
    return b"HTTP/" + version + b" " + status + b"\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


CHUNKED = b"Transfer-Encoding: chunked"
LENGTH = b"Content-Length: 28"
#: Replies that end by themselves: their bytes, and status and body.
WHOLE = {
    "length": (raw(LENGTH), 200, OK),
    "no body": (raw(b"Content-Length: 0", body=b""), 200, b""),
    "chunks": (raw(CHUNKED, body=b"1c\r\n" + OK + b"\r\n0\r\n\r\n"), 200, OK),
    "small chunks": (raw(CHUNKED, body=b"".join(b"1\r\n%c\r\n" % one for one in OK) + b"0\r\n\r\n"), 200, OK),
    "chunks with more": (raw(CHUNKED, body=b"1c;a=b\r\n" + OK + b"\r\n0\r\nSet-GUID: no\r\n\r\n"), 200, OK),
    "204": (raw(status=b"204 No Content", body=b""), 204, b""),
    "304": (raw(LENGTH, status=b"304 Not Modified", body=b""), 304, b""),
    "after a 100": (raw(status=b"100 Continue", body=b"") + raw(LENGTH), 200, OK),
    "after two others": (
        raw(b"Set-GUID: no", status=b"103 Early Hints", body=b"") + raw(status=b"102 X", body=b"") + raw(LENGTH),
        200,
        OK,
    ),
    "an empty value": (raw(b"X-Empty:", LENGTH), 200, OK),
    "an error": (raw(LENGTH, status=b"503 Service Unavailable"), 503, OK),
    "no reason": (raw(LENGTH, status=b"200"), 200, OK),
}


@pytest.mark.parametrize(("bytes_", "status", "body"), WHOLE.values(), ids=WHOLE)
def test_a_reply_that_ends_by_itself_leaves_the_connection_for_the_next(on, bytes_, status, body):
    """Whatever says where a reply ends, it is read to there, has only its own headers, and may be followed by one."""

    async def scenario(site):
        site.gateway.script.append(bytes_)
        reply = await site.send()
        assert (reply.status, reply.body, reply.headers.all("set-guid")) == (status, body, [])
        assert (await site.send()).body == OK
        assert site.gateway.connections == 1

    on(scenario)


#: Replies after which the connection is of no use: their bytes, and whether the gateway closes it.
LAST = {
    "until the end": (raw(), True),
    "HTTP/1.0": (raw(LENGTH, version=b"1.0"), False),
    "HTTP/1.0 until the end": (raw(version=b"1.0"), True),
    "close": (raw(LENGTH, b"Connection: close"), False),
    "another reply": (raw(LENGTH) * 2, False),
    "a byte more": (raw(LENGTH) + b"x", False),
    "half a reply more": (raw(LENGTH) + b"HTTP/1.1 200 OK\r\nSet-GUID: no\r\n", False),
    "no HTTP": (raw(LENGTH) + b"\x16\x03\x01", False),
}


@pytest.mark.parametrize(("bytes_", "closes"), LAST.values(), ids=LAST)
def test_a_reply_after_which_nothing_may_follow_ends_its_connection(on, bytes_, closes):
    """The reply counts, what is left behind it is nobody's, and the next request has a connection of its own."""

    async def scenario(site):
        site.gateway.script.append((bytes_, site.gateway.CLOSE) if closes else bytes_)
        reply = await site.send()
        assert (reply.status, reply.body, reply.headers.all("set-guid")) == (200, OK, [])
        assert (await site.send()).body == OK
        assert site.gateway.connections == 2

    on(scenario)


#: Replies that are none: their bytes, what is said, and whether the head counts.
LOST = {
    "nothing": (b"", "closed without a reply", False),
    "half a head": (b"HTTP/1.1 200 OK\r\nSet-GUID: a\r\n", "closed without a reply", False),
    "interim only": (raw(status=b"100 Continue", body=b""), "closed without a reply", False),
    "half a body": (raw(LENGTH, body=OK[:9]), "broke off in its body", True),
    "no last chunk": (raw(CHUNKED, body=b"1c\r\n" + OK + b"\r\n"), "broke off in its body", True),
    "chunked, not last": (
        raw(b"Transfer-Encoding: chunked, identity", body=b"1c\r\n" + OK + b"\r\n0\r\n\r\n"),
        "broke off in its body",
        True,
    ),
    "another protocol": (b"SSH-2.0-x\r\n\r\n", "not HTTP", False),
    "switched": (raw(b"Upgrade: x", b"Connection: Upgrade", status=b"101 Switching", body=b""), "not HTTP", False),
    "switched to nothing": (raw(status=b"101 Switching", body=b""), "not HTTP", False),
    "status 099": (raw(LENGTH, status=b"099 X"), "not HTTP", False),
    "two lengths": (raw(LENGTH, b"Content-Length: 3"), "not HTTP", False),
    "bad chunk": (raw(CHUNKED, body=b"zz\r\n"), "broke off in its body", True),
}


@pytest.mark.parametrize(("bytes_", "words", "answered"), LOST.values(), ids=LOST)
def test_what_is_no_whole_reply_is_lost_and_ends_its_connection(on, bytes_, words, answered):
    """A reply that breaks off, or is none, is lost; its head counts where it was whole; nothing goes out again."""

    async def scenario(site):
        site.gateway.script.append((bytes_, site.gateway.CLOSE))
        sent = []
        with pytest.raises(ReplyLost, match=words) as raised:
            await site.send(sent=sent)
        assert (raised.value.answered, raised.value.timed_out, sent) == (answered, False, [True])
        assert (await site.send()).body == OK
        assert len(site.gateway.heard) == 2

    on(scenario)


def test_a_reset_is_no_end_of_a_reply(on):
    """A reply without length that ends with a reset is cut, and one that had not begun is lost."""

    async def scenario(site):
        begun = asyncio.Event()
        site.gateway.script += [site.gateway.RESET, (raw(), begun, site.gateway.RESET)]
        with pytest.raises(ReplyLost, match=r"without a reply|reset before a reply"):
            await site.send()
        command = asyncio.ensure_future(site.send())
        await site.heard(2)
        begun.set()
        with pytest.raises(ReplyLost) as raised:
            await command
        # The reset may overtake what was sent before it.
        assert raised.value.answered or "reset" in raised.value.text

    on(scenario)


ENDLESS = {
    "head": b"HTTP/1.1 200 OK\r\nX: " + b"y" * (1 << 22),
    "lines": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * (1 << 19),
    "reason": b"HTTP/1.1 200 " + b"y" * (1 << 22),
    "interim": b"HTTP/1.1 100 Continue\r\n\r\n" * (1 << 18),
    "trailer": raw(CHUNKED, body=b"0\r\nX: " + b"y" * (1 << 22)),
    "chunk": raw(CHUNKED, body=b"1;" + b"y" * (1 << 22)),
}


@pytest.mark.parametrize("bytes_", ENDLESS.values(), ids=ENDLESS)
def test_what_is_no_body_has_an_end(on, bytes_):
    """Heads, interim replies, trailers and what frames chunks are given up after some 64 KiB, whatever the time."""

    async def scenario(site):
        site.gateway.script.append((bytes_, site.gateway.STALL))
        with pytest.raises(ReplyLost):
            await site.send()
        await site.gateway.until(lambda g: g.open_connections == 0)

    assert len(bytes_) > 4 * MOST_HEAD_BYTES
    on(scenario)


def test_a_body_is_read_no_further_than_its_limit(on):
    """A body of one byte more than may be is given up right there, at its first piece that is too much."""

    async def scenario(site):
        site.gateway.script += [
            raw(b"Content-Length: 1000", body=bytes(1000)),
            (raw(b"Content-Length: 100000000", body=bytes(1001)), site.gateway.STALL),
        ]
        assert len((await site.send()).body) == 1000
        assert len((await site.send()).body) == 1001
        await site.gateway.until(lambda g: g.open_connections == 0)

    on(scenario, max_reply_bytes=1000)


def test_a_reply_before_the_request_is_all_written_counts_and_ends_the_connection(on):
    """A gateway that refuses a long request at its head is heard, and what is left of the request goes nowhere."""

    async def scenario(_site):
        taken = []

        async def refuse(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(raw(LENGTH, status=b"413 Too Large"))
            await replied.wait()
            taken.append(0)
            with contextlib.suppress(ConnectionError):
                while piece := await reader.read(1 << 16):
                    taken[-1] += len(piece)
            writer.close()
            ended.set()

        replied, ended = asyncio.Event(), asyncio.Event()
        server = await asyncio.start_server(refuse, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        transport = GatewayTransport(GatewaySettings(f"http://127.0.0.1:{port}"))
        long = requests.sign_in("117", SignInForm(Secret("x" * (32 << 20))), force=True)
        assert (await transport.send(long, {}, LONG_SECONDS, lambda: None)).status == 413
        replied.set()
        await ended.wait()
        assert taken[0] < 32 << 20
        await transport.close()
        server.close()
        await server.wait_closed()

    on(scenario)


def test_a_request_goes_out_as_it_was_built(on):
    """Verb, path with the base, query, host, headers in their order, and the body with its length; a poll has none."""

    async def scenario(site):
        form = SignInForm(Secret("x"))
        await site.send(requests.whisper("117", "291"), headers=[("Guid", "a"), ("X", "b c")])
        await site.send(requests.sign_in("117", form, force=False))
        await site.poll()
        first, second, poll = site.gateway.heard
        host = ("Host", f"127.0.0.1:{site.gateway.port}")
        assert first.target == "/agentgateway/resource/qualitycontrol/117/requestwhisperagent?whisperagentid=291"
        assert first.headers == [host, ("Guid", "a"), ("X", "b c"), ("Content-Length", "0")]
        assert (second.verb, second.body, second.header("Content-Length")) == ("PUT", form.to_json(), "16")
        assert (poll.verb, poll.headers) == ("GET", [host])

    on(scenario)


def test_an_idle_connection_is_closed_when_its_time_is_over(on):
    """After the time for keeping, a connection is closed by us, and one that is asked for then is a new one."""

    async def scenario(site):
        await site.send()
        await site.gateway.until(lambda g: g.open_connections == 0)
        await site.send()
        assert site.gateway.connections == 2

    on(scenario, keepalive_seconds=0.02)


def test_a_connection_that_the_gateway_closed_while_idle_is_not_used(on):
    """What the gateway closed between two requests is dropped when that is seen: the next request is not lost on it."""

    async def scenario(site):
        closing = asyncio.Event()
        site.gateway.script.append((raw(LENGTH), closing, site.gateway.CLOSE))
        await site.send()
        closing.set()
        await site.gateway.until(lambda g: g.open_connections == 0)
        assert (await site.send()).body == OK
        assert len(site.gateway.heard) == 2

    on(scenario)


@pytest.mark.parametrize("last", [b"", raw(LENGTH)], ids=["its end", "an unasked reply"])
def test_what_a_busy_process_has_not_seen_yet_ends_a_kept_connection(on, last):
    """What came while nobody asked counts also when the event loop had no time to see it: nothing is sent on that."""

    async def scenario(_site):
        heard, go_on = [], threading.Event()

        def serve(listener):
            for end in (last, b""):
                one, _ = listener.accept()
                with one:
                    heard.append(one.recv(4096))
                    one.sendall(raw(LENGTH, b"Set-GUID: %d" % len(heard)))
                    go_on.wait(LONG_SECONDS)
                    one.sendall(end)
                    if end:
                        with contextlib.suppress(ConnectionError):
                            one.recv(4096)

        with socket.create_server(("127.0.0.1", 0)) as listener:
            transport = GatewayTransport(GatewaySettings(f"http://127.0.0.1:{listener.getsockname()[1]}"))
            server = threading.Thread(target=serve, args=(listener,), daemon=True)
            server.start()
            await transport.send(LISTEN, {}, LONG_SECONDS, lambda: None)
            [connection] = transport._commands._all
            go_on.set()
            # The loop is held up until the kernel has it, as by a long collection of garbage.
            watched = connection._transport.get_extra_info("socket").fileno()
            arrived = select.poll()
            arrived.register(watched, select.POLLIN)
            assert arrived.poll(LONG_SECONDS * 1000)
            reply = await transport.send(LISTEN, {}, LONG_SECONDS, lambda: None)
            assert reply.headers.all("set-guid") == ["2"]
            assert len(heard) == 2
            await transport.close()
            server.join()

    on(scenario)


def test_many_idle_connections_are_closed_a_few_at_a_time(on, monkeypatch):
    """However many connections are over at once, a turn of the loop closes only some of them, and the next the next."""
    monkeypatch.setattr(connections, "_MOST_CLOSED", 2)

    async def scenario(site):
        replied = asyncio.Event()
        site.gateway.script += [(replied, raw(LENGTH))] * 7
        commands = [asyncio.ensure_future(site.send()) for _ in range(7)]
        await site.heard(7)
        replied.set()
        await asyncio.gather(*commands)
        kept = site.transport._commands
        kept._keep_seconds = 0.0
        for left in (5, 3, 1, 0):
            kept._sweep()
            assert len(kept._idle.get("117", ())) == len(kept._resting) == left
        await site.gateway.until(lambda g: g.open_connections == 0)
        assert kept._sweeper is None

    on(scenario)


def test_a_request_whose_time_is_over_is_not_sent(on):
    """Who has come through the gate too late is told that nothing was sent, also where a connection is at hand."""

    async def scenario(site):
        await site.send()
        sent = []
        with pytest.raises(NotSent) as raised:
            await site.send(seconds=0.0, sent=sent)
        assert (raised.value.why, sent) == (NotSentWhy.NO_SLOT, [])
        assert (await site.send()).body == OK
        assert (len(site.gateway.heard), site.gateway.connections) == (2, 1)

    on(scenario)


def test_a_gateway_that_speaks_first_is_not_sent_to(on):
    """What comes before any request on a new connection would pass for a reply: nothing is sent on that connection."""

    async def scenario(_site):
        gone = asyncio.Event()

        async def speak(reader, writer):
            writer.write(raw(LENGTH))
            with contextlib.suppress(ConnectionError):
                await reader.read()
            writer.close()
            gone.set()

        server = await asyncio.start_server(speak, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        transport = GatewayTransport(GatewaySettings(f"http://127.0.0.1:{port}"))
        # Whether the words come before the request is a race of the network; here they win.
        connection = await transport._commands._new("117", 5.0)
        await gone.wait()
        assert not connection.usable
        assert connection.unsent().why is NotSentWhy.CONNECT
        assert "nobody asked" in connection.unsent().text
        await transport.close()
        server.close()
        await server.wait_closed()

    on(scenario)


def test_the_time_of_a_request_ends_it_wherever_it_is(on):
    """A request ends within its time: at the gate and unsent, before the reply, and in its body; then it is closed."""

    async def scenario(site):
        site.gateway.script += [site.gateway.STALL, (raw(LENGTH, body=b""), site.gateway.STALL), site.gateway.STALL]
        for answered in (False, True):
            with pytest.raises(ReplyLost) as raised:
                await site.send(seconds=0.5)
            assert (raised.value.timed_out, raised.value.answered) == (True, answered)
        held = asyncio.ensure_future(site.send())
        await site.heard(3)
        sent = []
        with pytest.raises(NotSent) as unsent:
            await site.send(seconds=0.05, sent=sent)
        assert (unsent.value.why, sent) == (NotSentWhy.NO_SLOT, [])
        held.cancel()
        await asyncio.gather(held, return_exceptions=True)
        await site.gateway.until(lambda g: g.open_connections == 0)
        assert (await site.send()).body == OK

    on(scenario, command_slots=1)


def test_closing_ends_all_that_is_under_way(on):
    """Commands and polls under way end as lost, what waits at the gate and what comes after as unsent, all at once."""

    async def scenario(site):
        site.gateway.script += [site.gateway.STALL] * 2
        under_way = [asyncio.ensure_future(site.send()), site.poll()]
        await site.heard(2)
        at_gate = asyncio.ensure_future(site.send())
        await asyncio.sleep(0)
        await site.transport.close()
        for lost in under_way:
            with pytest.raises(ReplyLost, match="closed"):
                await lost
        for unsent in (at_gate, site.send()):
            with pytest.raises(NotSent, match="shutting down"):
                await unsent

    on(scenario, command_slots=1)


def test_a_connection_that_is_being_made_when_all_is_closed_is_not_sent_on(on):
    """Who connects while the transport closes ends unsent, and leaves no connection behind."""

    async def scenario(site):
        sent = []
        connecting = asyncio.ensure_future(site.send(sent=sent))
        await asyncio.sleep(0)
        await site.transport.close()
        with pytest.raises(NotSent):
            await connecting
        assert (sent, site.gateway.heard) == ([], [])

    on(scenario)


def test_giving_up_at_any_moment_leaves_nothing_behind(on):
    """A command that is cancelled at any turn of the loop, connecting too, leaves no connection and no slot taken."""

    async def scenario(site):
        turns, ended = 0, False
        while not ended:
            command = asyncio.ensure_future(site.send(seconds=LONG_SECONDS))
            for _ in range(turns):
                await asyncio.sleep(0)
            ended = command.done()
            command.cancel()
            await asyncio.gather(command, return_exceptions=True)
            turns += 1
        assert turns > 3
        kept = site.transport._commands
        assert len(kept._all) <= 1  # that of the last one, which had its reply
        assert not kept._gate.locked()

    on(scenario, command_slots=1)


def test_a_cancelled_poll_closes_its_connection(on):
    """A poll that is given up leaves no connection on which its reply could come for somebody else."""

    async def scenario(site):
        site.gateway.script.append(site.gateway.STALL)
        held = site.poll()
        await site.heard(1)
        held.cancel()
        with pytest.raises(asyncio.CancelledError):
            await held
        await site.gateway.until(lambda g: g.open_connections == 0)
        await site.poll()
        assert site.gateway.connections == 2

    on(scenario)


def test_who_cannot_note_the_sending_sends_nothing(on):
    """An error of the note that bytes go out is passed on, and no byte goes out."""

    async def scenario(site):
        def fails():
            raise KeyError("note")

        with pytest.raises(KeyError):
            await site.transport.send(LISTEN, {}, LONG_SECONDS, fails)
        assert (await site.send()).body == OK
        assert len(site.gateway.heard) == 1

    on(scenario)


class Names:
    """A name service of the event loop's: what a name leads to, and how often that was asked."""

    def __init__(self, *addresses):
        self.addresses, self.asked = addresses, 0
        self.answer = asyncio.Event()
        self.answer.set()
        asyncio.get_running_loop().getaddrinfo = self._look_up

    async def _look_up(self, _host, port, **_how):
        self.asked += 1
        await self.answer.wait()
        if not self.addresses:
            raise socket.gaierror(socket.EAI_NONAME, "no")
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (one, port)) for one in self.addresses]


@pytest.fixture
def on_asyncio():
    """Runs a scenario on the loop whose name service can be replaced."""

    async def run(scenario, settings):
        gateway = ScriptedGateway()
        await gateway.start()
        transport = GatewayTransport(GatewaySettings(f"http://gateway.example:{gateway.port}", **settings))
        try:
            await scenario(Site(gateway, transport))
        finally:
            await transport.close()
        await gateway.stop()

    return lambda scenario, **settings: asyncio.run(run(scenario, settings))


def test_a_dead_address_of_a_name_is_passed_over(on_asyncio):
    """Where one of a name's addresses takes no connections another one is tried; the name is what is sent."""

    async def scenario(site):
        Names("127.0.0.9", "127.0.0.8", "127.0.0.1")
        assert (await site.send()).body == OK
        assert site.gateway.heard[0].header("Host") == f"gateway.example:{site.gateway.port}"

    on_asyncio(scenario)


def test_an_address_that_is_silent_has_the_next_one_tried_beside_it(on_asyncio):
    """A dead address that swallows what is sent to it costs a moment; giving up while it is tried leaves nothing."""

    async def scenario(site):
        with socket.socket() as full:
            # Its backlog is full: further connections are neither made nor refused.
            full.bind(("127.0.0.9", site.gateway.port))
            full.listen(0)
            fillers = [socket.socket() for _ in range(4)]
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.9", site.gateway.port))
            Names("127.0.0.1", "127.0.0.9")  # each connection begins with the next one
            given_up = asyncio.ensure_future(site.send())
            await asyncio.sleep(0)
            given_up.cancel()
            await asyncio.gather(given_up, return_exceptions=True)
            assert [(await site.send()).body for _ in range(2)] == [OK] * 2
            for filler in fillers:
                filler.close()
        assert len(site.gateway.heard) == 2

    on_asyncio(scenario)


def test_a_name_is_looked_up_once_for_all_who_connect(on_asyncio):
    """Many connections that begin together ask the name service once, also when the first of them is given up."""

    async def scenario(site):
        names = Names("127.0.0.1")
        names.answer.clear()
        commands = [asyncio.ensure_future(site.send()) for _ in range(20)]
        await asyncio.sleep(0)
        commands[0].cancel()
        await asyncio.sleep(0)
        names.answer.set()
        ends = await asyncio.gather(*commands, return_exceptions=True)
        assert isinstance(ends[0], asyncio.CancelledError)
        assert [end.body for end in ends[1:]] == [OK] * 19
        assert names.asked == 1

    on_asyncio(scenario)


def test_a_gateway_that_moved_is_found(on_asyncio):
    """When nobody answers at the known address the name is looked up again; one that leads nowhere is unsent."""

    async def scenario(site):
        names = Names("127.0.0.9")
        with pytest.raises(NotSent, match="refused"):
            await site.send()
        names.addresses = ()
        with pytest.raises(NotSent, match="does not resolve"):
            await site.send()
        names.addresses = ("127.0.0.1",)
        assert (await site.send()).body == OK
        assert names.asked == 3

    on_asyncio(scenario)


def test_a_look_up_that_hangs_ends_with_the_time_for_connecting(on_asyncio):
    """A name service that does not answer costs a request its time for connecting, and is not left running."""

    async def scenario(site):
        names = Names("127.0.0.1")
        names.answer.clear()
        with pytest.raises(NotSent) as raised:
            await site.send()
        assert raised.value.why is NotSentWhy.TIMEOUT

    on_asyncio(scenario, connect_timeout_seconds=0.05)


def test_a_look_up_that_ends_with_the_transport_ends_nobody_as_cancelled(on_asyncio):
    """Who waits for a name when all is closed is told that nothing was sent: it was not cancelled itself."""

    async def scenario(site):
        Names("127.0.0.1").answer.clear()
        waiting = asyncio.ensure_future(site.send())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await site.transport.close()
        with pytest.raises(NotSent):
            await waiting

    on_asyncio(scenario)


def test_giving_up_where_two_addresses_answer_leaves_nothing_behind(on_asyncio, monkeypatch):
    """A command that is cancelled at any turn of the loop leaves no connection to the one address or the other."""
    monkeypatch.setattr(connector, "_NEXT_ADDRESS_SECONDS", 0.0)

    async def scenario(site):
        other = await asyncio.start_server(site.gateway._serve, "127.0.0.2", site.gateway.port)
        Names("127.0.0.1", "127.0.0.2")
        kept = site.transport._commands
        turns, ended = 0, False
        while not ended:
            command = asyncio.ensure_future(site.send())
            for _ in range(turns):
                await asyncio.sleep(0)
            ended = command.done()
            command.cancel()
            await asyncio.gather(command, return_exceptions=True)
            assert len(kept._all) <= ended
            turns += 1
        other.close()
        await other.wait_closed()

    on_asyncio(scenario)


@pytest.fixture(scope="module")
def authority():
    """The authority that signs gateways."""
    return trustme.CA()


@pytest.fixture
def ca_file(authority, tmp_path):
    """Its certificate as a file."""
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return str(tmp_path / "ca.pem")


def showing(authority):
    """A context of a gateway that the authority signed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


def test_all_of_it_goes_through_tls(on, authority, ca_file):
    """Over TLS replies are read, kept connections are used again, and lost ones are lost, as without it."""

    async def scenario(site):
        late, closing = asyncio.Event(), asyncio.Event()
        site.gateway.script += [
            raw(LENGTH),
            raw(CHUNKED, body=b"1c\r\n" + OK + b"\r\n0\r\n\r\n"),
            (raw(), site.gateway.CLOSE),
            (raw(LENGTH, body=OK[:9]), site.gateway.CLOSE),
            (raw(LENGTH), late, raw(LENGTH), closing, site.gateway.CLOSE),
        ]
        assert [(await site.send()).body for _ in range(3)] == [OK] * 3
        assert site.gateway.connections == 1
        with pytest.raises(ReplyLost, match="broke off"):
            await site.send()
        await site.send()
        late.set()
        closing.set()
        await site.gateway.until(lambda g: g.open_connections == 0)
        assert (await site.send()).body == OK
        assert site.gateway.connections == 4

    on(scenario, tls=showing(authority), ca_file=ca_file)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["TLS 1.2", "TLS 1.3"])
def test_a_refused_client_certificate_is_told_on_both_loops(on, authority, ca_file, version):
    """That the other side wants a certificate is told as such, early with TLS 1.2 and late with TLS 1.3."""

    async def scenario(_site):
        context = showing(authority)
        authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
        context.minimum_version = context.maximum_version = version
        with socket.create_server(("127.0.0.1", 0)) as listener:
            server = asyncio.create_task(asyncio.to_thread(serve_one_handshake, listener, context))
            there = GatewaySettings(f"https://127.0.0.1:{listener.getsockname()[1]}", ca_file=ca_file)
            transport = GatewayTransport(there)
            with pytest.raises(NotSent, match="client certificate") as raised:
                await transport.send(LISTEN, {}, LONG_SECONDS, lambda: None)
            assert raised.value.why is NotSentWhy.TRUST
            await transport.close()
            await server

    on(scenario)


def test_what_goes_wrong_with_tls_after_the_request_is_no_proof_that_it_was_not_read(on, authority, ca_file):
    """Bytes that are no TLS, after the request, leave its outcome open: only a handshake proves what was not sent."""

    async def scenario(_site):
        def serve(listener, context):
            one, _ = listener.accept()
            with one, context.wrap_socket(one, server_side=True) as spoken:
                spoken.recv(4096)
                os.write(spoken.fileno(), b"HTTP/1.1 500 Internal Server Error\r\n\r\n")

        with socket.create_server(("127.0.0.1", 0)) as listener:
            server = asyncio.create_task(asyncio.to_thread(serve, listener, showing(authority)))
            there = GatewaySettings(f"https://127.0.0.1:{listener.getsockname()[1]}", ca_file=ca_file)
            transport = GatewayTransport(there)
            with pytest.raises(ReplyLost):
                await transport.send(LISTEN, {}, LONG_SECONDS, lambda: None)
            await transport.close()
            await server

    on(scenario)


async def begun(connection):
    """Wait until the reply that is under way on a connection has begun."""
    while connection._reader is None:  # noqa: ASYNC110 - nobody tells of that
        await asyncio.sleep(0)


def test_an_alert_proves_nothing_on_a_connection_that_was_answered(on):
    """Where a reply came before, our certificate was taken: an alert about it then leaves the outcome open."""
    alert = ssl.SSLError(1, "alert")
    alert.reason = "TLSV13_ALERT_CERTIFICATE_REQUIRED"

    async def scenario(site):
        await site.send()
        for answer in (site.gateway.STALL, (raw(LENGTH, body=b""), site.gateway.STALL)):
            site.gateway.script.append(answer)
            heard = len(site.gateway.heard)
            command = asyncio.ensure_future(site.send())
            await site.heard(heard + 1)
            [connection] = site.transport._commands._all
            if len(answer) == 2:
                await begun(connection)
            connection.connection_lost(alert)  # the plain one that is beneath brings none by itself
            with pytest.raises(ReplyLost):
                await command
            await site.gateway.until(lambda g: g.open_connections == 0)

    on(scenario)


def test_an_address_that_is_not_trusted_says_more_than_one_that_refuses(authority, tmp_path):
    """Where one address of a name shows a bad certificate and the others are dead, that is told, whichever is first."""
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")

    async def run():
        gateway = ScriptedGateway(tls=showing(authority))
        await gateway.start()
        there = GatewaySettings(f"https://gateway.example:{gateway.port}", ca_file=str(tmp_path / "other.pem"))
        transport = GatewayTransport(there)
        Names("127.0.0.1", "127.0.0.9")
        for _ in range(2):
            with pytest.raises(NotSent, match="not trusted"):
                await transport.send(LISTEN, {}, LONG_SECONDS, lambda: None)
        await transport.close()
        await gateway.stop()

    asyncio.run(run())
