"""What strangers and unread answers can hold of the gRPC port, which nobody has to sign in for."""

import asyncio
import struct

import grpc
import pytest

from bench.abuse.wire import INITIAL_WINDOW_SIZE, PREFACE, SETTINGS, Wire, close_all, frame, head_of
from qc_adapter.rpc import open_services

CHECK = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"
STALLED = [(INITIAL_WINDOW_SIZE, 0)]


@pytest.fixture
async def wires(nothing_leaks):
    """Opens connections that are closed at the end."""
    made = []

    async def opening(site, **how):
        made.append(await Wire.open("127.0.0.1", site.adapter.port, **how))
        return made[-1]

    yield opening
    await close_all(made)


def heads(wire, path, number):
    """Calls whose request does not come."""
    return b"".join(wire.begin(head_of(path))[1] for _ in range(number))


async def test_watchers_of_the_health_who_read_nothing_hold_up_nobody(site, wires, until):
    """Each watcher hears of it by itself, however long others do not read; and the process comes to its end."""
    stalled, other = await wires(site, settings=STALLED), await wires(site)
    await stalled.send(b"".join(stalled.call(WATCH) for _ in range(3)))
    await until(lambda: stalled.seen["answered"] == 3)
    await other.send(other.call(WATCH))
    await until(lambda: other.seen["answered"] == 1)


async def test_watchers_of_the_health_hear_of_a_change(open_site):
    """First the state, then each new one."""
    site = await open_site()
    call = site.channel.unary_stream(WATCH)(b"")

    first = await call.read()
    site.adapter._server.serving(serving=False)
    async with asyncio.timeout(10):
        assert await call.read() not in {first, grpc.aio.EOF}
    call.cancel()


async def test_what_anybody_may_call_takes_no_more_than_its_own_places(monkeypatch, open_site, wires, until):
    """A call whose request does not come counts from its head on, and ends; callers of ours do not notice."""
    monkeypatch.setattr(open_services, "MOST_OPEN", 3)
    monkeypatch.setattr(open_services, "_REQUEST_SECONDS", 0.5)
    site = await open_site()
    assert (await site.ending(site.sign_in())).code is grpc.StatusCode.OK
    half = await wires(site)
    await half.send(heads(half, CHECK, 5))
    await until(lambda: half.seen["ended"] == 2)
    assert (await site.ending(site.get("101"))).code is grpc.StatusCode.OK
    await until(lambda: half.seen["ended"] == 5)  # those whose request did not come
    assert await site.serving() == "SERVING"


async def test_one_connection_may_not_have_all_calls(site):
    """It is told so at its begin, and a call beyond that is not begun."""
    reader, writer = await asyncio.open_connection("127.0.0.1", site.adapter.port)
    writer.write(PREFACE + frame(SETTINGS, 0, 0))
    async with asyncio.timeout(10):
        head = await reader.readexactly(9)
        payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
    writer.close()
    assert head[3] == SETTINGS
    assert (3, 1000) in set(struct.iter_unpack(">HI", payload))
