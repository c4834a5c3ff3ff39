"""The HTTP leg alone: our connections beside the clients that one would take, for commands and for held polls."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.children import Child
from bench.speed.cpu import cpu_seconds
from bench.speed.figures import ROUNDS, Goal, Ratio, Reading, Section, in_turns
from bench.speed.http_leg_child import CLIENTS

if TYPE_CHECKING:
    from collections.abc import Mapping

_COMMAND: Final = "python -m bench.speed --only http_leg"
_OURS: Final = "ours"
_AT_ONCE: Final = (1, 32, 64)
#: kB that a held poll may hold, of the 60 that all of it may.
_MOST_KB: Final = 20.0


@dataclass(frozen=True, slots=True)
class Size:
    """How much is done: commands a round, polls, seconds that one is held, and seconds of one look at them."""

    commands: int
    polls: int
    #: httpx walks through all connections for each request: with more it is late for its own polls.
    polls_of_httpx: int
    hold_seconds: float
    window_seconds: float
    rounds: int

    def polls_of(self, client: str) -> int:
        """Return how many polls a client holds."""
        return self.polls_of_httpx if client == "httpx" else self.polls


_FULL: Final = Size(commands=800, polls=2000, polls_of_httpx=400, hold_seconds=10.0, window_seconds=5.0, rounds=ROUNDS)
_QUICK: Final = Size(commands=120, polls=200, polls_of_httpx=40, hold_seconds=1.0, window_seconds=0.5, rounds=3)

_BEFORE: Final = """
Each client is a process on uvloop before the same stub, with the same headers; ours is the adapter's transport with the
gates, deadlines and rules that it has there: one inspector a connection, sent once, told when bytes may go out. The
others keep what they connect and have no bound. A command is a `PUT` that is answered at once with 28 bytes.
"""
_AFTER: Final = """
A poll's memory is what the process grows by when it holds them, its task included, by the poll. httpx holds
{few} polls and the others {many}: it looks through all of its connections for each request. A held poll of ours has a
connection, a future and a place in one of some 60 timers; the parser of its reply is made when the first byte comes.
Over TLS a poll holds as much more as the TLS of the event loop takes, which is not measured here: asyncio's own has a
buffer of 256 KiB for each connection, uvloop (the extra `fast`) needs less ([limits.md](limits.md)).

aiohttp remains in the product as a server (operations, push, simulator) and for what is fetched now and then: a token
issuer's keys, and the checks of `qc-adapter check --connect`.
"""


async def measure(*, quick: bool) -> Section:
    """Measure commands in turns, then polls of all clients side by side."""
    size = _QUICK if quick else _FULL
    async with contextlib.AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="qc-http-leg-"))
        children = await _start(stack, Path(folder), size)
        ratios = await _commands(children, size)
        polls, readings = await _polls(children, size)
    return Section(
        key="http_leg",
        title="The HTTP leg",
        command=_COMMAND,
        ratios=(*ratios, *polls),
        readings=tuple(readings),
        before=_BEFORE,
        after=_AFTER.format(few=size.polls_of_httpx, many=size.polls),
    )


async def _start(stack: contextlib.AsyncExitStack, folder: Path, size: Size) -> dict[str, Child]:
    """Start a stub, and a process for each client."""
    gateway = await Child.start(
        "lean_gateway_child", "--hold", str(size.hold_seconds), errors=folder / "gateway.err", environment={}
    )
    stack.push_async_callback(gateway.stop)
    url = str(await gateway.ask("url"))
    children = {}
    for name in CLIENTS:
        child = await Child.start("speed.http_leg_child", name, url, errors=folder / f"{name}.err", environment={})
        stack.push_async_callback(child.stop)
        children[name] = child
    await asyncio.gather(*(child.ask("polled") for child in children.values()))  # then all have begun
    return children


async def _commands(children: Mapping[str, Child], size: Size) -> list[Ratio]:
    found = []
    for at_once in _AT_ONCE:

        async def one(child: Child, at_once: int) -> float:
            return float(await child.ask("run", str(size.commands), str(at_once)))

        measures = {name: partial(one, child, at_once) for name, child in children.items()}
        for warm in measures.values():
            await warm()
        found += _against(f"a command, {at_once} at once", "CPU us", await in_turns(measures, size.rounds))
    return found


async def _polls(children: Mapping[str, Child], size: Size) -> tuple[list[Ratio], list[Reading]]:
    """Let all hold their polls at the same time, and look at all of them again and again."""
    empty = {}
    for name, child in children.items():
        objects = await child.ask("objects")
        empty[name] = (child.footprint().rss_bytes, objects)
    ramp = (child.ask("hold", str(size.polls_of(name)), str(size.hold_seconds)) for name, child in children.items())
    await asyncio.gather(*ramp)
    await asyncio.sleep(size.hold_seconds / 2)
    windows = [await _window(children, size.window_seconds) for _ in range(size.rounds)]
    readings = []
    for name, child in children.items():
        if failed := await child.ask("failed"):
            raise RuntimeError(f"{failed} polls of {name} have failed")
        rss, tracked = empty[name]
        polls, goal = size.polls_of(name), Goal(at_most=_MOST_KB) if name == _OURS else None
        kilobytes = (child.footprint().rss_bytes - rss) / polls / 1000
        visited = (await child.ask("objects") - tracked) / polls
        readings.append(Reading(f"a held poll: {name}", "kB", (kilobytes,), goal))
        readings.append(Reading(f"objects of a held poll that the collector visits: {name}", "", (visited,)))
    return _against("a poll", "CPU us", {name: tuple(one[name] for one in windows) for name in children}), readings


async def _window(children: Mapping[str, Child], seconds: float) -> dict[str, float]:
    """Return the CPU microseconds that each paid for a poll within some seconds."""

    async def now() -> dict[str, tuple[float, int]]:
        return {name: (cpu_seconds(child.pid), await child.ask("polled")) for name, child in children.items()}

    before = after = await now()
    while any(after[name][1] == before[name][1] for name in children):  # once, on a machine that is not overrun
        await asyncio.sleep(seconds)
        after = await now()
    return {name: (after[name][0] - before[name][0]) / (after[name][1] - before[name][1]) * 1e6 for name in children}


def _against(what: str, unit: str, values: Mapping[str, tuple[float, ...]]) -> list[Ratio]:
    return [
        Ratio(f"{what}: {name}", name, _OURS, unit, values[name], values[_OURS]) for name in values if name != _OURS
    ]
