"""How an event carries its number: as the gateway's time stamp."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from qc_adapter.v1 import events_pb2 as pb

#: Numbers begin here, in milliseconds since the epoch: a time stamp that looks like one.
_FIRST_MS: Final = 1_600_000_000_000


def stamp(number: int) -> int:
    """Return the time stamp that carries the number."""
    return _FIRST_MS + number


def number_of(event: pb.AgentEvent) -> int:
    """Return the number that the event carries."""
    return event.gateway_time.ToMilliseconds() - _FIRST_MS
