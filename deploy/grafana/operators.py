# ruff: noqa: INP001 - a program and its modules
"""The operators' dashboard: is it well, and what is it doing."""

from __future__ import annotations

from typing import Final

from panels import Graph, Query, Row, Stat
from scope import Scope, or_zero
from words import (
    ANY_IS_BAD,
    BY_ITSELF,
    BYTES,
    CODES,
    COUNT,
    DAYS,
    GAPS,
    OUTCOMES,
    PER_SECOND,
    POLL_AGE_STEPS,
    PUSHES,
    REFUSED,
    SECONDS,
    STATES,
    UNKNOWN,
)

UID: Final = "qc-adapter-operators"
TITLE: Final = "QC adapter: operators"
DESCRIPTION: Final = "Is it well, and what is it doing? The first line answers the first question."
VARIABLES: Final = ("job", "gateway", "instance")

_ = Scope(VARIABLES)
#: Said by one replica for all: not to be narrowed to a replica.
_ALL: Final = Scope(("job", "gateway"))
_FIRING: Final = 'ALERTS{alertstate="firing", alertname=~"Qc.*"}'
#: A replica without inspectors at a gateway may not ask for hours, and tell of an old failure all that time.
_GATEWAY_UP: Final = (
    f"min by (gateway) ({_.of('qc_gateway_up')} and on (job, instance, gateway) {_.of('qc_leases_held')} > 0)"
    f" or max by (gateway) ({_.of('qc_gateway_up')})"
)
_UP: Final = {"0": ("down", "red"), "1": ("up", "green")}

GLANCE: Final = Row(
    title="At a glance",
    height=4,
    panels=(
        Stat("Replicas up", "Replicas that Prometheus reaches. One alone has nobody to take its inspectors over.",
             COUNT, (Query(f"sum({_.of('up')})"),), 2, "QcReplicasMissing", ((1, "orange"), (2, "green")), "red"),
        Stat("Store", "Does Redis take the writes of every replica?", COUNT,
             (Query(f"min({_.of('qc_store_up')})"),), 2, "QcStoreDown", words=_UP),
        Stat("Gateways", "Does each CC-Gateway answer every replica with inspectors there, when it last asked?", COUNT,
             (Query(_GATEWAY_UP, "{{gateway}}"),), 4, "QcGatewayDown", words=_UP),
        Stat("Oldest poll", "The longest that a gateway has heard nothing of an inspector. At 120 s it signs out.",
             SECONDS, (Query(f"max({_.of('qc_poll_age_seconds')})"),), 3, "QcPollAgeHigh", POLL_AGE_STEPS, decimals=1),
        Stat("Without a reader", "Sessions no replica has a lease for; a dead one's are taken over as they end.", COUNT,
             (Query(f"sum(max by (job, gateway) ({_ALL.of('qc_sessions_unread')}))"),), 3, "QcSessionsUnread",
             ANY_IS_BAD),
        Stat("Gaps, 1 h", "Places where events may have been lost, in the last hour.", COUNT,
             (Query(_.increase("qc_event_gaps_total", within="1h")),), 2, "QcEventGaps", ((0.5, "orange"),)),
        Stat("Unknown, 1 h", "Commands of which nobody knows whether they were carried out, in the last hour.", COUNT,
             (Query(or_zero(_.counted("qc_command_outcomes_total", UNKNOWN, within="1h"))),), 2,
             "QcOutcomesUnknown", ((0.5, "red"),)),
        Stat("Alerts", "Alerts of this service that fire now.", COUNT,
             (Query(or_zero(f"count({_FIRING})")),), 2, steps=ANY_IS_BAD),
        Stat("Certificate", "Days until the first certificate ends, of whatever use.", DAYS,
             (Query(f"(min({_.of('qc_certificate_expiry_timestamp_seconds', but='gateway')}) - time()) / 86400"),), 2,
             "QcCertificateExpiresSoon", ((3, "orange"), (21, "green")), "red"),
        Stat("Version", "What runs; two of them while an upgrade is under way.", COUNT,
             (Query(f"count by (version) ({_.of('qc_build_info')})", "{{version}}"),), 2, colour="blue", names=True),
    ),
)  # fmt: skip

CALLERS: Final = Row(
    title="Callers: what do they ask, and what do they get?",
    panels=(
        Graph("Calls by code", "Finished gRPC calls. INTERNAL, UNKNOWN and UNAVAILABLE are never the caller's doing.",
              PER_SECOND, (Query(_.rate("qc_requests_total", by="code"), "{{code}}"),), runbook="QcErrorBudgetBurnFast",
              colours=CODES, stacked=True),
        Graph("Commands by outcome", "What came of commands. Unknown: nobody knows whether it was carried out.",
              PER_SECOND, (Query(_.rate("qc_command_outcomes_total", by="outcome"), "{{outcome}}"),),
              runbook="QcOutcomesUnknown", colours=OUTCOMES, stacked=True),
        Graph("Time to confirmation", "From sending a command to the event that proves it.", SECONDS,
              tuple(Query(_.quantile(share, "qc_command_confirmation_seconds"), f"p{share * 100:.0f}")
                    for share in (0.5, 0.99)), runbook="QcLatencyBudgetBurnFast"),
        Graph("Open streams", "gRPC streams that are open now; Watch streams are those of InspectorEvents.", COUNT,
              (Query(f"sum by (service) ({_.of('qc_streams_active')})", "{{service}}"),)),
    ),
)  # fmt: skip

INSPECTORS: Final = Row(
    title="Inspectors: are sign-ins in danger?",
    panels=(
        Graph("Sessions by state", "What inspectors do. Degraded, recovering and lost are in place of that.", COUNT,
              (Query(f"sum by (state) ({_.of('qc_sessions')}) > 0", "{{state}}"),), runbook="QcSessionsLost",
              colours=STATES, stacked=True),
        Graph("Oldest poll by replica", "Lines: 60 s look, 100 s wake somebody, 120 s the gateway signs out.", SECONDS,
              (Query(f"max by (instance) ({_.of('qc_poll_age_seconds')})", "{{instance}}"),),
              runbook="QcSignOutImminent", steps=POLL_AGE_STEPS, reaches=130),
        Graph("Sessions without a reader", "No replica has a lease for them; a dead one's are taken over.", COUNT,
              (Query(f"max by (gateway) ({_ALL.of('qc_sessions_unread')})", "{{gateway}}"),),
              runbook="QcSessionsUnread", steps=ANY_IS_BAD, reaches=2),
        Graph("Leases by replica", "For how many inspectors each replica reads. Shares are equal when all is calm.",
              COUNT, (Query(f"sum by (instance) ({_.of('qc_leases_held')})", "{{instance}}"),),
              runbook="QcReplicaImbalance", stacked=True),
    ),
)  # fmt: skip

EVENTS: Final = Row(
    title="Events: do they come, and do they get through?",
    panels=(
        Graph("Events read", "Events that came from the gateways, polled or pushed.", PER_SECOND,
              (Query(_.rate("qc_events_total", by="gateway"), "{{gateway}}"),)),
        Graph("Gaps by reason", "Places where events may have been lost, each told to every Watch stream.", COUNT,
              (Query(_.increase("qc_event_gaps_total", by="reason"), "{{reason}}"),), runbook="QcEventGaps",
              colours=GAPS, bars=True),
        Graph("Pushes by outcome", "Pushes of the gateways. All but taken and repeated come again, until sign-out.",
              PER_SECOND, (Query(_.rate("qc_pushes_total", by="outcome"), "{{outcome}}"),), runbook="QcPushesFailing",
              colours=PUSHES, stacked=True),
        Graph("Delivery to streams", "From reading an event at the gateway to writing it to a Watch stream.", SECONDS,
              tuple(Query(_.quantile(share, "qc_event_delivery_seconds"), f"p{share * 100:.0f}")
                    for share in (0.5, 0.99))),
    ),
)  # fmt: skip

DEPENDENCIES: Final = Row(
    title="Gateway, leases and store: who is to blame?",
    panels=(
        Graph("Gateway replies", "How long gateways take for a request; polls are held on purpose and left out.",
              SECONDS, tuple(Query(_.quantile(share, "qc_gateway_request_seconds", BY_ITSELF), f"p{share * 100:.0f}")
                             for share in (0.5, 0.99)), runbook="QcGatewayDown"),
        Graph("Gateway refusals", "By return code; none: no readable reply. `qc-adapter explain` tells their meaning.",
              PER_SECOND, (Query(_.rate("qc_gateway_requests_total", REFUSED, by="retcode"), "{{retcode}}"),),
              runbook="QcGatewayRefusals", stacked=True),
        Graph("Lease changes", "taken_over and fenced: a replica went silent. won and released: a start or a rollout.",
              COUNT, (Query(_.increase("qc_lease_changes_total", by="reason"), "{{reason}}"),),
              runbook="QcReplicaImbalance", bars=True),
        Graph("Store errors", "Operations on Redis that failed.", PER_SECOND,
              (Query(_.rate("qc_store_errors_total"), "all"),
               Query(f"{_.rate('qc_store_errors_total', by='operation')} > 0", "{{operation}}")),
              runbook="QcStoreErrors", colours={"all": "text"}),
    ),
)  # fmt: skip

TRUST: Final = Row(
    title="Trust: who is refused, and is what was changed in force?",
    panels=(
        Graph("Calls refused to callers", "The most frequent, by the caller's name in the policy; none: no name there.",
              PER_SECOND, (Query(f"topk(10, {_ALL.rate('qc_calls_refused_total', by='caller, why')})",
                                 "{{caller}}: {{why}}"),), runbook="QcCallsRefused", stacked=True),
        Graph("Files that cannot be used", "Replaced by what is not taken; what was read before stays in use.", COUNT,
              (Query(f"max by (what) ({_ALL.of('qc_reload_refused')})", "{{what}}"),), runbook="QcReloadRefused",
              steps=ANY_IS_BAD, reaches=1),
        Graph("Audit records", "After a failed one nothing is done that could not be put on record.", PER_SECOND,
              (Query(_ALL.rate("qc_audit_records_total", by="outcome"), "{{outcome}}"),), runbook="QcAuditFailing"),
        Graph("Circuits open", "Replicas whose commands to a gateway fail at once, for those before had no answer.",
              COUNT, (Query(f"sum by (gateway) ({_ALL.of('qc_gateway_circuit_open')})", "{{gateway}}"),),
              runbook="QcGatewayDown", reaches=2),
    ),
)  # fmt: skip

PROCESSES: Final = Row(
    title="Processes",
    panels=(
        Graph("Event loop lag, p99", "How much too late the event loop turns. Everything waits for it.", SECONDS,
              (Query(_.quantile(0.99, "qc_event_loop_lag_seconds", by="instance"), "{{instance}}"),), 5,
              "QcEventLoopLag"),
        Graph("CPU, cores", "Each replica uses one core at most.", COUNT,
              (Query(_.rate("process_cpu_seconds_total", by="instance"), "{{instance}}"),), 5, reaches=1),
        Graph("Memory", "Resident memory.", BYTES,
              (Query(f"sum by (instance) ({_.of('process_resident_memory_bytes')})", "{{instance}}"),), 5),
        Graph("Open files", "Sockets and files.", COUNT,
              (Query(f"sum by (instance) ({_.of('process_open_fds')})", "{{instance}}"),), 5),
        Graph("Garbage collections", "Of the youngest generation there are many, of the oldest there are few.",
              PER_SECOND, (Query(_.rate("python_gc_collections_total", by="generation"), "generation {{generation}}"),),
              4),
    ),
)  # fmt: skip

ROWS: Final = (GLANCE, CALLERS, INSPECTORS, EVENTS, DEPENDENCIES, TRUST, PROCESSES)
