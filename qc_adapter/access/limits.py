"""
What callers use at this moment, and whether one more call is too much: for its caller, or for all of them together.

A call counts as such until it is answered: a unary one to its end, a stream to its first message. A stream counts as
one from its begin to its end. So a command that is followed for an hour is an open stream and no call under way.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Final, Self

from qc_adapter.model.errors import LimitReached, TooManyStreams

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from qc_adapter.access.limit_values import Limits

#: Between looks whether what is remembered of a caller is still of use.
_SWEEP_SECONDS: Final = 10.0
#: What sums of fractions of a second may be off by.
_GRAIN_SECONDS: Final = 1e-6


class Usage:
    """What one caller uses, or all of them."""

    __slots__ = ("by_inspector", "calls", "rested_at", "streams")

    def __init__(self) -> None:
        self.calls = 0
        self.streams = 0
        #: Open streams by inspector; those without one are not in it.
        self.by_inspector: dict[str, int] = {}
        #: When all calls that may come at once may come again: each one puts this off by its part of a second.
        self.rested_at = 0.0

    def wait_seconds(self, per_second: int, now: float) -> float:
        """Return how long the next call has to wait: a second's worth of them, at least one, may come at once."""
        return self.rested_at - now - (1.0 - 1.0 / per_second)

    def idle(self, now: float) -> bool:
        """Whether nothing would be lost if this was forgotten."""
        return not self.calls and not self.streams and self.rested_at <= now


class Place:
    """What one call holds, its caller's and everybody's, until it leaves or its `with` ends."""

    __slots__ = ("_answered", "_inspector", "_limits", "_of_all", "_overall", "_own", "_streaming")

    def __init__(self, own: Usage, limits: Limits, of_all: Usage, overall: Limits, *, streaming: bool) -> None:
        self._own = own
        self._limits = limits
        self._of_all = of_all
        self._overall = overall
        self._streaming = streaming
        self._answered = False
        self._inspector = ""

    def fit(self, size: int) -> None:
        """Raise `LimitReached` if a request of so many bytes is too long."""
        for limits, whose in ((self._limits, _CALLER), (self._overall, _ALL)):
            most = limits.message_bytes
            if most is not None and size > most:
                what = f"the request has {size} bytes, and {whose} a limit of {most}: make it shorter"
                raise LimitReached("message_bytes", what, 0.0)

    def follow(self, agent_id: str) -> None:
        """Hold one of the inspector's streams too; raises `LimitReached`."""
        own, of_all = self._own.by_inspector, self._of_all.by_inspector
        for usage, limits, whose in ((own, self._limits, _CALLER), (of_all, self._overall, _ALL)):
            most = limits.streams_per_inspector
            if most is not None and usage.get(agent_id, 0) >= most:
                raise LimitReached("streams_per_inspector", f"{whose} {most} open streams of this inspector{_FULL}")
        self._inspector = agent_id
        for usage in (own, of_all):
            usage[agent_id] = usage.get(agent_id, 0) + 1

    def answered(self) -> None:
        """Note that the call is answered: from now on it is no more than an open stream."""
        if not self._answered:
            self._answered = True
            self._own.calls -= 1
            self._of_all.calls -= 1

    def leave(self) -> None:
        """Give everything back: the call has ended."""
        self.answered()
        for usage in (self._own, self._of_all):
            usage.streams -= self._streaming
            if self._inspector:
                usage.by_inspector[self._inspector] -= 1
                if not usage.by_inspector[self._inspector]:
                    del usage.by_inspector[self._inspector]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()


class Limiter:
    """Admits calls within the limits of their caller and of all callers together."""

    def __init__(self, overall: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._overall = overall
        self._clock = clock
        self._of_all = Usage()
        self._usages: dict[str, Usage] = {}
        self._sweep_at = clock() + _SWEEP_SECONDS

    @property
    def remembered(self) -> int:
        """Of how many callers something is remembered."""
        return len(self._usages)

    @property
    def unused(self) -> bool:
        """Whether no call holds anything."""
        used = (self._of_all, *self._usages.values())
        return not any(usage.calls or usage.streams or usage.by_inspector for usage in used)

    def admit(self, caller: str, limits: Limits, *, streaming: bool) -> Place:
        """
        Return what the call holds; raises `LimitReached` and `TooManyStreams`, and holds nothing then.

        The caller's own limits come first: what they refuse takes nothing from the others.
        """
        now = self._clock()
        if now >= self._sweep_at:
            self._sweep(now)
        own, of_all = self._usages.get(caller), self._of_all
        if own is None:
            own = self._usages[caller] = Usage()
        if streaming and limits.streams is not None and own.streams >= limits.streams:
            raise LimitReached("streams", f"{_CALLER} {limits.streams} open streams{_FULL}")
        _check(own, limits, now, _CALLER)
        if streaming and self._overall.streams is not None and of_all.streams >= self._overall.streams:
            raise TooManyStreams(self._overall.streams)
        _check(of_all, self._overall, now, _ALL)
        for usage, of in ((own, limits), (of_all, self._overall)):
            usage.calls += 1
            usage.streams += streaming
            if of.calls_per_second is not None:
                usage.rested_at = max(usage.rested_at, now) + 1.0 / of.calls_per_second
        return Place(own, limits, of_all, self._overall, streaming=streaming)

    def _sweep(self, now: float) -> None:
        """Forget callers that use nothing: there may be any number of them in a day."""
        self._sweep_at = now + _SWEEP_SECONDS
        for caller in [caller for caller, usage in self._usages.items() if usage.idle(now)]:
            del self._usages[caller]


_CALLER: Final = "this caller has"
_ALL: Final = "this replica has"
_FULL: Final = ", which is its limit: try again later"


def _check(usage: Usage, limits: Limits, now: float, whose: str) -> None:
    if limits.calls is not None and usage.calls >= limits.calls:
        raise LimitReached("calls", f"{whose} {limits.calls} calls under way{_FULL}")
    if limits.calls_per_second is not None:
        wait_seconds = usage.wait_seconds(limits.calls_per_second, now)
        if wait_seconds > _GRAIN_SECONDS:
            what = f"{whose} made {limits.calls_per_second} calls within a second{_FULL}"
            # Rounded up: who comes at that moment finds it come.
            raise LimitReached("calls_per_second", what, math.ceil(wait_seconds * 1000) / 1000)
