"""Tables of rate and latency: every side at each number of calls at once, against the empty server."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Final

from bench.speed.figures import Ratio, Table
from bench.speed.page import measured, number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.speed.load import Batch

_BASE: Final = "floor"
_COLUMNS: Final = (
    ("Calls a second", "per_second", "/s"),
    ("Time of a call, median", "p50_ms", "ms"),
    ("Time of a call, 99 of 100", "p99_ms", "ms"),
)


def tables(levels: Mapping[int, Mapping[str, Sequence[Batch]]], names: Mapping[str, str]) -> tuple[Table, ...]:
    """Return a table for each of rate, median and 99th percentile."""
    return tuple(_table(heading, field, unit, levels, names) for heading, field, unit in _COLUMNS)


def _table(
    heading: str,
    field: str,
    unit: str,
    levels: Mapping[int, Mapping[str, Sequence[Batch]]],
    names: Mapping[str, str],
) -> Table:
    sides = [name for name in names if name != _BASE and all(name in found for found in levels.values())]
    rows = []
    for level, found in levels.items():
        base = _values(found[_BASE], field)
        ratios = [Ratio("", side, _BASE, unit, _values(found[side], field), base) for side in sides]
        rows.append((str(level), number(statistics.median(base)), *(measured(one) for one in ratios)))
    columns = ("at once", f"{names[_BASE]}, {unit}", *(names[side] for side in sides))
    return Table(f"{heading}, each by the {names[_BASE]}'s: `Intercept` until confirmed", columns, tuple(rows))


def _values(batches: Sequence[Batch], field: str) -> tuple[float, ...]:
    return tuple(getattr(batch, field) for batch in batches)
