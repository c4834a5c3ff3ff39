"""Which refused calls get a record of their own: whoever floods with them must not flood the audit log."""

from __future__ import annotations

from collections import Counter
from typing import Final

#: Of one caller, or of one host that nobody knows, from one look at the clock to the next.
_OF_EACH: Final = 10
#: Of all hosts together that nobody knows. They have no part in what callers have who are known.
_OF_STRANGERS: Final = 100
_MOST_CALLERS: Final = 1_000


class Refusals:
    """The first ones of each caller pass, the others are counted until somebody asks."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()
        self._strangers = 0
        self._left_out: Counter[str] = Counter()

    def admits(self, caller: str, host: str, reason: str) -> bool:
        """Say whether this one is recorded; `caller` is empty for a stranger."""
        stranger = not caller
        who = f"host {host}" if stranger else f"caller {caller}"
        full = len(self._seen) >= _MOST_CALLERS and who not in self._seen
        if full or self._seen[who] >= _OF_EACH or (stranger and self._strangers >= _OF_STRANGERS):
            self._left_out[reason] += 1
            return False
        self._seen[who] += 1
        self._strangers += stranger
        return True

    def left_out(self) -> dict[str, int]:
        """Return how many were left out since the last time, by reason, and begin anew."""
        found = dict(self._left_out)
        self._seen.clear()
        self._strangers = 0
        self._left_out.clear()
        return found
