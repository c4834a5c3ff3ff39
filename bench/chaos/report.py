"""The table of a chaos run, and its place in docs/reliability.md."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from bench.chaos.judge import Findings

if TYPE_CHECKING:
    from pathlib import Path

    from bench.chaos.site import Trial

MARKS: Final = ("<!-- chaos table: begin -->", "<!-- chaos table: end -->")
PUSHED_MARKS: Final = ("<!-- chaos table with pushes: begin -->", "<!-- chaos table with pushes: end -->")
#: Where events are pushed, no poll can overlap.
_OVERLAPS: Final = "overlapping polls"
_PUSHED_AGAIN: Final = "events pushed again (of these told again)"
_HEAD: Final = (
    "fault",
    "tried",
    "events sent",
    "delivered",
    "covered by a gap",
    "lost",
    "gaps (of these without loss)",
    "commands sent",
    _OVERLAPS,
    "sign-outs",
    "longest pause for one inspector",
)


@dataclass(slots=True)
class Row:
    """All tries of one fault."""

    fault: str
    tried: int = 0
    found: Findings = field(default_factory=Findings)
    commands: int = 0
    overlaps: int = 0
    pushed_again: int = 0
    sign_outs: int = 0
    longest_silence_seconds: float = 0.0

    def add(self, trial: Trial) -> None:
        """Sum up."""
        self.tried += 1
        self.found.add(trial.found)
        self.commands += trial.commands
        self.overlaps += trial.overlaps
        self.pushed_again += trial.pushed_again
        self.sign_outs += trial.sign_outs
        self.longest_silence_seconds = max(self.longest_silence_seconds, trial.longest_silence_seconds)

    def cells(self, *, pushes: bool) -> list[str]:
        """Return them in the order of the head."""
        found = self.found
        return [
            self.fault,
            str(self.tried),
            str(found.sent),
            str(found.delivered),
            str(found.covered),
            str(len(found.lost)),
            f"{found.gaps.total()} ({found.gaps_without_loss})",
            str(self.commands),
            f"{self.pushed_again} ({found.told_again})" if pushes else str(self.overlaps),
            str(self.sign_outs),
            f"{self.longest_silence_seconds:.1f} s",
        ]


def line(name: str, number: int, trial: Trial) -> str:
    """Return one try in one line."""
    found = trial.found
    gaps = ", ".join(f"{count} {reason}" for reason, count in sorted(found.gaps.items())) or "none"
    return (
        f"{name} {number}: {found.sent} sent, {found.delivered} delivered, {found.covered} covered, "
        f"{len(found.lost)} lost; gaps {gaps} ({found.gaps_without_loss} without loss); {trial.commands} commands; "
        f"overlaps {trial.overlaps}, pushed again {trial.pushed_again}, sign-outs {trial.sign_outs}, "
        f"longest pause {trial.longest_silence_seconds:.1f} s; caught up after {trial.settled_seconds:.1f} s; "
        f"{f'{len(trial.violations)} VIOLATIONS' if trial.violations else 'good'}"
    )


def table(rows: list[Row], *, pushes: bool = False) -> str:
    """Return the rows as Markdown."""
    head = [_PUSHED_AGAIN if pushes and name == _OVERLAPS else name for name in _HEAD]
    lines = [head, ["---"] * len(head), *(row.cells(pushes=pushes) for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def write(path: Path, text: str, *, pushes: bool = False) -> None:
    """Put the text between the two marks of the page."""
    page = path.read_text(encoding="utf-8")
    first, last = PUSHED_MARKS if pushes else MARKS
    before, begin, rest = page.partition(first)
    _, end, after = rest.partition(last)
    if not begin or not end:
        raise ValueError(f"{path.name} has no place for the table: {first} and {last}")
    path.write_text(f"{before}{first}\n\n{text}\n{last}{after}", encoding="utf-8")
