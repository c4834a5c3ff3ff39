"""
What is counted many times in each call, put together only when somebody asks.

The library's own counters take a lock for each number, as any thread may count with them. Ours are counted by the event
loop alone, which also makes the page of metrics: whatever was counted before it stands in it.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from itertools import accumulate, product
from typing import TYPE_CHECKING, Final, Self

from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from qc_adapter.telemetry.labels import OTHER

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

    from qc_adapter.telemetry.catalogue import MetricRow

#: The values of the labels of a series, in the order of its row.
Place = tuple[str, ...]


class Tally(Collector):
    """A counter."""

    def __init__(self, row: MetricRow, *allowed: frozenset[str], registry: CollectorRegistry) -> None:
        """Take what each label may be; any other value is counted as `other`."""
        self._row = row
        self._allowed = allowed
        self._counts: dict[Place, int] = {}
        registry.register(self)

    def count(self, *place: str) -> None:
        """Count one."""
        if place not in self._counts:
            place = listed(place, self._allowed)
            self._counts.setdefault(place, 0)
        self._counts[place] += 1

    def show(self, places: Iterable[Place]) -> None:
        """Show these places at 0: the first one that is counted must be seen as an increase."""
        self._counts.update(dict.fromkeys(places, 0))

    def shown(self) -> Self:
        """Show all that there may be at 0."""
        self.show(product(*self._allowed))
        return self

    def collect(self) -> Iterable[Metric]:
        """Return the counts."""
        family = CounterMetricFamily(self._row.name, self._row.help, labels=self._row.labels)
        for place, count in self._counts.items():
            family.add_metric(place, count)
        yield family


class _Seen:
    """What was observed in one place; `counts` holds one number for each bound, and one for what is above them all."""

    __slots__ = ("counts", "exemplars", "sum_seconds")

    def __init__(self, bounds: int) -> None:
        self.counts = [0] * (bounds + 1)
        self.exemplars: dict[int, Exemplar] = {}
        self.sum_seconds = 0.0

    def buckets(self, names: Sequence[str]) -> list[tuple[str, float] | tuple[str, float, Exemplar]]:
        """Return for each bound how often a time was not above it, and the last trace of such a time."""
        told: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
        for number, (name, count) in enumerate(zip(names, accumulate(self.counts), strict=True)):
            exemplar = self.exemplars.get(number)
            told.append((name, count) if exemplar is None else (name, count, exemplar))
        return told


class TimeTally(Collector):
    """A histogram of times."""

    def __init__(self, row: MetricRow, *allowed: frozenset[str], registry: CollectorRegistry) -> None:
        """Take what each label may be; any other value is counted as `other`."""
        self._row = row
        self._allowed = allowed
        self._bounds: Final = row.buckets
        self._names = [*map(str, row.buckets), "+Inf"]
        self._seen: dict[Place, _Seen] = {}
        registry.register(self)

    def observe(self, place: Place, seconds: float, exemplar: dict[str, str] | None = None) -> None:
        """Note a time, and the trace that it was taken in if that is kept."""
        seen = self._seen.get(place) or self._begun(place)
        number = bisect_left(self._bounds, seconds)
        seen.counts[number] += 1
        seen.sum_seconds += seconds
        if exemplar is not None:
            seen.exemplars[number] = Exemplar(exemplar, seconds, time.time())

    def shown(self) -> Self:
        """Show all that there may be before anything is observed."""
        for place in product(*self._allowed):
            self._begun(place)
        return self

    def collect(self) -> Iterable[Metric]:
        """Return the histograms."""
        family = HistogramMetricFamily(self._row.name, self._row.help, labels=self._row.labels)
        for place, seen in self._seen.items():
            family.add_metric(place, seen.buckets(self._names), seen.sum_seconds)
        yield family

    def _begun(self, place: Place) -> _Seen:
        return self._seen.setdefault(listed(place, self._allowed), _Seen(len(self._bounds)))


def listed(place: Place, allowed: tuple[frozenset[str], ...]) -> Place:
    """Return the place as it may be told: its values come from closed sets, whatever callers and gateways send."""
    return tuple(value if value in known else OTHER for value, known in zip(place, allowed, strict=True))
