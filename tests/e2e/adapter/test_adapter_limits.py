"""Limits of the settings, and of the gRPC port, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from bench.abuse.attacks import GET
from bench.abuse.wire import INITIAL_WINDOW_SIZE, Wire
from qc_adapter.rpc import open_services, server
from qc_adapter.v1 import sessions_pb2
from tests.support.watching import until

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\0\0\0\4\0\0\0\0\0"
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_request_that_is_too_long_is_told_so_and_one_far_too_long_is_not_read(open_site):
    """Up to twice the limit the answer is ours, with size and limit; beyond that it is the library's. Calls go on."""
    site = await open_site(QC_MESSAGE_BYTES="4096")
    assert (await site.ending(site.sign_in())).code is grpc.StatusCode.OK
    long = await site.ending(site.intercept(request_id="x" * 5000))
    assert (long.code, long.reason, long.metadata["limit"]) == (EXHAUSTED, "LIMIT_REACHED", "message_bytes")
    assert (long.retry, "4096" in long.message) == (False, True)
    far = await site.ending(site.intercept(request_id="x" * 10_000))
    assert (far.code, far.reason) == (EXHAUSTED, None)
    assert 'qc_calls_refused_total{caller="none",why="message_bytes"} 1.0' in await site.page("/metrics")
    await site.goes_on()


async def test_streams_of_an_inspector_are_limited_and_make_room(open_site):
    """A second stream of the inspector is refused, one of another is not; when the first ends there is room again."""
    site = await open_site(QC_STREAMS_PER_INSPECTOR="1")
    for agent_id in ("101", "102"):
        assert (await site.ending(site.sign_in(agent_id))).code is grpc.StatusCode.OK
    first = site.watch("101")
    assert await first.read()
    refused = await site.ending(site.watch("default/101"))
    assert (refused.code, refused.metadata["limit"], refused.retry) == (EXHAUSTED, "streams_per_inspector", True)
    other = site.watch("102")
    assert await other.read()
    first.cancel()

    async def again():
        watching = site.watch("101")
        found = await watching.read()
        watching.cancel()
        return found

    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError):
                assert await again()
                break
    other.cancel()


async def test_calls_a_second_of_all_callers_are_limited(open_site):
    """Beyond the rate a call is refused with the time to wait, and is let in when that is over."""
    site = await open_site(QC_CALLS_PER_SECOND="2")
    endings = [await site.ending(site.get()) for _ in range(20)]
    refused = [one for one in endings if one.code is EXHAUSTED]
    assert refused
    assert {(one.reason, one.metadata["limit"], one.retry) for one in refused} == {
        ("LIMIT_REACHED", "calls_per_second", True)
    }
    lines = [line for line in site.calls if line.get("limit")]
    assert len(lines) < len(refused)
    assert lines[0]["trace_id"] == ""
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        while (await site.ending(site.get())).code is EXHAUSTED:
            pass


async def ended(port, first=b""):
    """Connect, send that, and return when the other side closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(first)
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(10):
            await reader.read()
    writer.close()


@pytest.fixture
def with_option(monkeypatch):
    """Give the server another value for one of its options."""

    def replaced(**values):
        options = [(name, values.pop(name.rpartition(".")[2], value)) for name, value in server._OPTIONS]
        assert values == {}
        monkeypatch.setattr(server, "_OPTIONS", tuple(options))

    return replaced


@pytest.mark.parametrize(
    ("option", "first"),
    [
        ("server_handshake_timeout_ms", b""),
        ("server_handshake_timeout_ms", PREFACE[:10]),
        ("settings_timeout", PREFACE + SETTINGS),
        ("max_connection_idle_ms", PREFACE + SETTINGS + b"\0\0\0\4\1\0\0\0\0"),
    ],
)
async def test_a_connection_that_does_not_go_on_is_closed(open_site, with_option, option, first):
    """Each step of a connection has its time: the first frame, the settings, the first call."""
    with_option(**{option: 300})
    site = await open_site()
    await ended(site.adapter.port, first)


async def test_an_open_stream_keeps_its_connection(open_site, with_option):
    """Only connections without a call are idle, however little a stream says."""
    with_option(max_connection_idle_ms=100)
    site = await open_site(QC_BOOKMARK_SECONDS="0.5")
    assert (await site.ending(site.sign_in())).code is grpc.StatusCode.OK
    watching = site.watch()
    for _ in range(4):
        assert await watching.read()
    watching.cancel()


async def test_connections_beyond_the_cap_are_closed_and_one_that_ends_makes_room(open_site, with_option):
    """The port holds so many and no more; callers that are connected notice nothing."""
    with_option(max_allowed_incoming_connections=2)
    site = await open_site()
    await site.ending(site.get())
    _, writer = await asyncio.open_connection("127.0.0.1", site.adapter.port)
    for _ in range(3):
        await ended(site.adapter.port)
    assert (await site.ending(site.get())).reason == "INSPECTOR_NOT_SIGNED_IN"
    writer.close()
    await writer.wait_closed()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{site.adapter.port}") as channel:
        async with asyncio.timeout(10):
            await channel.channel_ready()


async def test_headers_that_are_too_long_are_refused(open_site):
    """Nothing of a call with more than 16 KiB of headers is done, and the library says why."""
    site = await open_site()
    long = await site.ending(site.intercept(metadata=(("x-long", "x" * 17_000),)))
    assert (long.code, long.reason) == (EXHAUSTED, None)
    assert "metadata" in long.message
    await until(lambda: site.adapter.runner.in_flight == 0)


async def another(site, stack):
    """A channel with a connection of its own."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{site.adapter.port}", options=options)
    return await stack.enter_async_context(channel)


async def exploring(channel):
    """Begin to look at the schema; the stream stays open."""
    stream = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(timeout=20)
    await stream.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    return stream


async def test_idle_streams_of_the_schema_keep_nobody_waiting(open_site):
    """None of them holds a thread: all are answered, and names of hosts are looked up beside them."""
    site = await open_site()
    async with contextlib.AsyncExitStack() as stack:
        channel = await another(site, stack)
        streams = [await exploring(channel) for _ in range(32)]
        for stream in streams:
            assert (await stream.read()).HasField("list_services_response")
        assert await asyncio.get_running_loop().getaddrinfo("localhost", 1)


async def test_who_is_not_asked_for_a_name_cannot_take_the_place_of_calls(open_site, monkeypatch):
    """Streams of health and reflection are limited, of a connection and of all; what ends makes room."""
    monkeypatch.setattr(open_services, "_OF_A_CONNECTION", 2)
    monkeypatch.setattr(open_services, "MOST_OPEN", 3)
    site = await open_site()
    async with contextlib.AsyncExitStack() as stack:
        watches = [site.health.Watch(health_pb2.HealthCheckRequest(), timeout=20) for _ in range(2)]
        for one in watches:
            assert await one.read()
        third = await site.ending(site.health.Watch(health_pb2.HealthCheckRequest(), timeout=20))
        assert (third.code, "too many open calls" in third.message) == (EXHAUSTED, True)
        elsewhere = await another(site, stack)
        seen = await exploring(elsewhere)
        assert await seen.read()
        one_more = await exploring(await another(site, stack))
        assert (await one_more.code()) is EXHAUSTED
        fresh = health_pb2_grpc.HealthStub(await another(site, stack))
        assert (await fresh.Check(health_pb2.HealthCheckRequest(), timeout=20)).status
        assert (await site.ending(site.get())).reason == "INSPECTOR_NOT_SIGNED_IN"
        await seen.done_writing()
        assert await seen.code() is grpc.StatusCode.OK
        last = await exploring(elsewhere)
        assert await last.read()
        last.cancel()
        for one in watches:
            one.cancel()
        counts = site.adapter._server._calls._open_to_all
        await until(lambda: (counts._streams, counts._by_connection) == (0, {}), "no stream that is counted")


@pytest.mark.parametrize("path", [GET, "/grpc.health.v1.Health/Check"])
async def test_answers_that_nobody_reads_count_as_calls_under_way(open_site, monkeypatch, path):
    """A window that is shut keeps answers in memory: no more of them than a caller may have calls."""
    monkeypatch.setattr(open_services, "_OF_A_CONNECTION", 3)
    site = await open_site(QC_CALLS_MAX="3")
    assert (await site.ending(site.sign_in())).code is grpc.StatusCode.OK
    wire = await Wire.open("127.0.0.1", site.adapter.port, settings=[(INITIAL_WINDOW_SIZE, 0)])
    body = sessions_pb2.GetRequest(agent_id="101").SerializeToString() if path == GET else b""
    for _ in range(8):
        await wire.send(wire.call(path, body))
    await until(lambda: wire.seen["ended"] == 5, "five that are refused")
    if path == GET:
        assert (await site.ending(site.get())).metadata["limit"] == "calls"
    await wire.close()
    watchers, room = site.adapter._server._calls._open_to_all, site.adapter.gate._room
    await until(lambda: room.unused and not watchers._by_connection, "nothing that is held")
    assert (await site.ending(site.get())).code is grpc.StatusCode.OK
