"""
Commands to an adapter in short bursts, and which of these bursts say something about it.

On a machine that others use too, a long tail may be only theirs: the scheduler tells how long a process was ready to
run and had no core.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench.speed.cpu import waited_seconds
from bench.speed.figures import Ratio
from bench.speed.poll_site import Commands

if TYPE_CHECKING:
    from bench.speed.poll_site import Adapter

#: A burst of calls is a calm one when caller and callee together waited for a core for less than that part of it; and
#: so many calls of each side in calm bursts are enough for a p99.
_CALM: Final = 0.1
_ENOUGH_CALLS: Final = 400


@dataclass(frozen=True, slots=True)
class Burst:
    """The seconds of its calls, of all of it, and how long the callee, and with it the caller, had no core."""

    seconds: list[float]
    took: float
    waited: float
    both_waited: float

    @property
    def calm(self) -> bool:
        """Whether others of the machine had little to do with what it took."""
        return self.both_waited < _CALM * self.took


class Side:
    """An adapter that commands are sent to, in bursts."""

    def __init__(self, adapter: Adapter, inspectors: int) -> None:
        self._pid = adapter.child.pid
        self._commands = Commands(adapter, inspectors)

    async def burst(self, count: int, at_once: int) -> Burst:
        """Send that many, so many at a time."""
        before, own, began = waited_seconds(self._pid), waited_seconds(os.getpid()), time.monotonic()
        seconds = await self._commands.burst(count, at_once)
        took, waited = time.monotonic() - began, waited_seconds(self._pid) - before
        return Burst(seconds, took, waited, waited + waited_seconds(os.getpid()) - own)


def quantile(values: list[float], share: float) -> float:
    """Return the value below which that share of them lies; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def calm_ratio(found: tuple[list[float], list[float]]) -> tuple[Ratio, ...]:
    """Return the ratio of the calls of calm bursts, all rounds together, if there were enough of them."""
    if min(map(len, found)) < _ENOUGH_CALLS:
        return ()
    with_polls, without = ((1000 * quantile(seconds, 0.99),) for seconds in found)
    name = f"the same of bursts in which caller and callee had a core for {1 - _CALM:.0%} of the time"
    counts = tuple(f"{len(seconds):,} calls" for seconds in found)
    return (Ratio(name, f"with polls, {counts[0]}", f"without, {counts[1]}", "ms", with_polls, without),)
