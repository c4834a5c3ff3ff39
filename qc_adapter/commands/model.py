"""A command as a value, and the updates that its stream is made of."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from qc_adapter.gateway.operations import Effects
from qc_adapter.model.inspector import gateway_of, inspector_id

if TYPE_CHECKING:
    from qc_adapter.events.model import AgentEvent, Entry, Gap
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

    `work_no` is the inspected agent, empty where the operation names none or, in `work_nos`, several. `request_id` is
    empty for a command that cannot be joined. `part_of` tells commands apart that are parts of different wholes.
    """

    agent_id: str
    work_no: str
    request: GatewayRequest
    request_id: str = ""
    follow: Follow = Follow.UNTIL_CONFIRMED
    confirm_within_seconds: float = 10.0
    work_nos: tuple[str, ...] = ()
    part_of: str = ""

    @property
    def effects(self) -> Effects:
        """The events that the operation brings about; none for some."""
        return self.request.operation.effects or _NO_EFFECTS

    @property
    def target_id(self) -> str:
        """The inspected agent as sessions and logs name it: at the gateway of the inspector."""
        return inspector_id(gateway_of(self.agent_id), self.work_no)

    def repeats(self, other: Command) -> bool:
        """Whether both are the same command, however they are followed."""
        return (self.request, self.part_of) == (other.request, other.part_of)

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
    log this was decided, `confirmed_at` where the proof stands. `proof` is the proving event of the inspected agent.
    """

    sequence: int
    confirmed: bool | None
    missing: tuple[str, ...]
    call_id: str
    confirmed_at: int = 0
    proof: Entry | None = None


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
