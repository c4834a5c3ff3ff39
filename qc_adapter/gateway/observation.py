"""What the gateway client tells those who watch it: one record a request, and how the gateway was last seen."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import NamedTuple

from qc_adapter.model.errors import (
    DeadlineExceeded,
    GatewayMisconfigured,
    GatewayRefused,
    GatewayUnavailable,
    OutcomeUnknown,
    PollFailed,
)

NO_RETCODE = "none"


class Outcome(StrEnum):
    """How one request ended."""

    OK = "ok"
    REFUSED = "refused"
    UNAVAILABLE = "unavailable"
    MISCONFIGURED = "misconfigured"
    UNKNOWN = "unknown"
    NOT_SENT = "not_sent"
    POLL_FAILED = "poll_failed"
    CANCELLED = "cancelled"


class GatewayCall(NamedTuple):
    """
    One request, told once when it ended.

    `retcode` is "none" when no readable reply came. `header_refused` says that the reply had a GUID or
    cookie that no header may carry, and that it was ignored. `exemplar` names the trace that it is part of, if that is
    kept.
    """

    gateway: str
    method: str
    retcode: str
    seconds: float
    outcome: Outcome
    header_refused: bool = False
    exemplar: dict[str, str] | None = None


class GatewayHealth(NamedTuple):
    """How the gateway was last seen: `reachable` is None before the first request, `at` seconds since the epoch."""

    reachable: bool | None = None
    at: float = 0.0
    why: str = "no request yet"


def outcome_of(error: BaseException) -> Outcome:
    """Return how a request ended that raised this; nothing is known after an exception of another kind."""
    for kind, outcome in _OUTCOMES:
        if isinstance(error, kind):
            return outcome
    return Outcome.UNKNOWN


_OUTCOMES: tuple[tuple[type[BaseException], Outcome], ...] = (
    (GatewayRefused, Outcome.REFUSED),
    (GatewayUnavailable, Outcome.UNAVAILABLE),
    (GatewayMisconfigured, Outcome.MISCONFIGURED),
    (OutcomeUnknown, Outcome.UNKNOWN),
    (PollFailed, Outcome.POLL_FAILED),
    (DeadlineExceeded, Outcome.NOT_SENT),
    (asyncio.CancelledError, Outcome.CANCELLED),
)
