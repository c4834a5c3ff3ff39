"""What is tallied is told as the library tells what its own counters and histograms have counted."""

import random
import time

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics
from prometheus_client import exposition as text
from prometheus_client.openmetrics import exposition as openmetrics

from qc_adapter.telemetry.catalogue import MetricRow
from qc_adapter.telemetry.tallies import Tally, TimeTally

BOUNDS = (0.0005, 0.01, 0.25, 1.0, 10.0)
CALLS = MetricRow("qc_calls_total", "counter", ("code", "gateway"), "Calls.")
TIMES = MetricRow("qc_call_seconds", "histogram", ("gateway",), "Times.", BOUNDS)
CODES, GATEWAYS = frozenset({"OK", "ABORTED"}), frozenset({"north", "south"})


@pytest.fixture
def registries(monkeypatch):
    """Ours and the library's; an exemplar says when it was taken, so the time stands still."""
    monkeypatch.setattr(time, "time", lambda: 1_800_000_000.0)
    disable_created_metrics()
    return CollectorRegistry(), CollectorRegistry()


@pytest.mark.parametrize("page", [text.generate_latest, openmetrics.generate_latest])
def test_a_page_is_that_of_the_library(registries, page):
    """Sums, buckets, exemplars and labels are the same to the letter, times that are a bound among them."""
    ours, theirs = registries
    calls, times = Tally(CALLS, CODES, GATEWAYS, registry=ours), TimeTally(TIMES, GATEWAYS, registry=ours)
    counter = Counter(CALLS.name, CALLS.help, CALLS.labels, registry=theirs)
    histogram = Histogram(TIMES.name, TIMES.help, TIMES.labels, registry=theirs, buckets=BOUNDS)
    chance = random.Random(7)  # noqa: S311 - a test that is the same each time
    for number in range(300):
        code, gateway = chance.choice(sorted(CODES)), chance.choice(sorted(GATEWAYS))
        seconds = chance.choice([*BOUNDS, 0.0, 11.0, chance.random()])
        exemplar = {"trace_id": f"{number:032x}"} if number % 5 == 0 else None
        calls.count(code, gateway)
        counter.labels(code, gateway).inc()
        times.observe((gateway,), seconds, exemplar)
        histogram.labels(gateway).observe(seconds, exemplar)
    assert page(ours) == page(theirs)


def test_what_is_not_listed_is_told_as_other(registries):
    """However many values come, there is one series for all that are in no closed set."""
    ours, _ = registries
    calls, times = Tally(CALLS, CODES, GATEWAYS, registry=ours), TimeTally(TIMES, GATEWAYS, registry=ours)
    for number in range(50):
        calls.count("OK", f"gateway-{number}")
        times.observe((f"gateway-{number}",), 0.02)
    assert ours.get_sample_value("qc_calls_total", {"code": "OK", "gateway": "other"}) == 50
    assert ours.get_sample_value("qc_call_seconds_count", {"gateway": "other"}) == 50
    assert len(text.generate_latest(ours).splitlines()) < 15


def test_what_may_be_counted_can_be_shown_at_zero(registries):
    """The first one is an increase, and what was counted is told by the very next page."""
    ours, _ = registries
    calls = Tally(CALLS, CODES, GATEWAYS, registry=ours).shown()
    times = TimeTally(TIMES, GATEWAYS, registry=ours).shown()
    place = {"code": "ABORTED", "gateway": "south"}
    assert ours.get_sample_value("qc_calls_total", place) == 0
    assert ours.get_sample_value("qc_call_seconds_count", {"gateway": "south"}) == 0
    calls.count("ABORTED", "south")
    times.observe(("south",), 0.3)
    assert ours.get_sample_value("qc_calls_total", place) == 1
    assert ours.get_sample_value("qc_call_seconds_sum", {"gateway": "south"}) == 0.3
