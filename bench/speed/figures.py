"""
What a measurement leaves behind: ratios of two things that took turns in one run, and readings of one thing.

Machines are shared and noisy: seconds of one run say little about another. So whatever costs time is told as a ratio
of two things that were measured in turns, with the smallest and the largest ratio of all rounds.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

#: Where each part keeps what it measured last; the page is made of these.
RESULTS: Final = Path(__file__).parent.parent / "results"
ROUNDS: Final = 5
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound that a figure should keep; `stretch` is the one that would be better still."""

    at_most: float | None = None
    at_least: float | None = None
    stretch: float | None = None

    def met(self, value: float) -> bool:
        """Whether the value keeps the bound."""
        return (self.at_most is None or value <= self.at_most) and (self.at_least is None or value >= self.at_least)


@dataclass(frozen=True, slots=True)
class Ratio:
    """How `subject` compares with `base`: a value of each from every round, in the same unit."""

    name: str
    subject: str
    base: str
    unit: str
    subject_values: tuple[float, ...]
    base_values: tuple[float, ...]
    goal: Goal | None = None

    @property
    def ratios(self) -> tuple[float, ...]:
        """Subject by base, round by round."""
        return tuple(one / other for one, other in zip(self.subject_values, self.base_values, strict=True))

    @property
    def median(self) -> float:
        """The middle one of the ratios."""
        return statistics.median(self.ratios)


@dataclass(frozen=True, slots=True)
class Reading:
    """A value that stands by itself, such as bytes for each of many: one from every round."""

    name: str
    unit: str
    values: tuple[float, ...]
    goal: Goal | None = None

    @property
    def median(self) -> float:
        """The middle one of the values."""
        return statistics.median(self.values)


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under a heading."""

    heading: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Section:
    """What one part of the bench has found: its figures, and sentences for what no figure says."""

    key: str
    title: str
    #: The command that measures it again.
    command: str
    ratios: tuple[Ratio, ...] = ()
    readings: tuple[Reading, ...] = ()
    #: Markdown that stands above the figures, and below them.
    before: str = ""
    after: str = ""
    #: Tables of any form: a heading, the names of the columns, the rows.
    tables: tuple[Table, ...] = ()

    def keep(self, folder: Path = RESULTS) -> None:
        """Write it where the page finds it."""
        folder.mkdir(exist_ok=True)
        text = json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False)
        (folder / f"{self.key}.json").write_text(text + "\n")

    @classmethod
    def kept(cls, path: Path) -> Self:
        """Read one again."""
        found: dict[str, Any] = json.loads(path.read_text())
        found["ratios"] = tuple(_ratio(one) for one in found["ratios"])
        found["readings"] = tuple(_reading(one) for one in found["readings"])
        found["tables"] = tuple(
            Table(one["heading"], tuple(one["columns"]), tuple(tuple(row) for row in one["rows"]))
            for one in found["tables"]
        )
        return cls(**found)


async def in_turns(
    measures: Mapping[str, Callable[[], Awaitable[T]]], rounds: int = ROUNDS
) -> dict[str, tuple[T, ...]]:
    """Measure each once a round, every second round in the opposite order; return the values by name."""
    found: dict[str, list[T]] = {name: [] for name in measures}
    names: Sequence[str] = list(measures)
    for number in range(rounds):
        for name in names if number % 2 == 0 else reversed(names):
            await asyncio.sleep(0)
            found[name].append(await measures[name]())
    return {name: tuple(values) for name, values in found.items()}


def _goal(found: dict[str, Any] | None) -> Goal | None:
    return None if found is None else Goal(**found)


def _ratio(found: dict[str, Any]) -> Ratio:
    return Ratio(
        **found
        | {
            "subject_values": tuple(found["subject_values"]),
            "base_values": tuple(found["base_values"]),
            "goal": _goal(found["goal"]),
        }
    )


def _reading(found: dict[str, Any]) -> Reading:
    return Reading(**found | {"values": tuple(found["values"]), "goal": _goal(found["goal"])})
