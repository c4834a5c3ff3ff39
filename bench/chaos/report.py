"""The table of a chaos run, and its place in docs/reliability.md."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from bench.chaos.judge import Findings

if TYPE_CHECKING:
    from pathlib import Path

    from bench.chaos.site import Trial

BEGIN: Final = "<!-- chaos table: begin -->"
END: Final = "<!-- chaos table: end -->"
_HEAD: Final = (
    "fault",
    "tried",
    "events sent",
    "delivered",
    "covered by a gap",
    "lost",
    "gaps (of these without loss)",
    "commands sent",
    "overlapping polls",
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
    sign_outs: int = 0
    longest_silence_seconds: float = 0.0

    def add(self, trial: Trial) -> None:
        """Sum up."""
        self.tried += 1
        self.found.add(trial.found)
        self.commands += trial.commands
        self.overlaps += trial.overlaps
        self.sign_outs += trial.sign_outs
        self.longest_silence_seconds = max(self.longest_silence_seconds, trial.longest_silence_seconds)

    def cells(self) -> list[str]:
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
            str(self.overlaps),
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
        f"overlaps {trial.overlaps}, sign-outs {trial.sign_outs}, longest pause {trial.longest_silence_seconds:.1f} s; "
        f"caught up after {trial.settled_seconds:.1f} s; "
        f"{f'{len(trial.violations)} VIOLATIONS' if trial.violations else 'good'}"
    )


def table(rows: list[Row]) -> str:
    """Return the rows as Markdown."""
    lines = [_HEAD, ["---"] * len(_HEAD), *(row.cells() for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def write(path: Path, text: str) -> None:
    """Put the text between the two marks of the page."""
    page = path.read_text(encoding="utf-8")
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path.name} has no place for the table: {BEGIN} and {END}")
    path.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}", encoding="utf-8")
