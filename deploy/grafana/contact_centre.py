# ruff: noqa: INP001 - a program and its modules
"""The contact centre's dashboard: do inspections work, how quickly, and what is refused."""

from __future__ import annotations

from typing import Final

from panels import Graph, Heat, Query, Row, Stat, Table
from scope import Scope, or_zero
from words import (
    BY_ITSELF,
    CONFIRMED,
    COUNT,
    DECLINED,
    GAPS,
    OUTCOMES,
    PER_SECOND,
    REFUSED,
    RETCODES,
    SECONDS,
    SEEN,
    SHARE,
    STATES,
    UNKNOWN,
)

UID: Final = "qc-adapter-contact-centre"
TITLE: Final = "QC adapter: contact centre"
DESCRIPTION: Final = "Do inspections work? Methods have the gateway's names: addSupervise is Listen, addInsert Insert."
VARIABLES: Final = ("job", "gateway")

_ = Scope(VARIABLES)
_OUTCOMES: Final = "qc_command_outcomes_total"
_CONFIRMATION: Final = "qc_command_confirmation_seconds"
_RANGE: Final = "$__range"
_HERE: Final = 'state!~"lost|signed_out"'
_LOST: Final = 'reason="session_lost"'
_INSPECTING: Final = 'state=~"seized|listening|inserted|whispering|intercepted"'


def _share(outcome: str, *of: str) -> str:
    # Nothing of nothing is no number, and not shown as one.
    part = _.counted(_OUTCOMES, outcome, within=_RANGE)
    return f"{part} / ({_.counted(_OUTCOMES, *of, within=_RANGE)} > 0)"


def _refusals(by: str, within: str) -> str:
    return _.counted("qc_gateway_requests_total", REFUSED, BY_ITSELF, by=by, within=within)


def _rate_of(outcomes: str) -> str:
    return _.rate(_OUTCOMES, outcomes, by="method")


SUMMARY: Final = Row(
    title="In the time shown",
    height=4,
    panels=(
        Stat("Commands", "Commands that inspectors gave.", COUNT,
             (Query(_.counted(_OUTCOMES, within=_RANGE)),), 3, colour="blue"),
        Stat("Confirmed", "Of the commands that were sent and show in events: proven ones.", SHARE,
             (Query(_share(CONFIRMED, SEEN)),), 3, "QcErrorBudgetBurnFast",
             ((0.95, "orange"), (0.99, "green")), "red", decimals=1),
        Stat("Refused", "Of all commands: declined by the gateway, as when the agent talks no more.", SHARE,
             (Query(or_zero(_share(DECLINED))),), 3, "QcGatewayRefusals",
             ((0.1, "orange"), (0.3, "red")), decimals=1),
        Stat("Unknown", "Commands of which nobody knows whether they were carried out.", COUNT,
             (Query(or_zero(_.counted(_OUTCOMES, UNKNOWN, within=_RANGE))),), 3,
             "QcOutcomesUnknown", ((0.5, "red"),)),
        Stat("Confirmed within", "95 of 100 commands were proven in less.", SECONDS,
             (Query(_.quantile(0.95, _CONFIRMATION, within=_RANGE)),), 3, "QcLatencyBudgetBurnFast",
             ((2.0, "orange"), (5.0, "red")), decimals=2),
        Stat("Inspectors", "Sign-ins that the adapter looks after now.", COUNT,
             (Query(f"sum({_.of('qc_sessions', _HERE)})"),), 3, colour="blue"),
        Stat("Inspecting", "Inspectors who take part in a call, or are about to.", COUNT,
             (Query(f"sum({_.of('qc_sessions', _INSPECTING)})"),), 3, colour="blue"),
        Stat("Sessions lost", "Sign-ins that the gateway ended or forgot.", COUNT,
             (Query(_.increase("qc_lease_changes_total", _LOST, within=_RANGE)),), 3,
             "QcSessionsLost", ((0.5, "orange"),)),
    ),
)  # fmt: skip

COMMANDS: Final = Row(
    title="Commands",
    panels=(
        Graph("Commands by method", "What inspectors ask for.", PER_SECOND,
              (Query(_.rate(_OUTCOMES, by="method"), "{{method}}"),), 8, stacked=True),
        Graph("Commands by outcome", "What came of it.", PER_SECOND,
              (Query(_.rate(_OUTCOMES, by="outcome"), "{{outcome}}"),), 8, "QcOutcomesUnknown", colours=OUTCOMES,
              stacked=True),
        Graph("Share confirmed by method", "Of those that were sent and show in events. No line: none was sent.",
              SHARE, (Query(f"{_rate_of(CONFIRMED)} / ({_rate_of(SEEN)} > 0)", "{{method}}"),), 8,
              "QcErrorBudgetBurnFast", reaches=1),
    ),
)  # fmt: skip

TABLES: Final = Row(
    title="Commands by method and outcome, refusals and their meaning, in the time shown",
    panels=(
        Table("Outcomes of each method", "How many commands ended how.", COUNT,
              (Query(_.counted(_OUTCOMES, by="method, outcome", within=_RANGE)),), 12, labels=("method", "outcome"),
              matrix=True),
        Table("Refusals and their meaning", "Return codes of the gateway; `qc-adapter explain CODE` says what to do.",
              COUNT, (Query(f"{_refusals('retcode, method', _RANGE)} > 0"),), 12, "QcGatewayRefusals",
              labels=("retcode", "method"), meanings=RETCODES),
    ),
)  # fmt: skip

CONFIRMATION: Final = Row(
    title="Time from a command to the event that proves it",
    panels=(
        Graph("Time to confirmation", "All methods together.", SECONDS,
              tuple(Query(_.quantile(share, _CONFIRMATION), f"p{share * 100:.0f}") for share in (0.5, 0.95, 0.99)), 8,
              "QcLatencyBudgetBurnFast"),
        Graph("Time to confirmation by method, p95", "An intercept waits for the customer, a listen for the phone.",
              SECONDS, (Query(_.quantile(0.95, _CONFIRMATION, by="method"), "{{method}}"),), 8),
        Heat("Confirmations", "How many commands were proven after how long.", SECONDS,
             (Query(_.increase(f"{_CONFIRMATION}_bucket", by="le"), "{{le}}"),), 8),
    ),
)  # fmt: skip

INSPECTORS: Final = Row(
    title="Inspectors and events",
    panels=(
        Graph("Inspectors by state", "What inspectors do; degraded, recovering and lost in place of that.", COUNT,
              (Query(f"sum by (state) ({_.of('qc_sessions')}) > 0", "{{state}}"),), colours=STATES, stacked=True),
        Graph("Refusals by return code", "None: no readable reply.", PER_SECOND,
              (Query(_.rate("qc_gateway_requests_total", REFUSED, BY_ITSELF, by="retcode"), "{{retcode}}"),),
              runbook="QcGatewayRefusals", stacked=True),
        Graph("Events by type", "The ten that come most often.", PER_SECOND,
              (Query(f"topk(10, {_.rate('qc_events_total', by='event_type')})", "{{event_type}}"),), stacked=True),
        Graph("Sign-ins lost, and gaps", "Lost: the gateway ended or forgot it. Gap: events may have been lost.", COUNT,
              (Query(_.increase("qc_lease_changes_total", _LOST), "sessions lost"),
               Query(_.increase("qc_event_gaps_total", by="reason"), "{{reason}}")), runbook="QcSessionsLost",
              colours=GAPS | {"sessions lost": "dark-red"}, bars=True),
    ),
)  # fmt: skip

ROWS: Final = (SUMMARY, COMMANDS, TABLES, CONFIRMATION, INSPECTORS)
