"""What whoever connects to the ports for operators and gateways can hold, and for how long, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl
import tracemalloc

import aiohttp
import pytest
import trustme
import uvloop
from aiohttp import web

from qc_adapter.environment import Listen
from qc_adapter.http_listener import HttpListener
from qc_adapter.push_certificate import PushCertificate
from qc_adapter.settings import ServerTls
from tests.support.watching import leaving_nothing, until

GET = b"GET /page HTTP/1.1\r\nHost: here\r\n"
LARGE = b"x" * (16 << 20)


@contextlib.asynccontextmanager
async def listening(**limits):
    """A listener with a page, one that is large, and one that takes a body; times are short."""

    async def page(_request):
        return web.Response(text="here")

    async def large(_request):
        return web.Response(body=LARGE)

    async def known(request):
        listener.know(request)
        return web.Response(text="known")

    async def post(request):
        return web.Response(text=str(len(await request.read())))

    app = web.Application()
    app.router.add_get("/page", page)
    app.router.add_get("/large", large)
    app.router.add_get("/known", known)
    app.router.add_post("/post", post)
    times = {"head_seconds": 0.3, "stalled_seconds": 0.3}
    listener = HttpListener(Listen("127.0.0.1", 0), stop_seconds=1.0, **times | limits)
    async with leaving_nothing():
        await listener.start(app)
        try:
            yield listener
        finally:
            await listener.stop()


@contextlib.asynccontextmanager
async def connected(listener, **more):
    """A connection to it, as a reader and a writer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port, **more)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def ended(reader):
    """What comes until the other side ends the connection."""
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionError):
            return await reader.read()
    return b""


async def status(reader):
    """The status of the next answer."""
    async with asyncio.timeout(10):
        line = await reader.readline()
    return int(line.split()[1])


@pytest.mark.parametrize("first", [b"", b"GET /pa", GET])
async def test_a_head_that_does_not_come_whole_ends_its_connection(first):
    """Whoever sends nothing, or goes on a byte at a time without an end, is cut when the time for a head is over."""
    async with listening() as listener, connected(listener) as (reader, writer):
        writer.write(first)

        async def trickle():
            with contextlib.suppress(ConnectionError):
                while True:
                    writer.write(b"a" if first else b"")
                    await writer.drain()
                    await asyncio.sleep(0.02)

        trickling = asyncio.create_task(trickle())
        assert await ended(reader) == b""
        trickling.cancel()
        await asyncio.gather(trickling, return_exceptions=True)
        await until(lambda: listener.connections == 0)


async def test_an_idle_connection_ends_and_a_busy_one_stays():
    """The time begins anew with each answer."""
    async with listening() as listener, connected(listener) as (reader, writer):
        for _ in range(5):
            writer.write(GET + b"\r\n")
            assert await status(reader) == 200
            await reader.readuntil(b"here")
            await asyncio.sleep(0.1)
        assert await ended(reader) == b""


async def test_a_peer_that_does_not_read_its_answer_is_cut():
    """An answer that nobody takes off the line holds its connection no longer than the time for that."""
    with socket.socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.setblocking(False)
        async with listening() as listener:
            loop = asyncio.get_running_loop()
            await loop.sock_connect(peer, ("127.0.0.1", listener.port))
            await loop.sock_sendall(peer, b"GET /large HTTP/1.1\r\nHost: here\r\n\r\n")
            await until(lambda: listener.connections == 1)
            await until(lambda: listener.connections == 0)


async def test_an_answer_that_is_read_arrives_whole():
    """However large it is, and the connection serves the next request."""
    async with listening(stalled_seconds=20, head_seconds=20) as listener, connected(listener) as (reader, writer):
        for _ in range(2):
            writer.write(b"GET /large HTTP/1.1\r\nHost: here\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(len(LARGE)) == LARGE


async def test_beyond_the_cap_the_oldest_stranger_makes_room():
    """Whoever holds all places with connections keeps nobody out, and does not push out those who are known."""
    async with listening(connections=2, head_seconds=5) as listener, connected(listener) as (reader, writer):
        writer.write(b"GET /known HTTP/1.1\r\nHost: here\r\n\r\n")
        assert await status(reader) == 200
        await reader.readuntil(b"known")
        async with connected(listener) as (first, _):
            await until(lambda: listener.connections == 2)
            for _ in range(5):
                async with connected(listener) as (other, asking):
                    assert await ended(first) == b""
                    asking.write(GET + b"\r\n")
                    assert await status(other) == 200
                    assert listener.connections == 2
        writer.write(GET + b"\r\n")
        assert await status(reader) == 200
    await until(lambda: listener.connections == 0)


async def test_beyond_the_cap_a_stranger_is_closed_where_all_are_known():
    """A place of somebody who has shown who he is goes to nobody."""
    async with listening(connections=1, head_seconds=5) as listener, connected(listener) as (reader, writer):
        for _ in range(2):
            writer.write(b"GET /known HTTP/1.1\r\nHost: here\r\n\r\n")
            assert await status(reader) == 200
            await reader.readuntil(b"known")
            async with connected(listener) as (refused, _):
                assert await ended(refused) == b""


async def test_heads_that_are_refused_leave_little_behind():
    """A head that is too long is not read on, and little of it waits for the garbage collector."""
    line = b"X-Long: " + b"z" * 65_000 + b"\r\n"
    async with listening() as listener:

        async def refused(_number):
            async with connected(listener) as (reader, writer):
                writer.write(GET + line * 30)
                assert await ended(reader) is not None

        await refused(0)
        gc.collect()
        gc.disable()
        tracemalloc.start()
        try:
            await asyncio.gather(*map(refused, range(20)))
            await until(lambda: listener.connections == 0)
            kept, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
            gc.enable()
    assert kept < 20 * 48 * 1024


async def test_heads_are_limited_in_length_and_number():
    """A header that is too long, or too many of them, is refused before anything is done with it."""
    lines = {
        b"X-Long: " + b"a" * 5000 + b"\r\n": 400,
        b"".join(b"X-%d: a\r\n" % number for number in range(200)): 400,
        b"".join(b"X-%d: a\r\n" % number for number in range(20)): 200,
    }
    async with listening() as listener:
        for line, expected in lines.items():
            async with connected(listener) as (reader, writer):
                writer.write(GET + line + b"\r\n")
                assert await status(reader) == expected


async def test_a_body_that_does_not_come_after_the_answer_ends_the_connection():
    """Who announces a body that the page does not read is answered, and does not hold the connection for it."""
    async with listening() as listener, connected(listener) as (reader, writer):
        writer.write(b"GET /page HTTP/1.1\r\nHost: here\r\nContent-Length: 1000000\r\n\r\nabc")
        assert await status(reader) == 200
        await ended(reader)
        await until(lambda: listener.connections == 0)


@pytest.fixture(scope="module")
def authority():
    """A CA, and a certificate of it."""
    ca = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("localhost").configure_cert(server)
    client = ssl.create_default_context()
    ca.configure_trust(client)
    return server, client


def test_the_push_port_offers_no_cipher_that_only_hides(tmp_path):
    """Each one also proves that nothing was changed, with keys that nobody can find out later."""
    pair = trustme.CA().issue_cert("localhost")
    pair.private_key_pem.write_to_path(tmp_path / "key")
    pair.cert_chain_pems[0].write_to_path(tmp_path / "certificate")
    context = PushCertificate(ServerTls(tmp_path / "certificate", tmp_path / "key")).context
    offered = context.get_ciphers()
    assert all(one["aead"] and (one["kea"] == "kx-ecdhe" or one["protocol"] == "TLSv1.3") for one in offered), offered
    assert {one["protocol"] for one in offered} == {"TLSv1.2", "TLSv1.3"}


async def test_tls_that_does_not_come_about_takes_a_place_and_gives_it_back(authority):
    """A connection counts from its first packet; one that speaks no TLS, or is closed, leaves nothing held."""
    server, client = authority
    async with listening(connections=2, tls=lambda: server) as listener:
        async with connected(listener) as (silent, _), connected(listener) as (reader, writer):
            await until(lambda: listener.connections == 2)
            writer.write(GET + b"\r\n")  # no TLS
            await ended(reader)
            await until(lambda: listener.connections == 1)
            async with connected(listener), connected(listener):
                assert await ended(silent) == b""
            await until(lambda: listener.connections == 0)
            async with connected(listener, ssl=client, server_hostname="localhost") as (secured, asking):
                asking.write(GET + b"\r\n")
                assert await status(secured) == 200
        await until(lambda: listener.connections == 0)


async def test_a_request_right_behind_the_handshake_is_served(authority):
    """Many clients over TLS at once, each with a body that comes with the last packet of its handshake."""
    server, client = authority
    async with listening(tls=lambda: server) as listener:
        connector = aiohttp.TCPConnector(ssl=client, force_close=True)
        async with aiohttp.ClientSession(connector=connector) as session:

            async def one(number):
                url = f"https://localhost:{listener.port}/post"
                async with session.post(url, data=b"x" * (number * 10_000), server_hostname="localhost") as reply:
                    return await reply.text()

            assert await asyncio.gather(*map(one, range(20))) == [str(number * 10_000) for number in range(20)]


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_tls_comes_about_on_every_event_loop(authority, run):
    """On uvloop the first bytes of a connection come before TLS can be begun on it: they must not get lost."""
    server, client = authority

    async def ask():
        async with (
            listening(tls=lambda: server) as listener,
            connected(listener, ssl=client, server_hostname="localhost") as (reader, writer),
        ):
            writer.write(GET + b"Connection: close\r\n\r\n")
            return await ended(reader)

    assert run(ask()).endswith(b"here")


async def test_stopping_ends_handshakes_that_are_under_way(authority):
    """A peer that connected and says nothing does not keep the process from ending."""
    server, _ = authority
    async with listening(tls=lambda: server) as listener, connected(listener) as (reader, _):
        await until(lambda: listener.connections == 1)
        await listener.stop()
        assert await ended(reader) == b""
