"""The circuit of one gateway: when it does not answer, commands fail at once, and one at a time tries it."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from qc_adapter.model.errors import GatewayMisconfigured, GatewayUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from qc_adapter.model.errors import GatewayError

#: So many requests in turn without an answer open the circuit.
MOST_FAILURES: Final = 5
#: Pauses between two tries: the first, and the longest. Each is up to a quarter longer, so that replicas part.
FIRST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 30.0
#: Callers are told to wait no longer than that: a poll may be answered any moment.
LONGEST_ADVICE_SECONDS: Final = 5.0
_JITTER: Final = 0.25
NO_PROBE: Final = -1


@dataclass(frozen=True, slots=True)
class CircuitChange:
    """A circuit that opened or closed; `why` is how the last request ended that brought no answer."""

    gateway: str
    opened: bool
    why: str


class Circuit:
    """
    Counts the requests in turn that the gateway did not answer, whatever they were; bars only commands.

    Polls, heartbeats and sign-ins ask nobody here, so nothing costs an inspector its sign-in, and whichever of them is
    answered first closes the circuit. A failure counts only if its request began after the last answer: when a gateway
    comes back, what it lost before may still time out for a while.
    """

    def __init__(
        self,
        gateway: str,
        told: Callable[[CircuitChange], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._gateway = gateway
        self._told = told
        self._clock = clock
        self._jitter = jitter
        self._failures = 0
        self._answered_at = -1.0
        self._why = ""
        self._untrusted = False
        self._probing = False
        self._pause_seconds = FIRST_PAUSE_SECONDS
        self._again_at = 0.0
        self.opened = False

    def enter(self, method: str) -> int:
        """Let a command through; returns what `leave` is given. Raises at once while the circuit is open."""
        if not self.opened:
            return NO_PROBE
        wait_seconds = self._again_at - self._clock()
        if self._probing or wait_seconds > 0:
            raise self._refusal(method, min(max(wait_seconds, FIRST_PAUSE_SECONDS), LONGEST_ADVICE_SECONDS))
        self._probing = True
        return self._failures

    def leave(self, probe: int) -> None:
        """Note that a command ended; one that tried in vain lets the next one wait longer."""
        if probe == NO_PROBE:
            return
        self._probing = False
        if self.opened and self._failures > probe:
            self._pause_seconds = min(2 * self._pause_seconds, LONGEST_PAUSE_SECONDS)
            self._pause()

    def answered(self) -> None:
        """Note a reply of the gateway, to whatever request."""
        self._answered_at = self._clock()
        self._failures = 0
        if self.opened:
            self.opened = False
            self._told(CircuitChange(self._gateway, opened=False, why=self._why))

    def failed(self, why: str, began: float, *, untrusted: bool = False) -> None:
        """Note a request that began at that time and had no answer; `untrusted` when TLS refused one side or both."""
        if began < self._answered_at:
            return
        self._failures += 1
        self._why, self._untrusted = why, untrusted
        if not self.opened and self._failures >= MOST_FAILURES:
            self.opened = True
            self._pause_seconds = FIRST_PAUSE_SECONDS
            self._pause()
            self._told(CircuitChange(self._gateway, opened=True, why=why))

    def _pause(self) -> None:
        self._again_at = self._clock() + self._pause_seconds * (1 + _JITTER * self._jitter())

    def _refusal(self, method: str, wait_seconds: float) -> GatewayError:
        text = f"{method} was not sent: the gateway has not answered {self._failures} requests in turn, the last: "
        if self._untrusted:  # nothing to try again: somebody has to change something
            return GatewayMisconfigured(method, text + self._why)
        return GatewayUnavailable(method, text + self._why, retry_seconds=wait_seconds)
