"""Every metric there is: one table, from which the metrics and their documentation are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]

# A command is answered in milliseconds; the last bounds lie around the gateway's time limits.
CALL_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
# The goal is a p99 under 5 ms.
DELIVERY_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
# An event waits at the gateway until the next poll, 0.2 s later, and a caller waits for it for 10 s.
CONFIRMATION_SECONDS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 3.0, 5.0, 10.0)
LAG_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One metric. `help` is what an operator reads; label values come from closed sets only."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] = ()


REQUESTS = MetricRow(
    "qc_requests_total",
    "counter",
    ("code", "gateway", "method"),
    "Finished gRPC calls, by status code and the gateway's name of the method.",
)
REQUEST_SECONDS = MetricRow(
    "qc_request_seconds",
    "histogram",
    ("gateway", "method"),
    "Time from a gRPC call's first byte to its status; for a stream its whole life.",
    CALL_SECONDS,
)
GATEWAY_REQUESTS = MetricRow(
    "qc_gateway_requests_total",
    "counter",
    ("gateway", "method", "retcode"),
    "Requests to the CC-Gateway, by its retcode; 'none' without a readable one, 'other' for an unlisted one.",
)
GATEWAY_REQUEST_SECONDS = MetricRow(
    "qc_gateway_request_seconds",
    "histogram",
    ("gateway", "method"),
    "Time from sending a request to the CC-Gateway to its reply or failure; a poll is held by the gateway.",
    CALL_SECONDS,
)
EVENTS = MetricRow(
    "qc_events_total",
    "counter",
    ("event_type", "gateway"),
    "Events read from the CC-Gateway; 'other' for an unlisted type.",
)
EVENTS_FOREIGN = MetricRow(
    "qc_events_foreign_total",
    "counter",
    ("gateway",),
    "Events that came for one inspector and name another agent, whom nobody here reads them for; dropped.",
)
PUSHES = MetricRow(
    "qc_pushes_total",
    "counter",
    ("gateway", "outcome"),
    "Pushes received: taken, repeated, refused, unreadable, unknown (nobody's session), store_unavailable.",
)
EVENT_DELIVERY_SECONDS = MetricRow(
    "qc_event_delivery_seconds",
    "histogram",
    ("gateway",),
    "Time from reading an event from the CC-Gateway to writing it to a stream.",
    DELIVERY_SECONDS,
)
COMMAND_OUTCOMES = MetricRow(
    "qc_command_outcomes_total",
    "counter",
    ("gateway", "method", "outcome"),
    "What came of commands: confirmed, unconfirmed, accepted, refused, unavailable, not_sent, unknown.",
)
COMMAND_CONFIRMATION_SECONDS = MetricRow(
    "qc_command_confirmation_seconds",
    "histogram",
    ("gateway", "method"),
    "Time from sending a command to reading the event that confirmed it; where it was sent, and if it was confirmed.",
    CONFIRMATION_SECONDS,
)
STREAMS_ACTIVE = MetricRow(
    "qc_streams_active",
    "gauge",
    ("service",),
    "gRPC streams that are open now.",
)
SESSIONS = MetricRow(
    "qc_sessions",
    "gauge",
    ("gateway", "state"),
    "Inspectors' sessions that this replica looks after: starting, degraded or lost, else by what the inspector does.",
)
POLL_AGE_SECONDS = MetricRow(
    "qc_poll_age_seconds",
    "gauge",
    ("gateway",),
    "Age of the oldest last poll or heartbeat among this replica's sessions; at 120 the gateway signs out.",
)
LEASES_HELD = MetricRow(
    "qc_leases_held",
    "gauge",
    ("gateway",),
    "Leases that this replica holds: inspectors for whom it polls or sends heartbeats.",
)
SESSIONS_UNREAD = MetricRow(
    "qc_sessions_unread",
    "gauge",
    ("gateway",),
    "Sessions to be read that nobody has a live lease for, by the one replica that looks; 0 on all others: take max.",
)
LEASE_CHANGES = MetricRow(
    "qc_lease_changes_total",
    "counter",
    ("gateway", "reason"),
    "Leases won and lost by this replica; taken_over ones had not been handed back by their holder.",
)
EVENT_GAPS = MetricRow(
    "qc_event_gaps_total",
    "counter",
    ("gateway", "reason"),
    "Gaps that were reported: places where events may have been lost.",
)
STORE_ERRORS = MetricRow(
    "qc_store_errors_total",
    "counter",
    ("operation",),
    "Operations on the store that failed.",
)
STORE_UP = MetricRow(
    "qc_store_up",
    "gauge",
    (),
    "1 if the store took a write when last tried, a second ago at most, else 0.",
)
GATEWAY_UP = MetricRow(
    "qc_gateway_up",
    "gauge",
    ("gateway",),
    "1 if the CC-Gateway could be reached by the last request to it, or was not asked yet, else 0.",
)
CERTIFICATE_EXPIRY = MetricRow(
    "qc_certificate_expiry_timestamp_seconds",
    "gauge",
    ("gateway", "use"),
    "Unix time when the first certificate of a file ends, by its use: server, client_ca, push, gateway_ca, "
    "gateway_client.",
)
CALLS_REFUSED = MetricRow(
    "qc_calls_refused_total",
    "counter",
    ("caller", "why"),
    "Calls that were refused to a caller, by its name in the policy ('none' without one): unknown, not_allowed, or the "
    "limit that was reached.",
)
RELOADS = MetricRow(
    "qc_reloads_total",
    "counter",
    ("outcome", "what"),
    "Files that changed on disk and were read anew: loaded, or refused, when what was read before stays in use.",
)
RELOAD_REFUSED = MetricRow(
    "qc_reload_refused",
    "gauge",
    ("what",),
    "1 while what lies on disk cannot be used and what was read before stays in use: server, push, gateway "
    "(certificates), policy, jwks (keys of callers' tokens).",
)
CIRCUIT_OPEN = MetricRow(
    "qc_gateway_circuit_open",
    "gauge",
    ("gateway",),
    "1 while commands to a CC-Gateway fail at once, because those before had no answer; one at a time tries it.",
)
AUDIT_RECORDS = MetricRow(
    "qc_audit_records_total",
    "counter",
    ("outcome",),
    "Audit records: written, or failed, when commands and session changes are refused until one can be written.",
)
EVENT_LOOP_LAG_SECONDS = MetricRow(
    "qc_event_loop_lag_seconds",
    "histogram",
    (),
    "How much later than asked for a tick of the event loop came; it ticks four times a second.",
    LAG_SECONDS,
)
BUILD_INFO = MetricRow(
    "qc_build_info",
    "gauge",
    ("version",),
    "Always 1; the release that runs.",
)

CATALOGUE: tuple[MetricRow, ...] = (
    REQUESTS,
    REQUEST_SECONDS,
    GATEWAY_REQUESTS,
    GATEWAY_REQUEST_SECONDS,
    EVENTS,
    EVENTS_FOREIGN,
    PUSHES,
    EVENT_DELIVERY_SECONDS,
    COMMAND_OUTCOMES,
    COMMAND_CONFIRMATION_SECONDS,
    STREAMS_ACTIVE,
    SESSIONS,
    POLL_AGE_SECONDS,
    LEASES_HELD,
    SESSIONS_UNREAD,
    LEASE_CHANGES,
    EVENT_GAPS,
    STORE_ERRORS,
    STORE_UP,
    GATEWAY_UP,
    CERTIFICATE_EXPIRY,
    CALLS_REFUSED,
    RELOADS,
    RELOAD_REFUSED,
    CIRCUIT_OPEN,
    AUDIT_RECORDS,
    EVENT_LOOP_LAG_SECONDS,
    BUILD_INFO,
)


def catalogue_markdown() -> str:
    """Return the catalogue as a Markdown table, for the documentation."""
    lines = ["| metric | kind | labels | meaning |", "| --- | --- | --- | --- |"]
    for row in CATALOGUE:
        labels = ", ".join(f"`{label}`" for label in row.labels)
        lines.append(f"| `{row.name}` | {row.kind} | {labels} | {row.help} |")
    return "\n".join(lines) + "\n"
