"""One process that polls for very many inspectors: what that costs it, and what it costs events and commands."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.speed.poll_bursts import Side, quantile
from bench.speed.poll_found import Found, Plan, section
from bench.speed.poll_site import FIRST, Adapter, Gateways, Streams, until_held

if TYPE_CHECKING:
    from bench.speed.figures import Section
    from bench.speed.poll_bursts import Burst

#: Descriptors beside those of the polls: commands, callers, streams, files.
_SPARE_DESCRIPTORS: Final = 500
_COMMANDING: Final = 64


FULL: Final = Plan((5_000, 10_000, 20_000), 10.0, 11.0, 12.0, 300, 1_600, 5.0)
QUICK: Final = Plan((1_000,), 2.0, 0.2, 2.0, 100, 120, 1.0, 3)


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
        found.start_garbage_ms = await polling.longest_collection_ms()
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
    await gateways.all("tell", "AgentEvent_Ringing", str(watched), str(FIRST + _COMMANDING), str(watched))
    sides = Side(polling, _COMMANDING), Side(alone, _COMMANDING)
    for side in sides:
        await side.burst(plan.burst, plan.at_once)
    await polling.longest_collection_ms()
    events = []
    for number in range(plan.rounds):
        streams.seconds.clear()
        turns = (plan.commands_a_round if found.count == max(plan.counts) else plan.commands_a_round // 2) // plan.burst
        bursts: tuple[list[Burst], list[Burst]] = ([], [])
        for turn in range(turns):
            for which in (0, 1) if (turn + number) % 2 else (1, 0):
                bursts[which].append(await sides[which].burst(plan.burst, plan.at_once))
        for which, p99 in enumerate((found.with_polls_ms, found.without_ms)):
            p99.append(1000 * quantile([one for burst in bursts[which] for one in burst.seconds], 0.99))
            found.calm[which].extend(one for burst in bursts[which] if burst.calm for one in burst.seconds)
        found.no_core_percent.append(100 * sum(one.waited for one in bursts[0]) / sum(one.took for one in bursts[0]))
        events.append((1000 * quantile(streams.seconds, 0.5), 1000 * quantile(streams.seconds, 0.99)))
    found.events_ms, found.garbage_ms = tuple(events), await polling.longest_collection_ms()
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
    told = f"A process may have {hard:,} descriptors here" + (f" (from {soft:,} on)" if soft < hard else "")
    if max(counts) <= most:
        return counts, f"{told}."
    fewer = tuple(min(count, most // 100 * 100) for count in counts)
    return fewer, f"{told}: too few for {max(counts):,} polls, so {max(fewer):,} were measured in their place."


async def measure(*, quick: bool) -> Section:
    """Measure each number of inspectors with processes of its own."""
    plan = QUICK if quick else FULL
    counts, descriptors = possible(plan.counts)
    possibly = replace(plan, counts=counts)
    found = [await measure_count(possibly, count) for count in counts]
    return section(possibly, found, descriptors, max(plan.counts))
