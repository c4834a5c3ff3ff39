"""Reads as much of PromQL as it takes to say whether what an expression names is what the adapter tells Prometheus."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import yaml

from qc_adapter.gateway import operations
from qc_adapter.gateway.retcodes import RETCODES
from qc_adapter.telemetry import labels as closed
from qc_adapter.telemetry.catalogue import CALL_SECONDS, CATALOGUE
from qc_adapter.v1 import events_pb2, quality_control_pb2, sessions_pb2

RULES = Path(__file__).parents[1] / "prometheus"


def rules_of(name: str) -> list[dict[str, str]]:
    """Return all rules of a file."""
    return [rule for group in yaml.safe_load((RULES / name).read_text())["groups"] for rule in group["rules"]]


RECORDED = {rule["record"] for rule in rules_of("recording.yaml")}
#: Labels that Prometheus gives to a target.
TARGET = {"namespace", "job", "instance"}

LABELS: dict[str, set[str]] = {"up": set(), "process_start_time_seconds": set(), "process_cpu_seconds_total": set()}
for _row in CATALOGUE:
    LABELS[_row.name] = set(_row.labels)
    if _row.kind == "histogram":
        LABELS[f"{_row.name}_bucket"] = {*_row.labels, "le"}
        LABELS[f"{_row.name}_count"] = LABELS[f"{_row.name}_sum"] = set(_row.labels)

RPCS = tuple(
    method
    for file in (quality_control_pb2, sessions_pb2, events_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
)
_SETS = closed.LabelSets(frozenset(), frozenset(), frozenset(), frozenset())
VALUES: dict[str, set[str]] = {
    "method": {*operations.METHODS, *(rpc.name for rpc in RPCS)},
    "code": set(closed.GRPC_CODES),
    "retcode": {*RETCODES, "0", "none", "other"},
    "outcome": {*_SETS.outcomes, *_SETS.push_outcomes, *_SETS.reload_outcomes, *_SETS.audit_outcomes},
    "why": set(_SETS.refusals),
    "what": set(_SETS.reloaded),
    "reason": {*_SETS.gap_reasons, *_SETS.lease_reasons},
    "state": set(_SETS.session_states),
    "job": {"qc-adapter"},
    "le": {str(bound) for bound in CALL_SECONDS},
}

_SELECTOR = re.compile(r"((?:\w+:)?\b(?:qc_|process_)\w+(?::\w+)?|\bup\b)\s*(\{[^}]*\})?")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
_LISTS = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")


@dataclass(frozen=True, slots=True)
class Selector:
    """A metric as an expression names it, with its matchers as (label, operator, text)."""

    metric: str
    matchers: tuple[tuple[str, str, str], ...]

    def values(self, label: str) -> list[str]:
        """Return the values of a label that are named; alternatives are taken apart."""
        return [value for name, _, text in self.matchers if name == label for value in text.split("|")]

    def faults(self) -> list[str]:
        """Return what it names that there is not: a metric, a label, a value that would never match."""
        if self.metric in RECORDED:
            return []
        if self.metric not in LABELS:
            return [self.metric]
        labels = [label for label, _, _ in self.matchers]
        strange = [f"{self.metric}: {label}" for label in labels if label not in LABELS[self.metric] | TARGET]
        return strange + [f"{label}={value}" for label in labels if label in VALUES
                          for value in self.values(label) if value not in VALUES[label]]  # fmt: skip


def selectors(expression: str) -> list[Selector]:
    """Return every selector of an expression."""
    found = _SELECTOR.findall(_LISTS.sub(" ", expression))
    return [Selector(metric, tuple(_MATCHER.findall(braces))) for metric, braces in found]


def grouping_labels(expression: str) -> set[str]:
    """Return the labels that an expression groups or matches by."""
    return {label.strip() for inside in _LISTS.findall(expression) for label in inside.split(",") if label.strip()}


def faults(expression: str) -> list[str]:
    """Return what an expression names that there is not."""
    strange = grouping_labels(expression) - set().union(TARGET, {"retcode_group"}, *LABELS.values())
    return [fault for one in selectors(expression) for fault in one.faults()] + sorted(strange)
