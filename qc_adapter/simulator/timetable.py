"""After the settings: what happens later, kept in one heap and run by one task."""

from __future__ import annotations

import asyncio
import heapq
import logging
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger(__name__)


class Timetable:
    """Runs actions when their time has come; equal times keep the order in which they were asked for."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self._heap: list[tuple[float, int, Callable[[], object]]] = []
        self._order = count()
        self._changed = asyncio.Event()

    def after(self, seconds: float, action: Callable[[], object]) -> None:
        """Run the action once, that many seconds from now."""
        due = self.now() + seconds
        if not self._heap or due < self._heap[0][0]:
            self._changed.set()
        heapq.heappush(self._heap, (due, next(self._order), action))

    def clear(self) -> None:
        """Forget everything that was to happen."""
        self._heap.clear()

    def run_due(self) -> float | None:
        """Run what is due; return the seconds until the next action, or None."""
        while self._heap:
            wait = self._heap[0][0] - self.now()
            if wait > 0:
                return wait
            _, _, action = heapq.heappop(self._heap)
            try:
                action()
            except Exception:  # noqa: BLE001 - one broken step must not stop every other agent's events
                _log.exception("simulated step failed")
        return None

    async def run(self) -> None:
        """Run actions until cancelled."""
        while True:
            self._changed.clear()
            wait = self.run_due()
            try:
                async with asyncio.timeout(wait):
                    await self._changed.wait()
            except TimeoutError:
                continue
