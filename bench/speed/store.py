"""Sessions and events in Redis: what polls and commands cost there and here, on one, two and four replicas."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.speed.figures import ROUNDS, Ratio, Reading, Section
from bench.speed.store_site import Site, Spent
from bench.speed.store_sizes import Costs, computed, started
from qc_adapter.store.seal import new_key

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MICRO: Final = 1e6
#: From a reply to the next one of the same inspector. Those who were found at once are polled at once, so a window that
#: is shorter may see nobody.
_ROUND_SECONDS: Final = 10.2
_AT_ONCE: Final = 16
_COMMAND: Final = "python -m bench.speed --only store"


@dataclass(frozen=True, slots=True)
class Size:
    """How much of it."""

    inspectors: int
    window_seconds: float
    rounds: int
    calls: int
    starting: int
    settle_seconds: float
    hold_seconds: float = 10.0
    replicas: tuple[int, ...] = (1, 2, 4)


FULL: Final = Size(2000, _ROUND_SECONDS, ROUNDS, 300, 6000, _ROUND_SECONDS)
QUICK: Final = Size(200, 1.2, 3, 60, 0, 1.2, hold_seconds=1.0, replicas=(1, 2))


async def measure(*, quick: bool) -> Section:
    """Measure all of it."""
    size = QUICK if quick else FULL
    with tempfile.TemporaryDirectory(prefix="qc-store-") as folder:
        commands = await _commands(Path(folder), size)
        polls = await _polls(Path(folder), size)
        starts = await started(Path(folder), size.starting) if size.starting else ()
    costs = Costs(
        polls.costs["redis"],
        polls.costs["ours"],
        commands.costs["redis"],
        commands.costs["ours"],
        polls.costs["network"],
        commands.costs["network"],
        polls.costs["scripts"],
        commands.costs["scripts"],
        polls.costs["memory"],
        commands.costs["memory"],
    )
    return Section(
        key="store",
        title="Sessions and events in Redis",
        command=_COMMAND,
        before=_BEFORE.format(inspectors=f"{size.inspectors:,}", hold=size.hold_seconds),
        ratios=(*polls.ratios, *commands.ratios),
        readings=(*polls.readings, *commands.readings),
        tables=(*starts, *computed(costs)),
        after=_AFTER,
    )


@dataclass(frozen=True, slots=True)
class _Found:
    """What one part found."""

    ratios: tuple[Ratio, ...]
    readings: tuple[Reading, ...]
    costs: Mapping[str, float]


async def _polls(folder: Path, size: Size) -> _Found:
    """Sites of 1, 2 and 4 replicas and one without Redis are polled for at the same time, window by window."""
    async with contextlib.AsyncExitStack() as stack:
        sites: dict[str, Site] = {}
        memory = 0.0
        for replicas in size.replicas:
            site = sites[str(replicas)] = await Site.open(
                f"polls-{replicas}", folder, stack, hold_seconds=size.hold_seconds
            )
            empty = site.used_memory()
            site.write_sessions(size.inspectors)
            await site.add(replicas, QC_SEAL_KEYS=new_key().reveal())
            await site.until_shared(size.inspectors, replicas)
            await site.until_polled(size.inspectors)
            memory = memory or (site.used_memory() - empty) / size.inspectors
        alone = sites["memory"] = await Site.open(
            "polls-memory", folder, stack, redis=False, hold_seconds=size.hold_seconds
        )
        await alone.add()
        await alone.adopt(size.inspectors)
        await alone.until_polled(size.inspectors)
        await asyncio.sleep(size.settle_seconds)
        shares = [await sites[str(replicas)].held() for replicas in size.replicas]
        windows = await _windows(sites, size)
    return _Found(
        _poll_ratios(windows),
        (
            *_poll_readings(windows["1"]),
            Reading("sealed session with the head of its log, in Redis", "bytes", (memory,)),
            *(
                Reading(
                    f"inspectors of the busiest of {replicas} replicas, of the quietest", "ratio", (held[0] / held[-1],)
                )
                for replicas, held in zip(size.replicas, shares, strict=True)
                if replicas > 1
            ),
        ),
        {
            "redis": _middle(windows["1"], _redis),
            "ours": _middle(windows["1"], _ours),
            "network": _middle(windows["1"], lambda spent: spent.network / spent.polls),
            "scripts": _middle(windows["1"], lambda spent: spent.scripts / spent.polls),
            "memory": memory,
        },
    )


async def _windows(sites: Mapping[str, Site], size: Size) -> dict[str, tuple[Spent, ...]]:
    found: dict[str, list[Spent]] = {name: [] for name in sites}
    for _ in range(size.rounds):
        before = {name: await site.spent() for name, site in sites.items()}
        await asyncio.sleep(size.window_seconds)
        for name, site in sites.items():
            found[name].append((await site.spent()).since(before[name]))
    return {name: tuple(spent) for name, spent in found.items()}


def _poll_ratios(windows: Mapping[str, tuple[Spent, ...]]) -> tuple[Ratio, ...]:
    def of(name: str, value: Callable[[Spent], float]) -> tuple[float, ...]:
        return tuple(value(spent) for spent in windows[name])

    us = "us of CPU a poll"
    return (
        Ratio(
            "a poll that brings nothing, our CPU", "with Redis", "in memory", us, of("1", _ours), of("memory", _ours)
        ),
        *(
            Ratio(f"the same, {what}", f"{more} replicas", "1 replica", us, of(more, value), of("1", value))
            for what, value in (("all of its replicas", _ours), ("CPU of Redis", _redis))
            for more in windows
            if more not in {"1", "memory"}
        ),
    )


def _poll_readings(windows: tuple[Spent, ...]) -> tuple[Reading, ...]:
    def of(value: Callable[[Spent], float]) -> tuple[float, ...]:
        return tuple(value(spent) for spent in windows)

    return (
        Reading("CPU of Redis for a poll that brings nothing", "us", of(_redis)),
        Reading(
            "of these for the scan for sessions that others write", "us", of(lambda one: one.scans / one.polls * MICRO)
        ),
        Reading("scripts for such a poll", "calls", of(lambda one: one.scripts / one.polls)),
        Reading("commands of Redis for it, those in scripts too", "calls", of(lambda one: one.commands / one.polls)),
        Reading("bytes from and to Redis for it", "bytes", of(lambda one: one.network / one.polls)),
    )


async def _commands(folder: Path, size: Size) -> _Found:
    """Intercepts with their two events, with Redis and in memory by turns."""
    async with contextlib.AsyncExitStack() as stack:
        stored = await Site.open("commands-redis", folder, stack)
        alone = await Site.open("commands-memory", folder, stack, redis=False)
        sites = {"redis": stored, "memory": alone}
        for site in sites.values():
            await site.add(QC_POLL_PAUSE_SECONDS="0")
            await site.adopt(_AT_ONCE)
            await site.intercept(size.calls, _AT_ONCE)
        windows: dict[str, list[Spent]] = {name: [] for name in sites}
        grown = []
        for number in range(size.rounds):
            for name in sites if number % 2 == 0 else reversed(sites):
                kept = stored.used_memory()
                before = await sites[name].spent()
                await sites[name].intercept(size.calls, _AT_ONCE)
                windows[name].append((await sites[name].spent()).since(before))
                if name == "redis":
                    grown.append((stored.used_memory() - kept) / size.calls / 2)
    ours = {name: tuple(one.adapters / size.calls * MICRO for one in spent) for name, spent in windows.items()}
    redis = tuple(one.redis / size.calls * MICRO for one in windows["redis"])
    scripts = tuple(one.scripts / size.calls for one in windows["redis"])
    ratio = Ratio(
        "an Intercept with its two events, our CPU", "with Redis", "in memory", "us of CPU a call",
        ours["redis"], ours["memory"],
    )  # fmt: skip
    return _Found(
        (ratio,),
        (
            Reading("CPU of Redis for an Intercept with its two events", "us", redis),
            Reading("scripts for it", "calls", scripts),
            Reading("an event in Redis", "bytes", tuple(grown)),
        ),
        {
            "redis": statistics.median(redis),
            "ours": statistics.median(ours["redis"]),
            "network": statistics.median(one.network / size.calls for one in windows["redis"]),
            "scripts": statistics.median(scripts),
            "memory": max(0.0, statistics.median(grown)),
        },
    )


def _ours(spent: Spent) -> float:
    return spent.adapters / spent.polls * MICRO


def _redis(spent: Spent) -> float:
    return spent.redis / spent.polls * MICRO


def _middle(windows: tuple[Spent, ...], value: Callable[[Spent], float]) -> float:
    return statistics.median(value(spent) for spent in windows)


_BEFORE: Final = """{inspectors} inspectors at each of several sites, polled for at the same time on the same two cores:
with one replica and with more on a Redis of their own, and one site without Redis. Nothing happens to them: each poll
is held for {hold:.0f} s and brings nothing. Sessions are sealed. Then Intercepts with their two events, 16 at a time,
with Redis and in memory by turns. CPU of Redis is what it says of itself, everything included: beats, renewals, the
scan, the network.
"""

_AFTER: Final = """**What limits it.** The CPU of the replicas, not Redis: the readings have what a poll takes of Redis,
the ratios what it takes of the replica, and replicas are added as needed. Redis runs scripts on one core, which is the
end of it: the tables say with how many inspectors that is. One replica looks for sessions that other systems wrote, all
keys each time, which the second reading has. What is computed takes the costs of the one replica above, with its beats
and the scan in them.

**Not measured**: a network between replicas and Redis. What a replica sends in one turn of its loop is one write; a
longer way costs time for each event and command.
"""
