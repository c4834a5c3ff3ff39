"""Events at a steady rate to many inspectors with a stream each: how long they are on their way."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench.speed.cpu import waited_seconds
from bench.speed.figures import Goal, Reading, Table
from bench.speed.page import number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.speed.stream_site import StreamSite

_FIVE_MS: Final = 0.005
_SETTLE_SECONDS: Final = 0.15
#: A window is a calm one when the adapter waited for a core for less than that part of it; so many are told of.
_CALM: Final = 0.1
_ENOUGH_WINDOWS: Final = 3


@dataclass(frozen=True, slots=True)
class Window:
    """The p99 of reading to writing, the part of events within 5 ms, and that of the time without a core."""

    written_ms: float
    within: float
    without_core: float


@dataclass(frozen=True, slots=True)
class Delivery:
    """Of one rate: its windows, and the times from the gateway to the reader."""

    seconds: float
    windows: tuple[Window, ...]
    waits: tuple[float, ...]

    @property
    def written_ms(self) -> tuple[float, ...]:
        """The p99 of each window."""
        return tuple(window.written_ms for window in self.windows)

    @property
    def calm_ms(self) -> tuple[float, ...]:
        """The same of the windows in which the adapter had a core nearly always."""
        return tuple(window.written_ms for window in self.windows if window.without_core < _CALM)


async def deliver(
    site: StreamSite, agents: range, rates: Sequence[int], *, windows: int, window_seconds: float, quiet: int
) -> dict[int, Delivery]:
    """Tell events at each rate to inspectors with a stream each; the one that is `quiet` gets none."""
    await site.open("busy", site.adapter, len(agents), agents)
    found = {}
    for rate in rates:
        await site.gateway.ask("tell_held", str(rate), str(quiet))
        await asyncio.sleep(min(1.0, window_seconds))  # until they do not come all in one turn
        await site.readers.ask("mark", "busy")
        began = time.monotonic()
        told = [await _window(site, window_seconds) for _ in range(windows)]
        took = time.monotonic() - began
        waits = sorted(await site.readers.ask("waits", "busy"))
        await site.gateway.ask("quiet")
        await asyncio.sleep(_SETTLE_SECONDS)
        found[rate] = Delivery(took, tuple(told), tuple(waits))
    await site.readers.ask("close", "busy")
    return found


async def _window(site: StreamSite, seconds: float) -> Window:
    pid = site.adapter.child.pid
    before, waited, began = await site.delivered(), waited_seconds(pid), time.monotonic()
    await asyncio.sleep(seconds)
    without_core = (waited_seconds(pid) - waited) / (time.monotonic() - began)
    after = await site.delivered()
    counts = {bound: after[bound] - before[bound] for bound in after}
    return Window(1e3 * quantile(counts, 0.99), counts[_FIVE_MS] / counts[float("inf")], without_core)


def quantile(counts: Mapping[float, float], part: float) -> float:
    """Return a quantile of a histogram, straight between two of its bounds as Prometheus has it."""
    wanted = part * counts[float("inf")]
    below, seen = 0.0, 0.0
    for bound in sorted(counts):
        if counts[bound] >= wanted:
            return (
                below if bound == float("inf") else below + (bound - below) * (wanted - seen) / (counts[bound] - seen)
            )
        below, seen = bound, counts[bound]
    return below


def readings(alone: Delivery, crowded: Delivery, what: str, idle: int) -> tuple[Reading, ...]:
    """Return the figures of the fastest rate, without and with idle streams beside them."""
    told = [Reading(what, "ms", alone.written_ms, Goal(at_most=5.0))]
    if len(alone.calm_ms) >= _ENOUGH_WINDOWS:
        calm = f"the same of the {len(alone.calm_ms)} windows in which it had a core for {1 - _CALM:.0%} of the time"
        told.append(Reading(calm, "ms", alone.calm_ms))
    told.append(Reading(f"the same with {idle:,} idle streams beside them", "ms", crowded.written_ms))
    without = tuple(100 * window.without_core for window in alone.windows)
    told.append(Reading("time that the adapter was ready to run and had no core, without these", "%", without))
    return tuple(told)


def delays(delivery: Mapping[str, Delivery]) -> Table:
    """Return how long events were on the whole way, by rate."""
    rows = []
    for name, one in delivery.items():
        at = {part: one.waits[int(part * (len(one.waits) - 1))] for part in (0.5, 0.99, 1.0)}
        within = sum(window.within for window in one.windows) / len(one.windows)
        without = sum(window.without_core for window in one.windows) / len(one.windows)
        rows.append(
            (
                name,
                f"{len(one.waits) / one.seconds:,.0f}",
                f"{100 * without:.0f} %",
                f"{100 * within:.2f} %",
                *(f"{number(at[part])} ms" for part in (0.5, 0.99, 1.0)),
            )
        )
    columns = (
        "events a second",
        "arrived",
        "of the time, the adapter had no core",
        "written within 5 ms of the reading",
        "p50",
        "p99",
        "longest",
    )
    return Table("From the gateway's writing of an event to the caller's reading of it", columns, tuple(rows))
