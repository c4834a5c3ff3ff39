"""Parent side of the load: makes a server busy with calls, and reads what they cost it."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench.children import Child
from bench.speed.cpu import cpu_seconds

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from bench.speed.sides import Side

#: Connections that calls are spread over; a client's library has one for each server.
CONNECTIONS: Final = 4
#: So many calls before those that are measured.
WARM_UP: Final = 32
_SETTLE_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 0.002


@dataclass(frozen=True, slots=True)
class Batch:
    """What calls have cost: CPU of the server and of the load generator, and the caller's time, for each call."""

    server_us: float
    loader_us: float
    per_second: float
    p50_ms: float
    p99_ms: float
    #: Of the messages of an answer, with their five bytes of length.
    answer_bytes: float


class Load:
    """A process of the load generator, and the gateway whose events have to be taken before a call is paid for."""

    def __init__(self, child: Child, gateway: Child) -> None:
        self._child = child
        self._gateway = gateway

    async def batch(self, side: Side, kind: str, at_once: int, calls: int, *, quiet: bool = False) -> Batch:
        """
        Make calls, so many at once, for inspectors without events if it is to be `quiet`.

        The server's CPU is counted until all events are taken that its calls brought about. Raises RuntimeError if
        any call fails.
        """
        first_agent = side.first_quiet if quiet else side.first_agent
        await self._child.ask("open", str(side.port), side.instead.get(kind, kind), str(min(CONNECTIONS, at_once)))
        arguments = ("run", str(first_agent), str(at_once * side.turns), str(at_once))
        await self._ask(*arguments, str(min(at_once, WARM_UP)))
        await self._settled()
        before = cpu_seconds(side.pid)
        found = await self._ask(*arguments, str(calls))
        await self._settled()
        spent = cpu_seconds(side.pid) - before
        await self._child.ask("close")
        return Batch(
            server_us=spent / calls * 1e6,
            loader_us=found["own_cpu"] / calls * 1e6,
            per_second=calls / found["took"],
            p50_ms=found["p50"] * 1e3,
            p99_ms=found["p99"] * 1e3,
            answer_bytes=found["bytes"],
        )

    async def _settled(self) -> None:
        async with asyncio.timeout(_SETTLE_SECONDS):
            while (await self._gateway.ask("counts"))["waiting"]:  # noqa: ASYNC110 - it is another process
                await asyncio.sleep(_LOOK_SECONDS)

    async def _ask(self, *question: str) -> dict[str, float]:
        found: dict[str, float] = await self._child.ask(*question)
        if "failure" in found:
            raise RuntimeError(f"the load generator gave up: {found['failure']}")
        return found


@contextlib.asynccontextmanager
async def load_generator(folder: Path, gateway: Child) -> AsyncIterator[Load]:
    """Run one for servers before that gateway."""
    child = await Child.start("speed.loader_child", errors=folder / "loader.err", environment={})
    try:
        yield Load(child, gateway)
    finally:
        if await child.stop():
            print(child.errors())
