"""What a look through audit records has found."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final, Literal

Kind = Literal[
    "changed", "missing", "duplicate", "reordered", "unlinked", "after_end", "not_ended", "follows_lost", "key",
    "format", "head", "empty",
]  # fmt: skip

#: So many breaks are kept of each kind; all are counted.
_MOST_KEPT: Final = 100


@dataclass(frozen=True, slots=True)
class Break:
    """One place where the records are not whole; `line` counts from 1, and is 0 where no line is meant."""

    kind: Kind
    what: str
    chain: str = ""
    file: str = ""
    line: int = 0


@dataclass(slots=True)
class ChainSeen:
    """One chain, as far as it was seen."""

    name: str
    replica: str
    first_time: str
    last_time: str = ""
    records: int = 0
    #: The number that the next record has to have.
    expected: int = 0
    head: str = ""
    ended: bool = False
    keyed: bool = False
    #: Whether the hashes can be judged with the key at hand.
    judged: bool = True
    vouched: bool = False
    #: Ranges of numbers that have not come yet: the first, and the one behind the last.
    missing: list[tuple[int, int]] = field(default_factory=list)


@dataclass(slots=True)
class Findings:
    """All of it."""

    chains: dict[str, ChainSeen] = field(default_factory=dict)
    breaks: list[Break] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    records: int = 0
    foreign_lines: int = 0
    torn_lines: int = 0

    @property
    def whole(self) -> bool:
        """Whether nothing is missing, changed or out of its place."""
        return not self.counts

    def note(self, found: Break) -> None:
        """Keep a break, if it is not one of very many."""
        self.counts[found.kind] += 1
        if self.counts[found.kind] <= _MOST_KEPT:
            self.breaks.append(found)
