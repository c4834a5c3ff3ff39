"""The same in short for the HTTP ports: the one of operators, and the one that gateways push to."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

from bench.abuse.wire import Wire, close_all

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bench.abuse.attacks import Port, Seen

_TICK_SECONDS: Final = 0.1


async def slow_heads(port: Port) -> Seen:
    """Heads that come byte by byte and never end (slowloris)."""
    wires = await port.wires(port.times(500), greets=False, answers=False)
    head = b"POST /events HTTP/1.1\r\nHost: a\r\nX-Slow: "
    ends = time.monotonic() + port.hold_seconds
    await asyncio.gather(*(one.send(head) for one in wires))
    while time.monotonic() < ends:
        await asyncio.gather(*(one.send(b"x") for one in wires))
        await asyncio.sleep(_TICK_SECONDS)
    return await _left(wires)


async def slow_bodies(port: Port) -> Seen:
    """Requests whose body never comes."""
    wires = await port.wires(port.times(500), greets=False, answers=False)
    head = b"POST /events HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n{"
    await asyncio.gather(*(one.send(head) for one in wires))
    await asyncio.sleep(port.hold_seconds)
    return await _left(wires)


async def silent_connections(port: Port) -> Seen:
    """Thousands of connections without a word."""
    wires = await port.wires(port.times(5000), greets=False, answers=False)
    await asyncio.sleep(port.hold_seconds)
    return await _left(wires)


async def long_heads(port: Port) -> Seen:
    """Heads of megabytes."""
    wires = await port.wires(port.times(50), greets=False, answers=False)
    line = b"X-Long: " + b"y" * 65_000 + b"\r\n"

    async def one_head(wire: Wire) -> None:
        await wire.send(b"GET /livez HTTP/1.1\r\nHost: a\r\n")
        for _ in range(port.times(32)):
            if not await wire.send(line):
                return

    await asyncio.gather(*map(one_head, wires))
    await asyncio.sleep(min(1.0, port.hold_seconds))
    return await _left(wires)


async def unread_pages(port: Port) -> Seen:
    """Pages that are asked for a thousand times on a connection, and never read."""
    wires = await port.wires(port.times(20), greets=False, answers=False)
    for one in wires:
        one.deafen()
    asked = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n" * port.times(1000)
    await asyncio.gather(*(one.send_some(asked, port.hold_seconds) for one in wires))
    await asyncio.sleep(port.hold_seconds)
    return await _left(wires)


async def _left(wires: list[Wire]) -> Seen:
    seen: Seen = Counter({"connections": len(wires), "closed by the server": sum(one.closed.is_set() for one in wires)})
    await close_all(wires)
    return seen


HTTP_ATTACKS: Final[dict[str, Callable[[Port], Awaitable[Seen]]]] = {
    one.__name__: one for one in (slow_heads, slow_bodies, silent_connections, long_heads, unread_pages)
}
