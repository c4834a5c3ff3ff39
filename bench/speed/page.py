"""Makes docs/performance.md of what the parts have measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.speed.figures import RESULTS, Ratio, Reading, Section

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from bench.speed.figures import Goal, Table

#: The parts in the order of the page; one that was never measured is left out.
ORDER: Final = ("calls", "http_leg", "hot_path", "polls", "store", "streams", "cores", "leaks")
_HEAD: Final = """# Performance

What a call costs, how many inspectors and streams one process carries, and what limits it. Made by `make bench`
(`make bench-quick` prints a short form and keeps nothing); the numbers behind it lie in `bench/results/`.

Each ratio comes from two things that took turns in one run on the same machine: the median of all rounds, and in
brackets the smallest and the largest. CPU is user and system time that the kernel charges the process. A figure
without a ratio is a count, a size, or a time that has a bound of its own.
"""


def write(path: Path, folder: Path = RESULTS) -> None:
    """Write the page."""
    kept = [Section.kept(folder / f"{key}.json") for key in ORDER if (folder / f"{key}.json").exists()]
    path.write_text(rendered(kept))


def rendered(sections: Sequence[Section], head: str = _HEAD) -> str:
    """Return the page as Markdown."""
    parts = [head, _goals(sections)]
    parts.extend(_section(section) for section in sections)
    return "\n".join(part.rstrip("\n") + "\n" for part in parts if part)


def _goals(sections: Sequence[Section]) -> str:
    rows = [
        (
            figure.name,
            *_parties(figure),
            _bound(figure.goal),
            measured(figure),
            _verdict(figure),
            f"`{section.command}`",
        )
        for section in sections
        for figure in (*section.ratios, *section.readings)
        if figure.goal is not None
    ]
    if not rows:
        return ""
    return "## Goals\n\n" + table(("what", "of", "against", "goal", "measured", "met", "again by"), rows)


def _section(section: Section) -> str:
    parts = [f"## {section.title}", f"Measured by `{section.command}`.", section.before.strip()]
    if section.ratios:
        rows = [(one.name, one.subject, one.base, measured(one), *_medians(one), one.unit) for one in section.ratios]
        parts.append(table(("what", "of", "against", "ratio", "of: median", "against: median", "unit"), rows))
    if section.readings:
        rows = [(one.name, measured(one), one.unit) for one in section.readings]
        parts.append(table(("what", "measured", "unit"), rows))
    parts.extend(_table(one) for one in section.tables)
    parts.append(section.after.strip())
    return "\n\n".join(part.rstrip("\n") for part in parts if part)


def _table(one: Table) -> str:
    return f"### {one.heading}\n\n" + table(one.columns, one.rows)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _medians(ratio: Ratio) -> tuple[str, str]:
    middle = Reading("", "", ratio.subject_values), Reading("", "", ratio.base_values)
    return number(middle[0].median), number(middle[1].median)


def measured(figure: Ratio | Reading) -> str:
    """Return the median, and the smallest and the largest value of all rounds."""
    values = figure.ratios if isinstance(figure, Ratio) else figure.values
    if len(values) == 1:
        return number(values[0])
    return f"{number(figure.median)} ({number(min(values))} to {number(max(values))})"


def _parties(figure: Ratio | Reading) -> tuple[str, str]:
    return (figure.subject, figure.base) if isinstance(figure, Ratio) else ("this adapter", figure.unit)


def _bound(goal: Goal | None) -> str:
    assert goal is not None
    bound = f"at most {number(goal.at_most)}" if goal.at_most is not None else f"at least {number(goal.at_least or 0)}"
    return bound if goal.stretch is None else f"{bound}, better {number(goal.stretch)}"


def _verdict(figure: Ratio | Reading) -> str:
    assert figure.goal is not None
    return "yes" if figure.goal.met(figure.median) else "**no**"


def number(value: float) -> str:
    """Return a number with as many digits as are worth reading."""
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
