"""Streams at scale: what an idle `Watch` costs, one event to a thousand of them, slow readers, and 1,000 events/s."""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.speed.figures import Goal, Ratio, Reading, Section
from bench.speed.stream_delivery import delays, deliver, readings
from bench.speed.stream_site import Server, StreamSite, stream_site
from bench.speed.stream_words import AFTER, BEFORE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

KILO: Final = 1000
#: Inspectors without polls, for idle streams.
IDLE: Final = range(2000, 3000)
#: The one whose event goes to all, and one that has slow readers among them.
BROAD: Final = range(1000, 1001)
MIXED: Final = range(1001, 1002)
SLOW: Final = range(1002, 1003)
#: Inspectors with a poll and a stream each.
BUSY: Final = range(4000, 5000)
#: So few bytes let a stream's first messages through, and then no more.
NARROW: Final = 400
_BACKLOG: Final = 6
_MOST_KEPT: Final = 1000
_SETTLE_SECONDS: Final = 0.15


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    idle: int
    bookmark_seconds: float
    idle_rounds: int
    fan_rounds: int
    events_a_turn: int
    rates: tuple[int, ...]
    windows: int
    window_seconds: float


FULL: Final = Size(10_000, 10.0, 2, 5, 3, (300, 1000), 8, 1.5)
QUICK: Final = Size(500, 1.0, 2, 3, 1, (1000,), 3, 0.6)
STREAMS: Final = 1000
SLOW_STREAMS: Final = 100


async def measure(*, quick: bool) -> Section:
    """Measure."""
    size = QUICK if quick else FULL
    with tempfile.TemporaryDirectory(prefix="qc-streams-") as folder:
        async with stream_site(Path(folder), size.bookmark_seconds) as site:
            idle = await _idle(site, size)
            fan_out = await _fan_out(site, size)
            bounded = await _slow(site)
            await site.adopt(BUSY, polled=True)
            await site.held(len(BUSY))
            told = partial(
                deliver, site, BUSY, windows=size.windows, window_seconds=size.window_seconds, quiet=BROAD[0]
            )
            crowded = await told(size.rates[-1:])
            await site.readers.ask("close", "idle-adapter")
            delivery = await told(size.rates)
    fastest = size.rates[-1]
    busy = f"p99 from reading an event to writing it, {fastest:,} events/s to {len(BUSY):,} inspectors"
    beside = f"{fastest:,}, beside {size.idle:,} idle streams"
    ways = {f"{rate:,}": one for rate, one in delivery.items()} | {beside: crowded[fastest]}
    return Section(
        "streams",
        f"Streams: {size.idle:,} open, one event to {STREAMS:,}, and {fastest:,} events a second",
        "python -m bench.speed --only streams",
        ratios=(*idle.ratios, *fan_out),
        readings=(*idle.readings, *bounded, *readings(delivery[fastest], crowded[fastest], busy, size.idle)),
        before=BEFORE,
        after=AFTER,
        tables=(delays(ways),),
    )


@dataclass(frozen=True, slots=True)
class Figures:
    """What one step found."""

    ratios: tuple[Ratio, ...]
    readings: tuple[Reading, ...]


async def _idle(site: StreamSite, size: Size) -> Figures:
    """Open idle streams at both servers: their memory, and their CPU while nothing happens but bookmarks."""
    await site.adopt(IDLE, polled=False)
    kilobytes = {}
    for server in (site.floor, site.adapter):
        # What a server builds once for its first streams is not theirs.
        await site.open("first", server, STREAMS // 5, IDLE)
        await site.readers.ask("close", "first")
        await asyncio.sleep(3 * _SETTLE_SECONDS)
        before = server.footprint().rss_bytes
        await site.open(f"idle-{server.name}", server, size.idle, IDLE)
        await asyncio.sleep(3 * _SETTLE_SECONDS)
        kilobytes[server.name] = (server.footprint().rss_bytes - before) / size.idle / KILO
    spent: dict[str, list[float]] = {"floor": [], "adapter": []}
    for _ in range(size.idle_rounds):
        begun = {server.name: server.cpu_seconds() for server in (site.floor, site.adapter)}
        began = time.monotonic()
        await asyncio.sleep(size.bookmark_seconds)
        for server in (site.floor, site.adapter):
            share = (server.cpu_seconds() - begun[server.name]) / (time.monotonic() - began)
            spent[server.name].append(100 * share)
    await site.readers.ask("close", "idle-floor")
    ours, floor = (kilobytes["adapter"],), (kilobytes["floor"],)
    return Figures(
        (
            Ratio(f"memory of an idle `Watch`, {size.idle:,} open", "this adapter", "empty server", "kB", ours, floor),
            Ratio(
                f"CPU of {size.idle:,} idle streams, a bookmark each every {size.bookmark_seconds:g} s",
                "this adapter",
                "empty server",
                "% of a core",
                tuple(spent["adapter"]),
                tuple(spent["floor"]),
            ),
        ),
        (Reading("memory of an idle `Watch`", "kB", ours, Goal(at_most=30.0)),),
    )


@dataclass(frozen=True, slots=True)
class Spread:
    """What one event to many streams took: CPU a stream, and until the first and the last of them had it."""

    us: float
    first_ms: float
    last_ms: float


async def _fan_out(site: StreamSite, size: Size) -> tuple[Ratio, ...]:
    """Tell single events to many streams, at both servers and with slow readers among them."""
    await site.adopt((*BROAD, *MIXED), polled=True)
    fast = STREAMS - SLOW_STREAMS
    await site.open("floor", site.floor, STREAMS, BROAD)
    await site.open("broad", site.adapter, STREAMS, BROAD)
    await site.open("mixed", site.adapter, fast, MIXED)
    await site.open("slow", site.adapter, SLOW_STREAMS, MIXED, NARROW)
    for _ in range(_BACKLOG):  # then the slow ones have taken all that they take
        await _one_event(site, site.adapter, MIXED, "mixed", fast)
    sides = {
        "floor": (site.floor, BROAD, STREAMS),
        "broad": (site.adapter, BROAD, STREAMS),
        "mixed": (site.adapter, MIXED, fast),
    }
    found: dict[str, list[Spread]] = {group: [] for group in sides}
    for turn in range(size.fan_rounds):
        for group in sides if turn % 2 else reversed(sides):
            server, agents, count = sides[group]
            events = [await _one_event(site, server, agents, group, count) for _ in range(size.events_a_turn)]
            columns = ((one.us, one.first_ms, one.last_ms) for one in events)
            found[group].append(Spread(*(statistics.median(column) for column in zip(*columns, strict=True))))
    for group in (*sides, "slow"):
        await site.readers.ask("close", group)
    return _fan_ratios(found)


def _fan_ratios(found: Mapping[str, Sequence[Spread]]) -> tuple[Ratio, ...]:
    ours, floor, slow = "this adapter", "empty server", f"{SLOW_STREAMS} of them read nothing"

    def ratio(name: str, names: tuple[str, str], groups: tuple[str, str], unit: str, values: str) -> Ratio:
        of, against = (tuple(float(getattr(one, values)) for one in found[group]) for group in groups)
        return Ratio(name, *names, unit, of, against)

    told = f"one event to {STREAMS:,} streams"
    return (
        ratio(f"{told}: CPU a stream", (ours, floor), ("broad", "floor"), "us", "us"),
        ratio(f"{told}: until the last has it", (ours, floor), ("broad", "floor"), "ms", "last_ms"),
        ratio(f"{told}: until the first has it", (ours, floor), ("broad", "floor"), "ms", "first_ms"),
        ratio(f"{told}: CPU a stream that reads", (slow, "all read"), ("mixed", "broad"), "us", "us"),
        ratio(f"{told}: until the last that reads has it", (slow, "all read"), ("mixed", "broad"), "ms", "last_ms"),
    )


async def _one_event(site: StreamSite, server: Server, agents: range, group: str, count: int) -> Spread:
    """Tell one event, and wait until all have it."""
    await site.readers.ask("mark", group)
    await asyncio.sleep(_SETTLE_SECONDS)
    began = server.cpu_seconds()
    told_ns = 0
    if server is site.floor:
        told_ns = int(await server.child.ask("tell"))
    else:
        await site.tell(agents[0])
    state = await site.until(group, "events", count)
    await asyncio.sleep(_SETTLE_SECONDS / 2)
    spent = server.cpu_seconds() - began
    if told_ns:
        return Spread(spent / count * 1e6, (state["first_ns"] - told_ns) / 1e6, (state["last_ns"] - told_ns) / 1e6)
    waits = await site.readers.ask("waits", group)
    return Spread(spent / count * 1e6, min(waits), max(waits))


async def _slow(site: StreamSite) -> tuple[Reading, ...]:
    """Let streams that read nothing fall behind all that is kept, and read on then."""
    await site.adopt(SLOW, polled=False)
    await site.open("behind", site.adapter, SLOW_STREAMS, SLOW, NARROW)
    for _ in range(_BACKLOG):
        await site.feed(SLOW[0], _batch(1))
    await asyncio.sleep(_SETTLE_SECONDS)
    before = site.adapter.footprint().rss_bytes
    for _ in range(2):
        await site.feed(SLOW[0], _batch(_MOST_KEPT))
    await asyncio.sleep(_SETTLE_SECONDS)
    grown = (site.adapter.footprint().rss_bytes - before) / SLOW_STREAMS / KILO
    await site.readers.ask("widen", "behind")
    reason = "SLOW_CONSUMER with cursor"
    ended = (await site.until("behind", "ended", SLOW_STREAMS))["ends"].get(reason, 0)
    await site.readers.ask("close", "behind")
    return (
        Reading(f"memory of each of {SLOW_STREAMS} streams that miss {2 * _MOST_KEPT:,} events", "kB", (grown,)),
        Reading("of these end with `SLOW_CONSUMER` and their cursor when they read on", "streams", (float(ended),)),
    )


def _batch(events: int) -> bytes:
    content = {"callid": f"c-{time.monotonic_ns()}"}
    event = {"eventType": "AgentEvent_Hold", "workNo": str(SLOW[0]), "content": content}
    return json.dumps({"retcode": "0", "eventList": [event] * events}, separators=(",", ":")).encode()
