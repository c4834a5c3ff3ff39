"""
More than one core: another process on the same port, or another replica with an address of its own.

The same calls are made to one process, to two behind one port (SO_REUSEPORT), and to two with a port each, as two pods
have; all with Redis. CPU tells what a call costs more when a second process takes part; how the kernel deals
connections out, what a second process behind a port is worth.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import statistics
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.children import MIB
from bench.speed import workers
from bench.speed.figures import ROUNDS, Ratio, Reading, Section, Table, in_turns
from bench.speed.workers import Plan

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bench.speed.workers import Turn, Workers

    Turns = dict[str, tuple[Turn, ...]]

#: Even among two, and among three plans of each.
INSPECTORS: Final = 66
#: Connections of the measured calls, of so many clients.
LINES: Final = 16
#: Connections whose places are looked at.
CLIENTS: Final = (1, 4, 16, 64)
#: What a pod with two cores can have: one process, two behind a port, two with a port each.
ONE, SHARED, APART = "one process", "two, one port", "two, a port each"
#: Where the calls for an inspector go.
_OWN, _OTHER, _BOTH = "to the process that reads for it", "to the other one", "to both in turns"
_SETTLE_SECONDS: Final = 5.0


async def measure(*, quick: bool) -> Section:
    """Measure all arrangements in turns."""
    calls, draws, rounds = (132, 20, 3) if quick else (792, 200, ROUNDS)
    with tempfile.TemporaryDirectory(prefix="qc-cores-") as folder:
        async with contextlib.AsyncExitStack() as stack:
            one, shared, apart = [
                await stack.enter_async_context(made)
                for made in (
                    workers.workers(1, INSPECTORS, Path(folder, "one")),
                    workers.workers(2, INSPECTORS, Path(folder, "shared"), one_port=True),
                    workers.workers(2, INSPECTORS, Path(folder, "apart")),
                )
            ]
            memory = [(workers.own_bytes(child.pid), child.footprint().rss_bytes) for child in apart.adapters]
            shares = {number: await _draws(shared, number, draws) for number in CLIENTS}
            # First: a process that had a call for an inspector follows its events for a minute.
            ways = await _ways(apart, calls, rounds)
            turns = await _arrangements({ONE: one, SHARED: shared, APART: apart}, calls, rounds)
    return _section(turns, ways, shares, memory)


async def _arrangements(of: dict[str, Workers], calls: int, rounds: int) -> Turns:
    """Make the same calls to each, over as many connections."""
    agents = workers.names(INSPECTORS)

    async def taken(there: Workers) -> Turn:
        # Other connections each time: to which process one goes is left to chance.
        lines = await there.connect(LINES)
        try:
            return await there.take([Plan(lines, agents)], calls)
        finally:
            for line in lines:
                line.close()

    return await _warm({name: partial(taken, there) for name, there in of.items()}, rounds)


async def _ways(pair: Workers, calls: int, rounds: int) -> Turns:
    """Make calls where the events are read, at the other process, and at both, for inspectors of their own."""
    lines = [await pair.connect(LINES // 2, [port]) for port in pair.ports]
    thirds = [[pair.reads(number)[part::3] for number in (0, 1)] for part in range(3)]
    both = [line for two in zip(*lines, strict=True) for line in two]
    plans = {
        _OWN: [Plan(lines[0], thirds[0][0]), Plan(lines[1], thirds[0][1])],
        _OTHER: [Plan(lines[1], thirds[1][0]), Plan(lines[0], thirds[1][1])],
        _BOTH: [Plan(both, [*thirds[2][0], *thirds[2][1]])],
    }
    try:
        return await _warm({name: partial(pair.take, plan, calls) for name, plan in plans.items()}, rounds)
    finally:
        for line in both:
            line.close()


async def _warm(measures: dict[str, Callable[[], Awaitable[Turn]]], rounds: int) -> Turns:
    """Take all turns, and one round before that does not count."""
    await in_turns(measures, 1)
    return await in_turns(measures, rounds)


async def _draws(shared: Workers, number: int, draws: int) -> list[float]:
    """Open so many connections, and again; return the part of them that the busier process had."""
    found = []
    pids = [child.pid for child in shared.adapters]
    for _ in range(draws):
        before = set().union(*map(workers.sockets_of, pids))
        streams = await asyncio.gather(*(asyncio.open_connection("127.0.0.1", shared.ports[0]) for _ in range(number)))
        taken = partial(_taken, pids, before)
        await workers.until(lambda taken=taken: sum(taken()) >= number, _SETTLE_SECONDS)
        had = taken()
        found.append(max(had) / sum(had))
        for _, writer in streams:
            writer.close()
    return found


def _taken(pids: list[int], before: set[str]) -> list[int]:
    return [len(workers.sockets_of(pid) - before) for pid in pids]


def by_chance(number: int) -> float:
    """Return the mean part of the busier of two, when each of so many falls to either by chance."""
    return sum(math.comb(number, one) * max(one, number - one) for one in range(number + 1)) / 2**number / number


def _section(
    turns: Turns,
    ways: Turns,
    shares: dict[int, list[float]],
    memory: list[tuple[int, int]],
) -> Section:
    base = turns[ONE]
    ratios = []
    for name in (SHARED, APART):
        ratios.append(_ratio("CPU of the adapters", turns, (name, ONE), "us a call", _cpu))
        ratios.append(_ratio("CPU of Redis", turns, (name, ONE), "us a call", _redis))
        ratios.append(_ratio("calls a second, load and all on two cores", turns, (name, ONE), "1/s", _speed))
    for name in (_OTHER, _BOTH):
        ratios.append(_ratio("CPU of two adapters, calls", ways, (name, _OWN), "us a call", _cpu))
        ratios.append(_ratio("CPU of Redis, calls", ways, (name, _OWN), "us a call", _redis))
    readings = (
        Reading(
            "cores that one process takes at its busiest",
            "cores",
            tuple(t.cpu * t.calls_per_second / 1e6 for t in base),
        ),
        Reading(
            "part of the CPU that the busier process of two behind a port spends",
            f"with {LINES} connections",
            tuple(max(t.adapters) / t.cpu for t in turns[SHARED]),
        ),
        Reading("memory of one more process that it shares with none", "MiB", tuple(own / MIB for own, _ in memory)),
        Reading("all memory of it, with what is shared", "MiB", tuple(rss / MIB for _, rss in memory)),
    )
    return Section(
        key="cores",
        title="More than one core",
        command="python -m bench.speed --only cores",
        ratios=tuple(ratios),
        readings=readings,
        tables=(_dealt(shares),),
        before=_BEFORE,
        after=_AFTER,
    )


def _cpu(turn: Turn) -> float:
    return turn.cpu


def _redis(turn: Turn) -> float:
    return turn.redis


def _speed(turn: Turn) -> float:
    return turn.calls_per_second


def _ratio(name: str, turns: Turns, sides: tuple[str, str], unit: str, value: Callable[[Turn], float]) -> Ratio:
    subject, base = sides
    return Ratio(name, subject, base, unit, tuple(map(value, turns[subject])), tuple(map(value, turns[base])))


def _dealt(shares: dict[int, list[float]]) -> Table:
    rows = tuple(
        (
            str(number),
            f"{statistics.mean(found):.0%} ({min(found):.0%} to {max(found):.0%})",
            f"{by_chance(number):.0%}",
            f"{0.5 / statistics.mean(found):.0%} ({0.5 / max(found):.0%} at worst)",
        )
        for number, found in shares.items()
    )
    columns = ("connections", "the busier process has, on average", "by pure chance", "of two processes is used")
    return Table("How the kernel deals connections out to two processes behind a port", columns, rows)


_BEFORE: Final = """
A process of the adapter uses one core. What to do with more of them: one process a pod and more pods, or several
processes behind the port of one pod? Each is a replica with its share of the inspectors either way. All are measured
with Redis, by Intercepts with their events. Two processes behind one port, and two with a port each, as two pods have,
get calls for the same inspectors in turns.
"""
_AFTER: Final = """
A process that had a call for an inspector follows its events for a minute, also when another reads them; so it matters
to the CPU how calls are dealt out, as much as the ratios of two adapters say. Calls a second are those of a machine
with two cores that also runs the callers, the gateway and Redis; they say what this machine gives, not what two
processes can do.

What a port for two is worth is in the last table. A gRPC client keeps one connection, and the kernel decides by its
addresses alone which process gets it, for as long as it lasts. When the busier process is full, its callers wait, also
while the other one rests; the last column is computed from the shares: what is used of two processes then. A client
that knows the addresses of pods can give each its turn, call by call. The decision, and what else speaks for it, is in
[decisions.md](decisions.md).
"""
