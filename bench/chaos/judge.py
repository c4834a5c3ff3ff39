"""After a fault: what of the gateway's own record came through, what a gap covers, and what is lost."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

#: How much of a trail is shown on either side of a loss.
_AROUND: Final = 6
LOG_LOST: Final = "LOG_LOST"


@dataclass(slots=True)
class Findings:
    """What became of the events of one inspector, or the sum over many."""

    sent: int = 0
    delivered: int = 0
    covered: int = 0
    lost: list[int] = field(default_factory=list)
    out_of_order: list[int] = field(default_factory=list)
    gaps: Counter[str] = field(default_factory=Counter)
    #: Pushed again and told again, behind a gap that says that the log lost its end.
    told_again: int = 0
    #: Gaps at places where nothing is missing.
    gaps_without_loss: int = 0

    def add(self, other: Findings) -> None:
        """Sum up."""
        self.sent += other.sent
        self.delivered += other.delivered
        self.covered += other.covered
        self.lost += other.lost
        self.out_of_order += other.out_of_order
        self.gaps += other.gaps
        self.told_again += other.told_again
        self.gaps_without_loss += other.gaps_without_loss


def judge(trail: Iterable[int | str], first: int, last: int, *, pushes: bool = False) -> Findings:
    """
    Compare a watcher's trail with the numbers `first` to `last` that the gateway queued.

    A number that is missing between two that were seen is covered only by a gap that stood between the same two. With
    pushes a number may come again right behind a gap LOG_LOST: the answer to its push was lost with the old master.
    """
    found = Findings(sent=last - first + 1)
    expected = first
    reasons: list[str] = []
    for item in [*trail, last + 1]:
        if isinstance(item, str):
            reasons.append(item)
            continue
        if item < expected and pushes and LOG_LOST in reasons:
            found.told_again += 1
            continue
        if item < expected:
            # Twice, or after a later one; what it is does not matter: it must not be.
            found.out_of_order.append(item)
            continue
        missing = range(expected, item)
        if not reasons:
            found.lost += missing
        else:
            found.covered += len(missing)
            found.gaps_without_loss += not missing
            found.gaps.update(reasons)
        found.delivered += item <= last
        expected, reasons = item + 1, []
    return found


def context(trail: list[int | str], number: int) -> list[int | str]:
    """Return what stood around the place where a number is missing."""
    place = next((place for place, item in enumerate(trail) if isinstance(item, int) and item > number), len(trail))
    return trail[max(0, place - _AROUND) : place + _AROUND]
