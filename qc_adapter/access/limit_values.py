"""What a caller may use at once, as the policy says it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one caller; None is no limit."""

    #: Calls at a time that are not answered yet.
    calls: int | None = None
    #: Calls that begin within a second.
    calls_per_second: int | None = None
    #: Open streams: commands and Watch.
    streams: int | None = None
    #: Open streams of one inspector.
    streams_per_inspector: int | None = None
    #: Size of one request.
    message_bytes: int | None = None


#: Of a caller that the policy gives none, and of all callers without a policy.
NO_LIMITS: Final = Limits()
