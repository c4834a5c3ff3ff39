"""Keeps callers to their limits, as the policy and the settings have them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qc_adapter.access.limit_values import NO_LIMITS, Limits
from qc_adapter.access.limits import Limiter

if TYPE_CHECKING:
    from collections.abc import Callable

    from qc_adapter.access.caller import Caller
    from qc_adapter.access.limits import Place
    from qc_adapter.rpc.call import Call
    from qc_adapter.settings import LimitSettings


def no_limits(_caller: Caller) -> Limits:
    """Limit no caller by itself: there is no policy."""
    return NO_LIMITS


class LimitedRoom:
    """
    Has room for each caller within its limits, and for all of them within those of the settings.

    `limits_of` is asked at each call: the policy may have changed.
    """

    def __init__(self, overall: LimitSettings, limits_of: Callable[[Caller], Limits] = no_limits) -> None:
        self._limits_of = limits_of
        self._limiter = Limiter(
            Limits(
                calls=overall.calls,
                calls_per_second=overall.calls_per_second or None,
                streams=overall.streams,
                streams_per_inspector=overall.streams_per_inspector,
                message_bytes=overall.message_bytes,
            )
        )

    @property
    def unused(self) -> bool:
        """Whether no call holds anything."""
        return self._limiter.unused

    def admit(self, call: Call) -> Place:
        """Return what the call holds while it runs; raises `LimitReached` and `TooManyStreams`."""
        # Two names of one caller share its limits; whom the policy does not know is told apart by his own.
        key = call.caller_name or call.caller.name
        return self._limiter.admit(key, self._limits_of(call.caller), streaming=call.streaming)
