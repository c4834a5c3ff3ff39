"""The time that is left for a call, handed from step to step."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on the monotonic clock, in seconds; infinity when the caller set none."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """Return the deadline that many seconds from now."""
        return cls(time.monotonic() + seconds)

    @classmethod
    def never(cls) -> Deadline:
        """Return a deadline that does not come."""
        return cls(math.inf)

    @property
    def remaining_seconds(self) -> float:
        """Seconds until the deadline, never below 0."""
        return max(0.0, self.at - time.monotonic())

    @property
    def over(self) -> bool:
        """Whether the deadline has come."""
        return self.at <= time.monotonic()

    def sooner(self, seconds: float) -> Deadline:
        """Return this deadline or the one that many seconds from now, whichever comes first."""
        return Deadline(min(self.at, time.monotonic() + seconds))

    def share(self, part: float) -> Deadline:
        """Return a deadline that takes that part (0 to 1) of what is left."""
        if math.isinf(self.at):
            return self
        return Deadline(time.monotonic() + part * self.remaining_seconds)
