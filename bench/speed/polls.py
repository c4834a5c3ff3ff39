"""One process that polls for very many inspectors: what that costs it, and what it costs events and commands."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.speed.figures import ROUNDS, Goal, Ratio, Reading, Section, Table
from bench.speed.poll_site import FIRST, Adapter, Commands, Gateways, Streams, until_held

#: Descriptors beside those of the polls: commands, callers, streams, files.
_SPARE_DESCRIPTORS: Final = 500
_COMMANDING: Final = 64


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    counts: tuple[int, ...]
    hold_seconds: float
    settle_seconds: float
    idle_seconds: float
    events_a_second: int
    commands_a_round: int
    away_seconds: float
    at_once: int = 4
    burst: int = 40


FULL: Final = Plan((5_000, 10_000, 20_000), 10.0, 11.0, 12.0, 300, 800, 5.0)
QUICK: Final = Plan((2_000,), 2.0, 0.2, 2.0, 100, 120, 2.0)


@dataclass(slots=True)
class Found:
    """What was measured with one number of inspectors."""

    count: int
    start_seconds: float = 0.0
    start_cpu_seconds: float = 0.0
    most_opened: int = 0
    kilobytes: float = 0.0
    core_percent: float = 0.0
    polls_a_second: float = 0.0
    microseconds: float = 0.0
    events_ms: tuple[tuple[float, float], ...] = ()
    with_polls_ms: list[float] = field(default_factory=list)
    without_ms: list[float] = field(default_factory=list)
    #: After the gateways were away: until all were polled for, connections opened in one second, lines logged.
    back_seconds: float = 0.0
    back_opened: int = 0
    back_lines: int = 0
    stop_seconds: float = 0.0


def quantile(values: list[float], share: float) -> float:
    """Return the value below which that share of them lies; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def most_in_a_second(moments: list[float]) -> int:
    """Return how many of them lie within one second at most."""
    first = most = 0
    for last, moment in enumerate(moments):
        while moments[first] <= moment - 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most


async def measure_count(plan: Plan, count: int) -> Found:
    """Start an adapter with so many sessions, and one that polls for nobody; ask both in turns; end them."""
    found = Found(count)
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="qc-polls-")))
        gateways = await Gateways.start(folder, stack, plan.hold_seconds)
        alone = await Adapter.start("alone", folder, gateways, stack)
        await alone.sign_in(2 * _COMMANDING, "none")
        polling = await Adapter.start("polling", folder, gateways, stack)
        await _start_up(found, polling, gateways)
        await asyncio.sleep(plan.settle_seconds)
        empty = await _idle(found, plan, polling, gateways)
        found.kilobytes = (polling.child.footprint().rss_bytes - empty) / count / 1000
        await _events_and_commands(found, plan, polling, alone, gateways)
        await _outage(found, plan, polling, gateways)
        began = time.monotonic()
        await polling.child.stop()
        found.stop_seconds = time.monotonic() - began
    return found


async def _start_up(found: Found, polling: Adapter, gateways: Gateways) -> None:
    await gateways.opened()
    before = polling.child.footprint()
    await polling.sign_in(found.count)
    found.start_seconds = await until_held(gateways, found.count)
    found.start_cpu_seconds = polling.child.footprint().cpu_seconds - before.cpu_seconds
    found.most_opened = most_in_a_second(await gateways.opened())
    found.kilobytes = before.rss_bytes


async def _idle(found: Found, plan: Plan, polling: Adapter, gateways: Gateways) -> float:
    """Let polls come and go for a while; returns the bytes of memory before there was one."""
    cpu, polls, began = polling.child.footprint().cpu_seconds, await gateways.count("polls"), time.monotonic()
    await asyncio.sleep(plan.idle_seconds)
    seconds = polling.child.footprint().cpu_seconds - cpu
    polled, took = await gateways.count("polls") - polls, time.monotonic() - began
    found.core_percent, found.polls_a_second = 100 * seconds / took, polled / took
    found.microseconds = 1e6 * seconds / max(1, polled)
    return found.kilobytes


async def _events_and_commands(found: Found, plan: Plan, polling: Adapter, alone: Adapter, gateways: Gateways) -> None:
    """Give inspectors events all the time, and send commands in short bursts to one process and the other."""
    streams = Streams()
    watched = plan.events_a_second // 2  # of each gateway
    await streams.open(polling, watched, first=FIRST + _COMMANDING)
    await gateways.all("tell", str(FIRST + _COMMANDING), str(watched), "120")
    sides = Commands(polling, _COMMANDING), Commands(alone, _COMMANDING)
    for side in sides:
        await side.burst(plan.burst, plan.at_once)
    events = []
    for number in range(ROUNDS):
        streams.seconds.clear()
        took: tuple[list[float], list[float]] = ([], [])
        for turn in range(plan.commands_a_round // plan.burst):
            for which in (0, 1) if (turn + number) % 2 else (1, 0):
                took[which].extend(await sides[which].burst(plan.burst, plan.at_once))
        found.with_polls_ms.append(1000 * quantile(took[0], 0.99))
        found.without_ms.append(1000 * quantile(took[1], 0.99))
        events.append((1000 * quantile(streams.seconds, 0.5), 1000 * quantile(streams.seconds, 0.99)))
    found.events_ms = tuple(events)
    await streams.close()
    await gateways.all("quiet")


async def _outage(found: Found, plan: Plan, polling: Adapter, gateways: Gateways) -> None:
    """Have the gateways cut everything and refuse connections for a while."""
    lines = polling.lines()
    await gateways.opened()
    await gateways.all("go_away", str(plan.away_seconds))
    await asyncio.sleep(plan.away_seconds)
    found.back_seconds = await until_held(gateways, found.count)
    found.back_opened = most_in_a_second(await gateways.opened())
    found.back_lines = polling.lines() - lines


def possible(counts: tuple[int, ...]) -> tuple[tuple[int, ...], str]:
    """Return the numbers that this machine's limit of descriptors lets be measured, and a sentence about it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    most = hard - _SPARE_DESCRIPTORS
    told = f"A process may have {hard:,} descriptors here (the soft limit, {soft:,}, was raised to it)"
    if max(counts) <= most:
        return counts, f"{told}."
    fewer = tuple(min(count, most // 100 * 100) for count in counts)
    return fewer, f"{told}: too few for {max(counts):,} polls, so {max(fewer):,} were measured in their place."


async def measure(*, quick: bool) -> Section:
    """Measure each number of inspectors with processes of its own."""
    plan = QUICK if quick else FULL
    counts, descriptors = possible(plan.counts)
    return section(plan, [await measure_count(plan, count) for count in counts], descriptors)


def section(plan: Plan, found: list[Found], descriptors: str) -> Section:
    """Put what was found into figures."""
    last = found[-1]
    ratio = Ratio(
        f"commands with {last.count:,} polls open: p99 of the receipt",
        f"a process that polls for {last.count:,}",
        "one that polls for nobody, asked in turns",
        "ms",
        tuple(last.with_polls_ms),
        tuple(last.without_ms),
        Goal(at_most=1.5),
    )
    before = (
        f"Polls are held for {plan.hold_seconds:g} s with a pause of 0.2 s. Two stub gateways, each a process with a "
        f"loopback address of its own, hold them; the adapter runs with a store in memory, on uvloop, as `serve` does. "
        f"{descriptors} Events: {plan.events_a_second} a second, to as many inspectors, each read by a `Watch`; a "
        f"time from the write at the gateway to the stream's client. Commands: Intercepts without following, "
        f"{plan.at_once} at a time, in bursts of {plan.burst}, while events come."
    )
    after = (
        "First polls and polls after failures take turns, 2,000 a second at each gateway: a start takes as long, and "
        "polls that began apart stay apart. What is left of a long tail are Python's looks for garbage: at the "
        "youngest 25,000 objects, and at all of them when memory has grown by a quarter or after ten minutes, which "
        "takes some 0.3 s with 20,000 polls. Connections after an outage come in the same turns."
    )
    return Section(
        "polls",
        "Polling for very many inspectors",
        "make bench-quick" if plan is QUICK else "python -m bench.speed --only polls",
        ratios=(ratio,),
        readings=readings(found),
        before=before,
        after=after,
        tables=(start_table(plan, found),),
    )


def readings(found: list[Found]) -> tuple[Reading, ...]:
    """Return the figures that stand by themselves."""
    told: list[Reading] = []
    for one in found:
        of = f"{one.count:,} inspectors"
        told += [
            Reading(f"CPU of a core, {of}", "%", (one.core_percent,), Goal(at_most=100, stretch=50)),
            Reading(f"memory for each, {of}", "kB", (one.kilobytes,), Goal(at_most=60)),
            Reading(f"CPU for a poll without an event, {of}", "us", (one.microseconds,)),
            Reading(f"polls, {of}", "a second", (one.polls_a_second,)),
            Reading(f"event to stream, p50, {of}", "ms", tuple(p50 for p50, _ in one.events_ms)),
            Reading(f"event to stream, p99, {of}", "ms", tuple(p99 for _, p99 in one.events_ms)),
        ]
    return tuple(told)


def start_table(plan: Plan, found: list[Found]) -> Table:
    """Return how starts, outages and ends went."""
    columns = (
        "inspectors",
        "all polled for after",
        "CPU of the start",
        "connections in a second, at most",
        f"after {plan.away_seconds:g} s without gateways: all polled for after",
        "connections in a second, at most",
        "lines logged",
        "end of the process",
    )
    rows = [
        (
            f"{one.count:,}",
            f"{one.start_seconds:.1f} s",
            f"{one.start_cpu_seconds:.1f} s",
            f"{one.most_opened:,}",
            f"{one.back_seconds:.1f} s",
            f"{one.back_opened:,}",
            f"{one.back_lines:,}",
            f"{one.stop_seconds:.1f} s",
        )
        for one in found
    ]
    return Table("Starts, outages and ends", columns, tuple(rows))
