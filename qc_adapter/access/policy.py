"""The policy: which caller may do what, for which inspectors, to which agents. What no rule allows is denied."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from qc_adapter.access.asked import place_of
from qc_adapter.access.identities import lowered
from qc_adapter.access.limit_values import NO_LIMITS, Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from qc_adapter.access.asked import Asked
    from qc_adapter.access.caller import Caller
    from qc_adapter.access.ranges import Ranges

#: There may be any number of callers that the policy does not know.
_MOST_KEPT: Final = 1024


@dataclass(frozen=True, slots=True)
class Rule:
    """One item of `allow`: `number` counts from 1, `line` is where it begins. Without targets it has none to allow."""

    caller: str
    number: int
    line: int
    methods: frozenset[str]
    inspectors: Ranges
    targets: Ranges | None

    def covers_inspector(self, asked: Asked) -> bool:
        """Whether the rule is about the inspector."""
        return self.inspectors.cover(asked.gateway, asked.number)

    def covers_targets(self, asked: Asked) -> bool:
        """Whether the rule is about everybody else whom the request names."""
        if not (asked.targets or asked.unnamed):
            return True
        targets = self.targets
        if targets is None:
            return False
        if targets.everybody:
            return True
        return not asked.unnamed and all(targets.cover(asked.gateway, number) for number in asked.targets)


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One caller of the policy."""

    name: str
    line: int
    identities: tuple[str, ...]
    limits: Limits
    rules: tuple[Rule, ...]
    _by_method: Mapping[str, tuple[Rule, ...]] = field(init=False)

    def __post_init__(self) -> None:
        by_method = defaultdict[str, list[Rule]](list)
        for rule in self.rules:
            for method in rule.methods:
                by_method[method].append(rule)
        object.__setattr__(self, "_by_method", {method: tuple(rules) for method, rules in by_method.items()})

    def rules_for(self, method: str) -> tuple[Rule, ...]:
        """Return the rules with that method."""
        return self._by_method.get(method, ())


class Policy:
    """Knows callers by their identities. A decision is a few look-ups."""

    def __init__(self, entries: Iterable[Entry], limits: Limits = NO_LIMITS) -> None:
        """Take the callers, and the limits of those that are not among them."""
        self.entries: Final = tuple(entries)
        self._limits = limits
        self._by_identity = {identity: entry for entry in self.entries for identity in entry.identities}
        # A caller is looked for several times at each of its calls.
        self._entries_of = lru_cache(maxsize=_MOST_KEPT)(self._find)

    @property
    def names(self) -> tuple[str, ...]:
        """The callers' names in the policy."""
        return tuple(entry.name for entry in self.entries)

    def entries_of(self, caller: Caller) -> tuple[Entry, ...]:
        """Return what the policy has for a caller; more than one when its names belong to several."""
        return self._entries_of(caller.names)

    def name_of(self, caller: Caller) -> str:
        """Return the caller's name in the policy, empty if it has none."""
        entries = self.entries_of(caller)
        return entries[0].name if entries else ""

    def limits_of(self, caller: Caller) -> Limits:
        """Return the caller's limits: of several entries those of the first."""
        entries = self.entries_of(caller)
        return entries[0].limits if entries else self._limits

    def knows(self, caller: Caller, method: str) -> bool:
        """Whether the caller may use the method at all, for some inspector."""
        return any(True for _ in self._rules(caller, method))

    def decide(self, caller: Caller, asked: Asked) -> Rule | None:
        """Return the rule that allows it; None: it is denied."""
        for rule in self._rules(caller, asked.method):
            if rule.covers_inspector(asked) and rule.covers_targets(asked):
                return rule
        return None

    def shown(self, caller: Caller, method: str) -> Callable[[str], bool]:
        """Return what tells whether a list that the caller gets by that method may show an inspector."""
        ranges = [rule.inspectors for rule in self._rules(caller, method)]
        if any(one.everybody for one in ranges):
            return lambda _: True

        def may_see(agent_id: str) -> bool:
            place = place_of(agent_id)
            return place is not None and any(one.cover(*place) for one in ranges)

        return may_see

    def _find(self, names: tuple[str, ...]) -> tuple[Entry, ...]:
        found = (self._by_identity.get(lowered(name)) for name in names)
        return tuple(dict.fromkeys(entry for entry in found if entry is not None))

    def _rules(self, caller: Caller, method: str) -> Iterator[Rule]:
        for entry in self.entries_of(caller):
            yield from entry.rules_for(method)
