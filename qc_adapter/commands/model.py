"""A command as a value, and the updates that its stream is made of."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from qc_adapter.gateway.operations import Effects

if TYPE_CHECKING:
    from qc_adapter.events.model import AgentEvent, Gap
    from qc_adapter.gateway.requests import GatewayRequest


_NO_EFFECTS = Effects((), frozenset(), documented=True)


class Follow(Enum):
    """When the stream of a command ends."""

    UNTIL_CONFIRMED = "until_confirmed"
    NONE = "none"
    UNTIL_RELEASED = "until_released"


@dataclass(frozen=True, slots=True)
class Command:
    """
    One inspection command of an inspector.

    `work_no` is the inspected agent, empty where the operation names none. `request_id` is empty for a command that
    cannot be joined.
    """

    agent_id: str
    work_no: str
    request: GatewayRequest
    request_id: str = ""
    follow: Follow = Follow.UNTIL_CONFIRMED
    confirm_within_seconds: float = 10.0

    @property
    def effects(self) -> Effects:
        """The events that the operation brings to the inspector; none for some."""
        return self.request.operation.effects or _NO_EFFECTS

    @property
    def method(self) -> str:
        """The gateway's name of the operation."""
        return self.request.operation.method


@dataclass(frozen=True, slots=True)
class Accepted:
    """The gateway took the command; `received_at` is seconds since the epoch."""

    cursor: str
    method: str
    message: str
    received_at: float


@dataclass(frozen=True, slots=True)
class Told:
    """An event of the inspector; `logged_at` is on the monotonic clock."""

    cursor: str
    event: AgentEvent
    logged_at: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    What became of a command that the gateway took.

    `confirmed` is None when the operation triggers nothing that could prove it. `sequence` is where in the inspector's
    log this was decided, `confirmed_at` where the proof stands.
    """

    sequence: int
    confirmed: bool | None
    missing: tuple[str, ...]
    call_id: str
    confirmed_at: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """The verdict, as the stream tells it."""

    cursor: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Missed:
    """Events of the inspector may be missing here."""

    cursor: str
    gap: Gap


Update = Accepted | Told | Missed | Outcome
