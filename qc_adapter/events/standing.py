"""How an inspector stands by the events that came so far: free, taken for an inspection, connected, on a call, away."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from qc_adapter.events import model
from qc_adapter.events.model import GapReason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qc_adapter.events.model import AgentEvent, Item


class Phase(StrEnum):
    """What events alone can tell. Which inspection it is, and whether it is one at all, only receipts can."""

    UNKNOWN = "unknown"
    IDLE = "idle"
    #: Taken, and the phone is not picked up.
    SEIZED = "seized"
    #: Taken, and the phone is picked up.
    CONNECTED = "connected"
    #: A call of its own is offered, or just being answered.
    CALLED = "called"
    TALKING = "talking"
    AWAY = "away"
    OUT = "out"


#: The inspector is taken: for an inspection or for a call of its own.
TAKEN: Final = frozenset({Phase.SEIZED, Phase.CONNECTED, Phase.CALLED, Phase.TALKING})

_LEFT_CALL: Final = frozenset({model.CALL_RELEASE, model.CUSTOMER_RELEASE})
_LEFT_ALL: Final = frozenset({model.PHONE_RELEASE, model.READY, model.WORK, model.SHUTDOWN, model.IN_SERVICE})
#: Busy, rest or wrap-up was left. During a call they say something about the time after it.
_BACK: Final = frozenset(
    {
        "AgentState_CancelNotReady_Success",
        "AgentState_CancelRest_Success",
        "AgentState_CancelWork_Success",
        "AgentState_Force_Ready",
    }
)
#: Asked for during a call they begin after it, so they do not end what is under way.
_GOES_AWAY: Final = frozenset(
    {
        "AgentState_SetNotReady_Success",
        "AgentState_Force_SetNotReady",
        "AgentState_SetRest_Success",
        "AgentState_Rest_Timeout",
        "AgentState_SetWork_Success",
    }
)
_OFFERED: Final = frozenset({"AgentEvent_Ringing", "AgentEvent_Auto_Answer", "AgentEvent_Customer_Alerting"})
#: Where events lead that mean the same whatever came before.
_PLAIN: Final[Mapping[str, Phase]] = {
    model.READY: Phase.IDLE,
    model.WORK: Phase.AWAY,
    model.SHUTDOWN: Phase.OUT,
    model.IN_SERVICE: Phase.UNKNOWN,  # what the inspector is after a sign-in, the next event says
}


@dataclass(frozen=True, slots=True)
class Standing:
    """
    The sum of an inspector's events.

    `since` is when the phase began, in seconds since the epoch, 0 when that is not known. `turn` counts how often the
    inspector was taken: by it a receipt finds the events that belong to it. `doubtful` says that an event may have been
    lost since the last one that counted.
    """

    phase: Phase = Phase.UNKNOWN
    since: float = 0.0
    turn: int = 0
    talking: frozenset[str] = frozenset()
    doubtful: bool = False
    #: Whether the phone was picked up and not hung up; one that is permanently connected rings for nothing.
    off_hook: bool = False
    #: Whether AgentState_Busy of this turn has come: a second one begins another turn.
    busy: bool = False

    @property
    def taken(self) -> bool:
        """Whether an inspection is under way, or a call."""
        return self.phase in TAKEN

    def after(self, item: Item) -> Standing:
        """Return how the inspector stands after an event or a gap; the same value when nothing changed."""
        if isinstance(item, GapReason):
            # Most gaps hide nothing: what was told last is told on, and doubted.
            return self if self.doubtful else replace(self, doubtful=True)
        return self._heard(item.event_type, item)

    def _heard(self, event_type: str, event: AgentEvent) -> Standing:
        calls = self._calls_after(event)
        phase = _PLAIN.get(event_type)
        if phase is not None:
            return self._moved(phase, event, calls)
        if event_type == model.BUSY:
            return self._seized(event)
        if event_type == model.PHONE_ALERTING:
            moved = self if self.phase in {Phase.CALLED, Phase.TALKING} else self._moved(Phase.SEIZED, event)
            return replace(moved, off_hook=False) if moved.off_hook else moved
        if event_type == model.PHONE_OFFHOOK:
            moved = self._moved(Phase.CONNECTED, event) if self.phase is Phase.SEIZED else self
            return moved if moved.off_hook else replace(moved, off_hook=True)
        if event_type == model.PHONE_RELEASE:
            moved = self._moved(Phase.AWAY, event, calls) if self.taken else self._with(calls)
            return replace(moved, off_hook=False) if moved.off_hook else moved
        return self._called(event_type, event, calls)

    def _called(self, event_type: str, event: AgentEvent, calls: frozenset[str]) -> Standing:
        if event_type == model.TALKING:
            # Someone who is away and talks has a call of its own.
            return self._with(calls) if self.phase is Phase.AWAY else self._moved(Phase.TALKING, event, calls)
        if event_type in _OFFERED:
            return self if self.phase is Phase.TALKING else self._moved(Phase.CALLED, event)
        if event_type in _LEFT_CALL:
            over = self.phase is Phase.CALLED or (self.phase is Phase.TALKING and not calls)
            return self._moved(Phase.AWAY, event, calls) if over else self._with(calls)
        if event_type in _GOES_AWAY and not self.taken:
            return self._moved(Phase.AWAY, event)
        if event_type in _BACK and not self.taken:
            return self._moved(Phase.IDLE, event)
        return self

    def _seized(self, event: AgentEvent) -> Standing:
        if self.taken and not self.busy:
            return replace(self, busy=True)  # some gateways tell it behind the phone's events
        phase = Phase.CONNECTED if self.off_hook else Phase.SEIZED
        return Standing(phase, event.received_at, self.turn + 1, self.talking, off_hook=self.off_hook, busy=True)

    def _moved(self, phase: Phase, event: AgentEvent, calls: frozenset[str] | None = None) -> Standing:
        talking = self.talking if calls is None else calls
        if phase is self.phase:
            return replace(self, talking=talking, doubtful=False) if self.doubtful else self._with(talking)
        begins = phase in TAKEN and not self.taken
        return Standing(
            phase,
            event.received_at,
            self.turn + begins,
            talking,
            off_hook=self.off_hook,
            busy=self.busy and phase in TAKEN and not begins,
        )

    def _with(self, calls: frozenset[str]) -> Standing:
        if calls == self.talking:
            return self
        return Standing(self.phase, self.since, self.turn, calls, self.doubtful, self.off_hook, self.busy)

    def _calls_after(self, event: AgentEvent) -> frozenset[str]:
        """Return the ids of the calls that the inspector talks on after the event."""
        if event.event_type == model.TALKING and event.call_id:
            return self.talking | {event.call_id}
        if event.event_type in _LEFT_CALL:
            return self.talking - {event.call_id}
        return frozenset() if event.event_type in _LEFT_ALL else self.talking


NOTHING_HEARD: Final = Standing()
