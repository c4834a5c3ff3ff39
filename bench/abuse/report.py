"""What an attack came to, as a line and as a row of a table."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from bench.children import MIB
from bench.pages import put

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from bench.abuse.caller import Met
    from bench.abuse.watch import Sampler
    from bench.children import Footprint

#: More than this after the last round than after the first is a leak.
GROWTH_MIB: Final = 32.0
SPARE_FDS: Final = 8
#: Series that come with calls which a run has not made before.
SPARE_SERIES: Final = 200
_COLUMNS: Final = (
    "attack",
    "what the server did",
    "MiB before, peak, after each round",
    "CPU s a round",
    "descriptors before, peak, after",
    "lines logged a round, by us and by gRPC's core",
    "calls of the good caller, new callers",
    "its p50 / p99 alone",
    "its p50 / p99 under attack",
    "ratio",
)


@dataclass(slots=True)
class Result:
    """One attack, some rounds of it."""

    name: str
    kind: str
    before: Footprint
    alone: Met
    series_before: int
    seen: list[dict[str, int]] = field(default_factory=list)
    met: list[Met] = field(default_factory=list)
    peaks: list[Sampler] = field(default_factory=list)
    after: list[Footprint] = field(default_factory=list)
    #: Lines of our log, and those that the core of gRPC wrote to standard error.
    lines: list[tuple[int, int]] = field(default_factory=list)
    series_after: int = 0
    served: str = ""

    def add(self, seen: dict[str, int], met: Met, peak: Sampler, after: Footprint, lines: tuple[int, int]) -> None:
        """Note a round."""
        self.lines.append(lines)
        self.seen.append(seen)
        self.met.append(met)
        self.peaks.append(peak)
        self.after.append(after)

    @property
    def told(self) -> str:
        """What the attackers saw in the last round."""
        return ", ".join(f"{number:,} {what}" for what, number in self.seen[-1].items() if number)

    @property
    def _worst(self) -> tuple[float, float]:
        return max(one.cut(50) for one in self.met), max(one.cut(99) for one in self.met)

    @property
    def row(self) -> str:
        """The row of the table."""
        calls, failed = sum(len(one.seconds) for one in self.met), sum(len(one.failed) for one in self.met)
        alone, worst = (self.alone.cut(50), self.alone.cut(99)), self._worst
        served, came = sum(one.served for one in self.met), sum(one.newcomers for one in self.met)
        cells = (
            f"{self.kind}: {self.name.replace('_', ' ')}",
            self.told,
            f"{_mib(self.before.rss_bytes)}, {_mib(max(one.rss_bytes for one in self.peaks))}, "
            + " ".join(_mib(one.rss_bytes) for one in self.after),
            f"{sum(one.cpu_seconds for one in self.peaks) / len(self.peaks):.1f}",
            f"{self.before.fds}, {max(one.fds for one in self.peaks)}, {self.after[-1].fds}",
            f"{max(one for one, _ in self.lines):,}, {max(core for _, core in self.lines):,}",
            f"{calls:,}, {failed} failed; {served} of {came} served",
            f"{alone[0] * 1000:.1f} / {alone[1] * 1000:.1f} ms",
            f"{worst[0] * 1000:.1f} / {worst[1] * 1000:.1f} ms",
            f"{worst[0] / alone[0]:.1f} / {worst[1] / alone[1]:.1f}",
        )
        return "| " + " | ".join(cells) + " |"

    def violations(self) -> list[str]:
        """Return what must not have happened."""
        found = [f"a call failed: {one}" for met in self.met for one in sorted(set(met.failed))]
        found += [what for seen in self.seen for what in seen if what.startswith(("failed", "did not"))]
        if self.after[-1].fds > self.before.fds + SPARE_FDS:
            found.append(f"{self.before.fds} descriptors before, {self.after[-1].fds} after")
        grown = (self.after[-1].rss_bytes - self.after[0].rss_bytes) / MIB
        if len(self.after) > 1 and grown > GROWTH_MIB:
            found.append(f"memory grew by {grown:.0f} MiB from the first round to the last")
        if self.series_after > self.series_before + SPARE_SERIES:
            found.append(f"{self.series_before} series before, {self.series_after} after")
        if self.served != "confirmed":
            found.append(f"afterwards a command ended so: {self.served}")
        return [f"{self.kind} {self.name}: {what}" for what in found]


def table(results: Iterable[Result]) -> str:
    """Return all of them as a table in Markdown."""
    head = ["| " + " | ".join(_COLUMNS) + " |", "| --- " * len(_COLUMNS) + "|"]
    return "\n".join([*head, *(one.row for one in results)])


def violations(results: Iterable[Result]) -> list[str]:
    """Return what must not have happened in any of them."""
    return [what for one in results for what in one.violations()]


def write(page: Path, results: Iterable[Result], found: list[str]) -> None:
    """Put the table into its page."""
    put(page, "abuse", "\n".join([table(results), "", *(found or ["No violation."])]))


def _mib(number: int) -> str:
    return f"{number / MIB:.0f}"
