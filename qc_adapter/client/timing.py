"""How long the helper waits: for a sign of life, and between two attempts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """
    The helper's patience with one stream and its pauses.

    A frozen replica keeps its connection open, so that silence alone gives it away: `silence_seconds` should be about
    2.5 times the adapters' QC_BOOKMARK_SECONDS. A command that is given up for its silence is joined again, not run
    again, so that `command_silence_seconds` may be shorter than what a slow gateway needs. Adapters know a request id
    for 10 minutes: after `joinable_seconds` the same call might be a second command, so it is not made.
    """

    silence_seconds: float = 37.5
    answer_seconds: float = 10.0
    command_silence_seconds: float = 15.0
    joinable_seconds: float = 480.0
    first_pause_seconds: float = 0.25
    longest_pause_seconds: float = 10.0

    def pause_seconds(self, failures: int, jitter: float) -> float:
        """Return the pause after so many failures in a row; `jitter` is between 0.5 and 1."""
        # The power is bounded: after days of failures it would be a number that no float holds.
        return jitter * min(self.longest_pause_seconds, self.first_pause_seconds * 2.0 ** min(failures, 30))
