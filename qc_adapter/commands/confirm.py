"""Decides from the inspector's events whether a command had its effect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from qc_adapter.events import model

if TYPE_CHECKING:
    from qc_adapter.events.model import AgentEvent
    from qc_adapter.gateway.operations import Effects

#: Any of these at the inspector ends its part in a call (CONTRACT of the gateway, state machine of an inspector).
RELEASING: Final = frozenset({model.PHONE_RELEASE, model.READY, model.WORK, model.SHUTDOWN})


def releases(event_type: str, effects: Effects) -> bool:
    """Whether the event ends the inspector's part in the call, and is not what the operation itself brings about."""
    return event_type in RELEASING and event_type not in effects.expected


def brings_release(effects: Effects) -> bool:
    """Whether the operation itself ends the inspector's part in a call, so that its proof is the end."""
    return not RELEASING.isdisjoint(effects.confirming)


class Confirmation:
    """
    Collects the events that came after a command was sent.

    A confirming event counts unless its call id is one that the inspector was talking on before: resuming a held call
    repeats AgentEvent_Talking, and proves nothing about the command. Nor does an event that may have waited in the
    gateway's queue since before `sent_at` (seconds since the epoch): nobody had polled for a while.
    """

    __slots__ = (
        "_before",
        "_effects",
        "_missing",
        "_released",
        "_sent_at",
        "call_id",
        "completed_at",
        "confirmed",
        "confirmed_at",
    )

    def __init__(self, effects: Effects, talking_before: frozenset[str], sent_at: float = 0.0) -> None:
        self._sent_at = sent_at
        self._effects = effects
        self._before = talking_before
        self._missing = list(effects.expected)
        self._released = False
        self.confirmed = False
        #: Sequence of the confirming event in the inspector's log.
        self.confirmed_at = 0
        #: Sequence of the event that made it complete.
        self.completed_at = 0
        self.call_id = ""

    @property
    def missing(self) -> tuple[str, ...]:
        """Event types that were expected and did not come yet."""
        return tuple(self._missing)

    @property
    def complete(self) -> bool:
        """Whether nothing more is to be waited for: all has come, or the call that it could come in is over."""
        return self.confirmed and (not self._missing or self._released)

    def observe(self, event: AgentEvent, sequence: int) -> None:
        """Take an event of the inspector into account."""
        if event.call_id and event.call_id in self._before:
            return
        if event.queued_since is not None and event.queued_since < self._sent_at:
            return
        if event.event_type in self._missing:
            self._missing.remove(event.event_type)
        if event.event_type in self._effects.confirming and not self.confirmed:
            self.confirmed = True
            self.confirmed_at = sequence
            self.call_id = event.call_id
        if self.confirmed and releases(event.event_type, self._effects):
            self._released = True
        if self.complete and not self.completed_at:
            self.completed_at = sequence
