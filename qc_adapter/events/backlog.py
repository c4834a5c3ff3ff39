"""How old an event may be that a poll brings: the gateway queues events while nobody polls."""

from __future__ import annotations

import time
from typing import Final

#: A reply that took so much longer than the fastest one was held: the queue was empty, the event has just happened.
_HELD_TIMES: Final = 3.0
_HELD_SECONDS: Final = 0.02
#: Before there is anything to compare with.
_SLOW_SECONDS: Final = 0.5
#: Beyond the pause between two polls: a few events in a row, each brought by a poll of its own.
_USUAL_SECONDS: Final = 5.0


class Backlog:
    """Since when the queue of one inspector may have filled."""

    __slots__ = ("_empty_at", "_fastest_seconds", "_usual_seconds")

    def __init__(self, pause_seconds: float, polled_ago_seconds: float | None) -> None:
        """Take the pause between polls, and how long ago the last one was answered, None if that is not known."""
        self._usual_seconds = pause_seconds + _USUAL_SECONDS
        # A session that nobody of us has polled for was signed in, or handed over by whoever did, a moment ago.
        self._empty_at = time.time() - (polled_ago_seconds or 0.0)
        self._fastest_seconds = _SLOW_SECONDS / _HELD_TIMES

    def answered(self, after_seconds: float, *, events: bool) -> float | None:
        """
        Note how long a poll took and whether it brought events.

        Returns since when they may have waited, in seconds since the epoch, None if they have just happened.
        """
        now, held = time.time(), after_seconds > _HELD_TIMES * self._fastest_seconds + _HELD_SECONDS
        self._fastest_seconds = min(self._fastest_seconds, after_seconds)
        if held or not events:
            self._empty_at = now
            return None
        return None if now - self._empty_at <= self._usual_seconds else self._empty_at
