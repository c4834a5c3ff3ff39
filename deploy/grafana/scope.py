# ruff: noqa: INP001 - a program and its modules
"""How queries name what they look at: selectors and the few functions that every panel is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from qc_adapter.telemetry.catalogue import CATALOGUE

#: The variables of a dashboard, by the label that each of them chooses values of.
VARIABLES: Final = {"job": "$job", "gateway": "$gateway", "instance": "$instance"}
#: What Prometheus and the client library write for every process.
_PROCESS: Final = frozenset({"up", "process_start_time_seconds", "process_cpu_seconds_total", "process_open_fds",
                             "process_resident_memory_bytes", "python_gc_collections_total"})  # fmt: skip
_LABELS: Final = {row.name: frozenset(row.labels) for row in CATALOGUE}
_PARTS: Final = ("_bucket", "_count", "_sum")
_SLIDING: Final = "$__rate_interval"


@dataclass(frozen=True, slots=True)
class Scope:
    """The labels that a dashboard narrows its queries by."""

    labels: tuple[str, ...]

    def of(self, metric: str, *matchers: str, but: str = "") -> str:
        """Return the selector of a metric, by those variables whose label it has; a metric that is none is an error."""
        chosen = [name for name in self.labels if name != but and name in _labels_of(metric)]
        narrowed = [f'{name}=~"{VARIABLES[name]}"' for name in chosen]
        return f"{metric}{{{', '.join([*narrowed, *matchers])}}}"

    def rate(self, metric: str, *matchers: str, by: str = "") -> str:
        """Return how often a counter counts in a second, in all replicas together."""
        return f"{_sum(by)}(rate({self.of(metric, *matchers)}[{_SLIDING}]))"

    def increase(self, metric: str, *matchers: str, by: str = "", within: str = _SLIDING) -> str:
        """Return how often a counter counted within a time, in all replicas together."""
        return f"{_sum(by)}(increase({self.of(metric, *matchers)}[{within}]))"

    def counted(self, metric: str, *matchers: str, by: str = "", within: str) -> str:
        """
        Return how often a counter counted within a time, with the counts of series that began meanwhile.

        A series begins with its first count, which increase() does not see: and some counts are seldom a second time.
        """
        series = self.of(metric, *matchers)
        return f"{_sum(by)}(({series} unless {series} offset {within}) or increase({series}[{within}]))"

    def quantile(self, share: float, metric: str, *matchers: str, by: str = "", within: str = _SLIDING) -> str:
        """Return what that share of the observations was below."""
        buckets = self.increase(f"{metric}_bucket", *matchers, by=f"le, {by}" if by else "le", within=within)
        return f"histogram_quantile({share}, {buckets})"


def or_zero(expr: str) -> str:
    """Return an expression that is 0 where there is nothing to count: a counter without a child is no series."""
    return f"{expr} or vector(0)"


def _sum(by: str) -> str:
    return f"sum by ({by}) " if by else "sum"


def _labels_of(metric: str) -> frozenset[str]:
    if metric in _PROCESS:
        return frozenset({"job", "instance"})
    row = next((metric.removesuffix(part) for part in _PARTS if metric.removesuffix(part) in _LABELS), metric)
    if row not in _LABELS:
        raise LookupError(f"{metric} is in no catalogue")
    return _LABELS[row] | {"job", "instance"}
