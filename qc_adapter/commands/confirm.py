"""Decides from the events of one log, the inspector's or the inspected agent's, whether a command had its effect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from qc_adapter.events import model
from qc_adapter.events.model import AgentEvent
from qc_adapter.gateway.operations import BE_QC_START

if TYPE_CHECKING:
    from qc_adapter.events.model import Entry
    from qc_adapter.gateway.operations import Effects
    from qc_adapter.gateway.requests import Condition

#: Any of these at the inspector ends its part in a call (CONTRACT of the gateway, state machine of an inspector).
RELEASING: Final = frozenset({model.PHONE_RELEASE, model.READY, model.WORK, model.SHUTDOWN})


def releases(event_type: str, effects: Effects) -> bool:
    """Whether the event ends the inspector's part in the call, and is not what the operation itself brings about."""
    return event_type in RELEASING and event_type not in effects.expected


def nothing_to_release(effects: Effects) -> bool:
    """Whether the proof is the end: the operation ends the inspector's part in a call, or gives it none."""
    if effects.at_target:
        return BE_QC_START not in effects.confirming
    return not RELEASING.isdisjoint(effects.confirming)


class Confirmation:
    """
    Collects the events that came after a command was sent.

    A confirming event counts unless its call id is one that the inspector was talking on before: resuming a held call
    repeats AgentEvent_Talking, and proves nothing about the command. Nor does an event that may have waited in the
    gateway's queue since before `sent_at` (seconds since the epoch): nobody had polled for a while. Nor does one that
    breaks a condition of the request: it tells of another mode, another call or another inspector.
    """

    __slots__ = (
        "_before",
        "_conditions",
        "_effects",
        "_missing",
        "_released",
        "_sent_at",
        "call_id",
        "completed_at",
        "confirmed",
        "proof",
    )

    def __init__(
        self,
        effects: Effects,
        talking_before: frozenset[str],
        sent_at: float = 0.0,
        conditions: tuple[Condition, ...] = (),
    ) -> None:
        self._sent_at = sent_at
        self._conditions = conditions
        self._effects = effects
        self._before = talking_before
        self._missing = list(effects.expected)
        self._released = False
        self.confirmed = False
        #: The confirming event, if it was an event.
        self.proof: Entry | None = None
        #: Sequence of the event that made it complete.
        self.completed_at = 0
        self.call_id = ""

    @property
    def missing(self) -> tuple[str, ...]:
        """Event types that were expected and did not come yet; where any of several would do, all of them."""
        if self._effects.expected or self.confirmed:
            return tuple(self._missing)
        return tuple(sorted(self._effects.confirming))

    @property
    def complete(self) -> bool:
        """Whether nothing more is to be waited for: all has come, or the call that it could come in is over."""
        return self.confirmed and (not self._missing or self._released)

    def observe(self, entry: Entry) -> None:
        """Take what came into the log into account."""
        event = entry.item
        if not isinstance(event, AgentEvent) or not self._belongs(event):
            return
        if event.event_type in self._missing:
            self._missing.remove(event.event_type)
        if event.event_type in self._effects.confirming and not self.confirmed:
            self.confirmed = True
            self.proof = entry
            self.call_id = event.call_id
        if self.confirmed and releases(event.event_type, self._effects):
            self._released = True
        if self.complete and not self.completed_at:
            self.completed_at = entry.sequence

    def session_ended(self) -> None:
        """Take into account that the gateway no longer knows the sign-in of the log's agent."""
        self.confirmed = self.confirmed or self._effects.session_end

    def _belongs(self, event: AgentEvent) -> bool:
        if event.call_id and event.call_id in self._before:
            return False
        if event.queued_since is not None and event.queued_since < self._sent_at:
            return False
        fields = {} if event.details is None else event.details.fields
        return all(
            str(fields.get(condition.field, "")) in condition.values
            for condition in self._conditions
            if condition.event_type == event.event_type
        )
