"""What an operator sees on /metrics."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from qc_adapter.telemetry.catalogue import CATALOGUE, catalogue_markdown
from qc_adapter.telemetry.labels import label_sets
from qc_adapter.telemetry.metrics import Metrics, open_registry


@dataclass(frozen=True, slots=True)
class Call:
    """A request as the gateway package reports it."""

    gateway: str = "default"
    method: str = "intercept"
    retcode: str = "0"
    seconds: float = 0.02
    outcome: str = "accepted"
    exemplar: dict[str, str] | None = None


@pytest.fixture
def registry():
    return CollectorRegistry()


@pytest.fixture
def metrics(registry):
    return Metrics(
        registry,
        label_sets({"default"}, {"intercept", "addSupervise"}, {"0", "900-003"}, {"AgentEvent_Talking"}, {"intercept"}),
    )


def lines(registry):
    return generate_latest(registry).decode().splitlines()


# The names and labels that dashboards, alerts and checks depend on.
PUBLIC = {
    "qc_requests_total": {"gateway", "method", "code"},
    "qc_request_seconds": {"gateway", "method"},
    "qc_gateway_requests_total": {"gateway", "method", "retcode"},
    "qc_gateway_request_seconds": {"gateway", "method"},
    "qc_events_total": {"gateway", "event_type"},
    "qc_events_foreign_total": {"gateway"},
    "qc_pushes_total": {"gateway", "outcome"},
    "qc_event_delivery_seconds": {"gateway"},
    "qc_command_outcomes_total": {"gateway", "method", "outcome"},
    "qc_command_confirmation_seconds": {"gateway", "method"},
    "qc_streams_active": {"service"},
    "qc_sessions": {"gateway", "state"},
    "qc_poll_age_seconds": {"gateway"},
    "qc_leases_held": {"gateway"},
    "qc_sessions_unread": {"gateway"},
    "qc_lease_changes_total": {"gateway", "reason"},
    "qc_event_gaps_total": {"gateway", "reason"},
    "qc_store_errors_total": {"operation"},
    "qc_store_up": set(),
    "qc_gateway_up": {"gateway"},
    "qc_certificate_expiry_timestamp_seconds": {"gateway", "use"},
    "qc_calls_refused_total": {"caller", "why"},
    "qc_reloads_total": {"outcome", "what"},
    "qc_reload_refused": {"what"},
    "qc_gateway_circuit_open": {"gateway"},
    "qc_audit_records_total": {"outcome"},
    "qc_event_loop_lag_seconds": set(),
    "qc_build_info": {"version"},
}


def test_the_public_names_and_labels_are_exactly_these():
    """No metric disappears, changes its labels or appears without a decision."""
    assert {row.name: set(row.labels) for row in CATALOGUE} == PUBLIC


def test_every_metric_is_registered_and_documented(registry, metrics):
    """The exposition and the documentation both come from the catalogue."""
    text = "\n".join(lines(registry))
    for row in CATALOGUE:
        assert f"# TYPE {row.name} {row.kind}" in text
        assert f"# HELP {row.name} {row.help}" in text
        assert f"| `{row.name}` | {row.kind} |" in catalogue_markdown()


def test_a_finished_call_is_counted_by_code_and_method(registry, metrics):
    """The line that checks look for has exactly this text."""
    metrics.request_finished("default", "intercept", "OK", 0.03)
    assert 'qc_requests_total{code="OK",gateway="default",method="intercept"} 1.0' in lines(registry)
    assert 'qc_request_seconds_count{gateway="default",method="intercept"} 1.0' in lines(registry)
    assert 'qc_request_seconds_bucket{gateway="default",le="0.05",method="intercept"} 1.0' in lines(registry)
    assert 'qc_request_seconds_bucket{gateway="default",le="0.025",method="intercept"} 0.0' in lines(registry)


def test_a_gateway_call_is_counted_by_retcode(registry, metrics):
    """A transport failure is `none`, an unlisted retcode `other`."""
    for retcode in ("0", "900-003", "none", "123-456", "4711"):
        metrics.gateway_call(Call(retcode=retcode))
    shown = lines(registry)
    assert 'qc_gateway_requests_total{gateway="default",method="intercept",retcode="900-003"} 1.0' in shown
    assert 'qc_gateway_requests_total{gateway="default",method="intercept",retcode="none"} 1.0' in shown
    assert 'qc_gateway_requests_total{gateway="default",method="intercept",retcode="other"} 2.0' in shown
    assert 'qc_gateway_request_seconds_count{gateway="default",method="intercept"} 5.0' in shown


def test_label_values_stay_a_closed_set(registry, metrics):
    """Whatever callers and gateways send, the number of series does not grow."""
    for number in range(1000):
        metrics.event_read("default", f"AgentEvent_{number}")
        metrics.request_finished(f"gateway-{number}", f"method-{number}", f"CODE_{number}", 0.1)
        metrics.command_outcome("default", "intercept", f"outcome-{number}")
        metrics.gap("default", f"reason-{number}")
        metrics.call_refused(f"caller-{number}", "calls")
    shown = lines(registry)
    assert 'qc_events_total{event_type="other",gateway="default"} 1000.0' in shown
    assert 'qc_requests_total{code="other",gateway="other",method="other"} 1000.0' in shown
    assert len(shown) < 260
    assert len(metrics._events._counts) == 1


def test_streams_and_sessions_go_up_and_down(registry, metrics):
    """Gauges follow what is there now; a state that is not named has none."""
    metrics.stream_opened("QualityControl")
    metrics.stream_opened("QualityControl")
    metrics.stream_closed("QualityControl")
    counts = [
        {("default", "idle"): 3, ("default", "lost"): 1, ("default", "sleeping"): 5},
        {("default", "idle"): 2, ("default", "sleeping"): 4},
    ]
    metrics.sessions(lambda: counts.pop(0))
    assert 'qc_sessions{gateway="default",state="lost"} 1.0' in lines(registry)
    shown = lines(registry)
    assert 'qc_streams_active{service="QualityControl"} 1.0' in shown
    assert 'qc_sessions{gateway="default",state="idle"} 2.0' in shown
    assert 'qc_sessions{gateway="other",state="other"} 4.0' in shown
    assert 'qc_sessions{gateway="default",state="lost"} 0.0' in shown


def test_the_poll_age_is_asked_at_each_scrape(registry, metrics):
    """A stuck poller shows although it reports nothing any more."""
    ages = iter([3.0, 7.5])
    metrics.poll_age(lambda _gateway: next(ages))
    assert 'qc_poll_age_seconds{gateway="default"} 3.0' in lines(registry)
    assert 'qc_poll_age_seconds{gateway="default"} 7.5' in lines(registry)


def test_rare_counters_begin_at_zero(registry, metrics):
    """The first error is a visible increase, and leases are 0 where there are none."""
    shown = lines(registry)
    assert 'qc_store_errors_total{operation="get"} 0.0' in shown
    assert 'qc_event_gaps_total{gateway="default",reason="poll_reply_lost"} 0.0' in shown
    assert 'qc_leases_held{gateway="default"} 0.0' in shown
    metrics.store_error("get")
    metrics.lease_changed("default", "won")
    metrics.leases_held({"default": 4})
    metrics.event_delivered("default", 0.001)
    metrics.event_foreign("default")
    shown = lines(registry)
    assert 'qc_store_errors_total{operation="get"} 1.0' in shown
    assert 'qc_lease_changes_total{gateway="default",reason="won"} 1.0' in shown
    assert 'qc_leases_held{gateway="default"} 4.0' in shown
    assert 'qc_event_delivery_seconds_count{gateway="default"} 1.0' in shown
    assert 'qc_events_foreign_total{gateway="default"} 1.0' in shown


def test_what_may_come_of_a_command_begins_at_zero(registry, metrics):
    """The first unknown outcome is an increase: an alert that looks for one must not miss it."""
    labels = {"gateway": "default", "method": "intercept", "outcome": "unknown"}
    assert registry.get_sample_value("qc_command_outcomes_total", labels) == 0
    metrics.command_outcome("default", "intercept", "unknown")
    assert registry.get_sample_value("qc_command_outcomes_total", labels) == 1


def test_what_can_be_reached_is_asked_at_each_scrape(registry, metrics):
    """Store and gateway are 1 or 0, as they are now."""
    reached = {"store": True, "default": True}
    metrics.store_up(lambda: reached["store"])
    metrics.gateway_up(reached.__getitem__)
    assert {"qc_store_up 1.0", 'qc_gateway_up{gateway="default"} 1.0'} <= set(lines(registry))
    reached |= {"store": False, "default": False}
    assert {"qc_store_up 0.0", 'qc_gateway_up{gateway="default"} 0.0'} <= set(lines(registry))


def test_unread_sessions_are_zero_where_there_are_none(registry, metrics):
    """Each look replaces what the one before it found, of every gateway."""
    assert 'qc_sessions_unread{gateway="default"} 0.0' in lines(registry)
    metrics.sessions_unread({"default": 7})
    assert 'qc_sessions_unread{gateway="default"} 7.0' in lines(registry)
    metrics.sessions_unread({})
    assert 'qc_sessions_unread{gateway="default"} 0.0' in lines(registry)


def test_times_fall_into_buckets_that_tell_them_apart(registry, metrics):
    """A confirmation within the pause between two polls, and a loop that is late by milliseconds, can be seen."""
    metrics.command_confirmed("default", "intercept", 0.15)
    metrics.loop_lagged(0.004)
    metrics.runs("1.2.3")
    shown = lines(registry)
    for le, count in (("0.1", 0), ("0.2", 1), ("10.0", 1)):
        sample = f'qc_command_confirmation_seconds_bucket{{gateway="default",le="{le}",method="intercept"}} {count}.0'
        assert sample in shown
    assert 'qc_event_loop_lag_seconds_bucket{le="0.0025"} 0.0' in shown
    assert 'qc_event_loop_lag_seconds_bucket{le="0.005"} 1.0' in shown
    assert 'qc_build_info{version="1.2.3"} 1.0' in shown


def test_there_are_no_created_series(registry, metrics):
    """The creation time of each child would double the series for nothing."""
    metrics.request_finished("default", "intercept", "OK", 0.03)
    assert not [line for line in lines(registry) if "_created" in line]


def test_two_adapters_in_one_process_do_not_meet():
    """Metrics live on the registry that was passed in, not in the process."""
    for _ in range(2):
        own = open_registry()
        Metrics(own, label_sets({"default"}, {"intercept"}, {"0"}, set())).request_finished(
            "default", "intercept", "OK", 0.1
        )
        assert 'qc_requests_total{code="OK",gateway="default",method="intercept"} 1.0' in lines(own)
        assert any(line.startswith("process_resident_memory_bytes ") for line in lines(own))
