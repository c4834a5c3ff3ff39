"""From the nodes of the file to the policy. It goes on after a problem, so that all are told."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Final

from qc_adapter.access.identities import read_identity
from qc_adapter.access.limit_values import NO_LIMITS, Limits
from qc_adapter.access.policy import Entry, Policy, Rule
from qc_adapter.access.policy_complaints import shown
from qc_adapter.access.policy_methods import METHODS, SERVICES, Names
from qc_adapter.access.policy_nodes import Listed, Node, Refused, Text
from qc_adapter.access.ranges import EVERYBODY, OF_THE_INSPECTOR, Ranges, Span, ranges_of
from qc_adapter.model.inspector import DEFAULT_GATEWAY

if TYPE_CHECKING:
    from qc_adapter.access.policy_complaints import Complaints

_VERSION: Final = "1"
_CALLER_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,62}", re.ASCII)
#: Stands in metrics for callers that the policy does not have.
_NOBODY: Final = "none"
_ALL: Final = "all"
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)
_RANGE: Final = re.compile(
    r"(?:(?P<gateway>[a-z][a-z0-9-]{0,30})/)?(?P<first>[1-9][0-9]{0,8})(?:-(?P<last>[1-9][0-9]{0,8}))?", re.ASCII
)
_LIMITS: Final = tuple(one.name for one in fields(Limits))
_INSPECTORS: Final = "101-199, north/101-120"
_TARGETS: Final = "200-59999"


class PolicyReader:
    """Reads one policy; with `gateways` ranges may name these only."""

    def __init__(self, complaints: Complaints, gateways: frozenset[str] | None) -> None:
        self._complaints = complaints
        self._gateways = gateways
        self._identities: dict[str, tuple[str, int]] = {}

    def policy(self, root: Node) -> Policy | None:
        """Return the policy as far as it could be read."""
        if isinstance(root, Text) and not root.text:
            self._complaints.add(root.line, "the file is empty: write version: 1 and callers")
            return None
        keys = self._complaints.mapping(root, "policy", ("version", "limits", "callers"))
        if keys is None:
            return None
        self._version(root, keys.get("version"))
        limits = self._limits(keys["limits"][1], "limits", NO_LIMITS) if "limits" in keys else NO_LIMITS
        if "callers" not in keys:
            self._complaints.add(root.line, "callers is missing: without callers nobody may do anything")
            return None
        line, callers = keys["callers"]
        found = self._complaints.mapping(callers, "callers")
        if found == {}:
            self._complaints.add(line, "callers is empty: without callers nobody may do anything")
        return Policy([self._entry(name, at, node, limits) for name, (at, node) in (found or {}).items()], limits)

    def _version(self, root: Node, version: tuple[int, Node] | None) -> None:
        if version is None:
            self._complaints.add(root.line, f"version is missing: write version: {_VERSION}")
        elif not (isinstance(version[1], Text) and version[1].text == _VERSION):
            self._complaints.add(version[0], f"version must be {_VERSION}: this version reads no other form")

    def _entry(self, name: str, line: int, node: Node, limits: Limits) -> Entry:
        where = f"callers.{name}" if _CALLER_NAME.fullmatch(name) else "callers"
        if where == "callers":
            self._complaints.add(
                line, f"{where}: {shown(name)} must be lower-case letters, digits and hyphens, a letter first"
            )
        elif name == _NOBODY:
            self._complaints.add(line, f"{where}: stands for callers that have no name here: choose another name")
        keys = self._complaints.mapping(node, where, ("identities", "limits", "allow"))
        if keys is None:
            return Entry(name, line, (), limits, ())
        if "identities" not in keys:
            self._complaints.add(line, f"{where}: identities is missing: name what the caller proves")
        if "allow" not in keys:
            self._complaints.add(line, f"{where}: allow is missing: write the rules, or allow: [] for none")
        return Entry(
            name,
            line,
            self._read_identities(name, keys["identities"][1], where) if "identities" in keys else (),
            self._limits(keys["limits"][1], f"{where}.limits", limits) if "limits" in keys else limits,
            self._rules(name, keys["allow"][1], where) if "allow" in keys else (),
        )

    def _read_identities(self, name: str, node: Node, where: str) -> tuple[str, ...]:
        found = []
        where = f"{where}.identities"
        for text in self._complaints.texts(node, where, '"dns:desk.example"'):
            try:
                identity = read_identity(text.text)
            except ValueError as error:
                self._complaints.add(text.line, f"{where}: {shown(text.text)} {error}")
                continue
            owner, line = self._identities.setdefault(identity, (name, text.line))
            if (owner, line) != (name, text.line) or identity in found:
                what = f"{shown(identity)} is one of {owner} already (line {line}): it can belong to one caller only"
                self._complaints.add(text.line, f"{where}: {what}")
            found.append(identity)
        return tuple(found)

    def _limits(self, node: Node, where: str, common: Limits) -> Limits:
        given = {}
        for name, (line, value) in (self._complaints.mapping(node, where, _LIMITS) or {}).items():
            if isinstance(value, Text) and not value.quoted and _NUMBER.fullmatch(value.text):
                given[name] = int(value.text)
            elif not isinstance(value, Refused):
                self._complaints.add(line, f"{where}: {name} must be a whole number above 0; leave it out for no limit")
        return replace(common, **given)

    def _rules(self, name: str, node: Node, where: str) -> tuple[Rule, ...]:
        items = self._complaints.items(node, f"{where}.allow", "rules")
        return tuple(self._rule(name, number, item, where) for number, item in enumerate(items, 1))

    def _rule(self, name: str, number: int, node: Node, where: str) -> Rule:
        where = f"{where}.allow[{number}]"
        keys = self._complaints.mapping(node, where, ("methods", "inspectors", "targets"))
        methods: frozenset[str] = frozenset()
        inspectors, targets = ranges_of("", ()), None
        if keys is None:
            return Rule(name, number, node.line, methods, inspectors, targets)
        sound = False
        if "methods" in keys:
            before = len(self._complaints.problems)
            methods = self._methods(keys["methods"][1], f"{where}.methods", keys.get("targets"))
            sound = len(self._complaints.problems) == before
        else:
            self._complaints.add(node.line, f"{where}: methods is missing: name methods or services")
        if "inspectors" in keys:
            inspectors = self._ranges(keys["inspectors"][1], f"{where}.inspectors", DEFAULT_GATEWAY, _INSPECTORS)
        else:
            what = f"inspectors is missing: name them, like [{_INSPECTORS}], or write all"
            self._complaints.add(node.line, f"{where}: {what}")
        having = sorted(method for method in methods if METHODS[method].has_targets)
        if "targets" in keys:
            targets = self._ranges(keys["targets"][1], f"{where}.targets", OF_THE_INSPECTOR, _TARGETS)
            if sound and not having:
                what = "targets is of no use: none of the methods does anything to an agent, so it would keep from none"
                self._complaints.add(keys["targets"][0], f"{where}: {what}")
        elif having:
            what = f"targets is missing: name the agents whom {having[0]} is for, like [{_TARGETS}], or write all"
            self._complaints.add(node.line, f"{where}: {what}")
        return Rule(name, number, node.line, methods, inspectors, targets)

    def _methods(self, node: Node, where: str, targets: tuple[int, Node] | None) -> frozenset[str]:
        found: set[str] = set()
        for text in self._complaints.texts(node, where, "Listen, InspectorEvents"):
            if text.text in SERVICES:
                found |= SERVICES[text.text]
            elif text.text in METHODS:
                found.add(text.text)
                if METHODS[text.text].names is Names.CALL and targets is not None and isinstance(targets[1], Listed):
                    what = f"{text.text} names a call, and nobody knows whose: it takes a rule with targets: all"
                    self._complaints.add(text.line, f"{where}: {what}")
            else:
                self._complaints.unknown(text, where, [*METHODS, *SERVICES], "method or service")
        return frozenset(found)

    def _ranges(self, node: Node, where: str, unnamed: str, example: str) -> Ranges:
        """Return the ranges; `unnamed` is the gateway of those that name none."""
        if isinstance(node, Text) and node.text == _ALL:
            return EVERYBODY
        if isinstance(node, Text):
            self._complaints.add(node.line, f"{where}: must be a list, like [{example}], or all")
            return ranges_of("", ())
        texts = self._complaints.texts(node, where, example)
        spans = [span for text in texts if (span := self._span(text, where, unnamed)) is not None]
        return ranges_of(", ".join(text.text for text in texts) if isinstance(node, Listed) else "", spans)

    def _span(self, text: Text, where: str, unnamed: str) -> Span | None:
        said = shown(text.text)
        match = _RANGE.fullmatch(text.text)
        if text.text == _ALL:
            self._complaints.add(text.line, f"{where}: all stands alone: write all in place of the list")
            return None
        if match is None:
            self._complaints.add(text.line, f"{where}: {said} must be like 101, 101-199 or north/101-120")
            return None
        gateway, first = match["gateway"] or unnamed, int(match["first"])
        last = int(match["last"] or first)
        if first > last:
            self._complaints.add(text.line, f"{where}: {said} ends before it begins: write {last}-{first}")
            return None
        if self._gateways is not None and gateway and gateway not in self._gateways:
            known = ", ".join(sorted(self._gateways))
            self._complaints.add(
                text.line, f"{where}: {said} names a gateway that the settings do not have: they have {known}"
            )
            return None
        return Span(gateway, first, last)
