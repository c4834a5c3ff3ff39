"""What receipts say of an inspector's inspection: of whom, in which mode, and which events belong to it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from qc_adapter.events.standing import Standing


class Mode(StrEnum):
    """How an inspector takes part in a call; the value is our name of the state."""

    LISTENING = "listening"
    INSERTED = "inserted"
    WHISPERING = "whispering"


class Act(StrEnum):
    """What a receipt was given for."""

    BEGIN = "begin"
    SWITCH = "switch"
    TOGGLE = "toggle"
    INTERCEPT = "intercept"


_TOGGLED: Final = {Mode.LISTENING: Mode.INSERTED, Mode.INSERTED: Mode.LISTENING}


@dataclass(frozen=True, slots=True)
class Acceptance:
    """
    The gateway took a command that changes an inspection.

    `before` is how the inspector stood when the command was sent, by what its sender had heard. `mode` is None where
    the command names none, and for a switch of which nobody knows whether it was done. `accepted_at` is seconds since
    the epoch.
    """

    act: Act
    work_no: str
    before: Standing
    sent_at: float
    accepted_at: float
    mode: Mode | None = None


@dataclass(frozen=True, slots=True)
class Inspection:
    """
    The last inspection that the gateway accepted, as far as receipts tell it.

    It belongs to one turn of the inspector, which lies between `first` and `last`. More than one can be meant only when
    a receipt overtook the events of the inspection before. `mode` is None for one that another system began;
    `mode_since` is when it was changed, 0 if it never was; `sent_at` is when the newest of these commands was sent.
    """

    work_no: str
    first: int
    last: int
    sent_at: float
    mode: Mode | None = None
    mode_since: float = 0.0

    def of(self, standing: Standing) -> bool:
        """Whether the inspector is taken for this inspection now."""
        return standing.taken and self.first <= standing.turn <= self.last


def accepted(known: Inspection | None, acceptance: Acceptance) -> Inspection:
    """Return the inspection after another receipt; one that comes late, behind a newer one, changes nothing."""
    if known is not None and acceptance.sent_at < known.sent_at:
        return known
    turn = acceptance.before.turn
    if acceptance.act is Act.BEGIN:
        first = turn + 1
        # The turn of the inspection before, which is over, may not have been heard of yet.
        last = first if known is None else max(first, known.last + (known.last >= first))
        return Inspection(acceptance.work_no, first, last, acceptance.sent_at, acceptance.mode)
    if known is None or known.work_no != acceptance.work_no or known.last < turn:
        # Another system began it.
        first = turn if acceptance.before.taken else turn + 1
        known = Inspection(acceptance.work_no, first, first, acceptance.sent_at)
    mode, mode_since = known.mode, known.mode_since
    if acceptance.act is Act.SWITCH:
        mode, mode_since = acceptance.mode, acceptance.accepted_at
    elif acceptance.act is Act.TOGGLE:
        mode, mode_since = None if mode is None else _TOGGLED.get(mode), acceptance.accepted_at
    return Inspection(known.work_no, known.first, known.last, acceptance.sent_at, mode, mode_since)
