"""Ends what has taken too long, with few timers: what ends at nearly the same moment shares one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    import asyncio

#: The last moments of a wait share a timer: this many powers of two below its length.
_FINENESS: Final = 6


class Timed(Protocol):
    """Something whose time can be over."""

    def time_is_over(self) -> None:
        """End it."""


class Deadlines:
    """
    The ends of many waits. Each is late by at most a thirty-second part of its length, never early.

    20,000 polls that are held have some 60 timers instead of 20,000.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._groups: dict[float, set[Timed]] = {}
        self._timers: dict[float, asyncio.TimerHandle] = {}

    def begin(self, waiting: Timed, at: float, seconds: float) -> float:
        """Note a wait of that length that ends at that time of the loop; returns what `done` is given."""
        grain = math.ldexp(1.0, math.frexp(seconds)[1] - _FINENESS)
        moment = math.ceil(at / grain) * grain
        group = self._groups.get(moment)
        if group is None:
            group = self._groups[moment] = set()
            self._timers[moment] = self._loop.call_at(moment, self._end, moment)
        group.add(waiting)
        return moment

    def done(self, waiting: Timed, moment: float) -> None:
        """Note that a wait is over by itself."""
        group = self._groups.get(moment)
        if group is not None:
            group.discard(waiting)

    def close(self) -> None:
        """Forget them all."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._groups.clear()

    def _end(self, moment: float) -> None:
        del self._timers[moment]
        for waiting in self._groups.pop(moment):
            waiting.time_is_over()
