"""
Spreads what very many readers would do at the same moment: first polls after a start, and polls after a failure.

Polls that begin together come back together, all of them once in ten seconds, and while they do nothing else goes on.
A gateway that has just come up does not take 20,000 new connections at once either.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

#: So many have their turn at once after a quiet time: an office that begins its day waits for nothing.
_AT_ONCE: Final = 100


class Turns:
    """Gives out turns, not more than so many a second."""

    __slots__ = ("_clock", "_interval_seconds", "_next_at")

    def __init__(self, a_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._interval_seconds = 1 / a_second
        self._next_at = -math.inf

    def take(self) -> float:
        """Take the next turn; returns in how many seconds it is."""
        now = self._clock()
        self._next_at = max(self._next_at, now - _AT_ONCE * self._interval_seconds) + self._interval_seconds
        return max(0.0, self._next_at - now)
