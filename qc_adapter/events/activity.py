"""What an inspector does: its events and the receipts of its commands, put together."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from qc_adapter.events.standing import Phase, Standing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qc_adapter.events.inspection import Inspection, Mode


class InspectorState(Enum):
    """The states of an inspector; the values are labels and metadata."""

    UNKNOWN = "unknown"
    IDLE = "idle"
    SEIZED = "seized"
    LISTENING = "listening"
    INSERTED = "inserted"
    WHISPERING = "whispering"
    INTERCEPTED = "intercepted"
    SIGNED_OUT = "signed_out"
    AWAY = "away"


@dataclass(frozen=True, slots=True)
class Activity:
    """
    What an inspector does, and since when in seconds since the epoch, 0 when that is not known.

    `work_no` is the inspected agent. `doubtful` says that an event may have been lost since.
    """

    state: InspectorState = InspectorState.UNKNOWN
    since: float = 0.0
    work_no: str = ""
    doubtful: bool = False


NOTHING_KNOWN: Final = Activity()
SIGNED_OUT: Final = Activity(InspectorState.SIGNED_OUT)

#: What a phase is when it belongs to no inspection of ours: then it is a call of the inspector's own, if it is a call.
_ALONE: Final[Mapping[Phase, InspectorState]] = {
    Phase.UNKNOWN: InspectorState.UNKNOWN,
    Phase.IDLE: InspectorState.IDLE,
    Phase.SEIZED: InspectorState.SEIZED,
    Phase.CONNECTED: InspectorState.UNKNOWN,
    Phase.CALLED: InspectorState.AWAY,
    Phase.TALKING: InspectorState.AWAY,
    Phase.AWAY: InspectorState.AWAY,
    Phase.OUT: InspectorState.SIGNED_OUT,
}


def activity(standing: Standing, inspection: Inspection | None) -> Activity:
    """Return what the inspector does; whichever of an event and a receipt came first, the answer is the same."""
    if inspection is None or not inspection.of(standing):
        return Activity(_ALONE[standing.phase], standing.since, "", standing.doubtful)
    state, since = InspectorState.SEIZED, standing.since
    if standing.phase is Phase.TALKING:
        state = InspectorState.INTERCEPTED
    elif standing.phase is Phase.CONNECTED:
        state = _state_of(inspection.mode)
        since = max(since, inspection.mode_since)
    return Activity(state, since, inspection.work_no, standing.doubtful)


def _state_of(mode: Mode | None) -> InspectorState:
    return InspectorState.UNKNOWN if mode is None else InspectorState(mode.value)
