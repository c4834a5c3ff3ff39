"""
How very many streams wait: one timer for all of them, and woken a few at a time.

Ten thousand streams that each set a timer of their own pay for it at every event, and a thousand that are woken in one
step of the loop keep every other call waiting until the last of them has written.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

#: A wait ends at most that much before its time. Shorter ones than some of these have timers of their own.
GRAIN_SECONDS: Final = 0.25
_SHORTEST_SECONDS: Final = 8 * GRAIN_SECONDS
#: So many streams keep the loop for a millisecond or two; then other calls have their turn.
WOKEN_AT_ONCE: Final = 50

Waiting = asyncio.Future[bool]


class Pacing:
    """The streams of one replica that wait, and those that are to be woken: with True, or with False by the time."""

    def __init__(self) -> None:
        #: By the grain of time at which they have waited long enough.
        self._due: dict[int, set[Waiting]] = {}
        self._next_grain = 0
        self._timer: asyncio.TimerHandle | None = None
        self._woken: deque[tuple[Waiting, bool]] = deque()
        self._stepping: asyncio.Handle | None = None

    @staticmethod
    def takes(seconds: float) -> bool:
        """Whether a wait is long enough to be ended by the timer of all."""
        return seconds >= _SHORTEST_SECONDS

    def wake(self, waiting: Iterable[Waiting]) -> None:
        """End waits because something happened: the first of them now, the others in the loop's next steps."""
        self._end((one, True) for one in waiting)

    def enter(self, waiting: Waiting, seconds: float) -> set[Waiting]:
        """Have a wait ended after that time; returns the set that it is to be taken out of when it ends before."""
        loop = waiting.get_loop()
        now = loop.time()
        if self._timer is None:
            self._next_grain = int(now / GRAIN_SECONDS) + 1
            self._timer = loop.call_later(GRAIN_SECONDS, self._look, loop)
        due = self._due.setdefault(int((now + seconds) / GRAIN_SECONDS), set())
        due.add(waiting)
        return due

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """End what is due, and look again as long as anybody waits."""
        grain = int(loop.time() / GRAIN_SECONDS)
        for due in range(self._next_grain, grain + 1):
            self._end((one, False) for one in self._due.pop(due, ()))
        self._next_grain = grain + 1
        self._timer = loop.call_later(GRAIN_SECONDS, self._look, loop) if self._due else None

    def _end(self, waiting: Iterable[tuple[Waiting, bool]]) -> None:
        self._woken.extend(waiting)
        if self._woken and self._stepping is None:
            self._step()

    def _step(self) -> None:
        """Wake some, and be back in the next step of the loop: who is woken until then waits for it."""
        woken = self._woken
        if not woken:
            self._stepping = None
            return
        self._stepping = woken[0][0].get_loop().call_soon(self._step)
        for _ in range(min(len(woken), WOKEN_AT_ONCE)):
            waiting, happened = woken.popleft()
            if not waiting.done():
                waiting.set_result(happened)
