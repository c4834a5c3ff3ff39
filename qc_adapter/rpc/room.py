"""Keeps callers to their limits, as the policy and the settings have them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from qc_adapter.access.limit_values import NO_LIMITS, Limits
from qc_adapter.access.limits import Limiter
from qc_adapter.telemetry.labels import NO_CALLER

if TYPE_CHECKING:
    from qc_adapter.access.caller import Caller
    from qc_adapter.access.limits import Place
    from qc_adapter.rpc.calls import Call
    from qc_adapter.settings import LimitSettings


class Allowances(Protocol):
    """What the policy says of callers; asked at each call, for it may change."""

    def name_of(self, caller: Caller) -> str:
        """Return the caller's name in the policy, or `none`."""
        ...

    def limits_of(self, caller: Caller) -> Limits:
        """Return the caller's own limits."""
        ...


class NoAllowances:
    """Knows no caller: there is no policy."""

    def name_of(self, caller: Caller) -> str:  # noqa: ARG002
        """Return that the caller has no name."""
        return NO_CALLER

    def limits_of(self, caller: Caller) -> Limits:  # noqa: ARG002
        """Return no limits."""
        return NO_LIMITS


class LimitedRoom:
    """Has room for each caller within its limits, and for all of them within those of the settings."""

    def __init__(self, overall: LimitSettings, allowances: Allowances | None = None) -> None:
        self._allowances: Allowances = allowances or NoAllowances()
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

    def admit(self, call: Call, size: int) -> Place:
        """Return what the call holds while it runs; raises `LimitReached` and `TooManyStreams`."""
        caller = call.caller
        name = self._allowances.name_of(caller)
        # Who has no name in the policy is told apart by his own: one stranger must not use up what another may do.
        known = name != NO_CALLER
        call.caller_name = name if known else ""
        key = name if known else caller.name
        return self._limiter.admit(key, self._allowances.limits_of(caller), streaming=call.streaming, size=size)
