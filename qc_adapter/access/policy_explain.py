"""Why the policy allows or denies something: for those who write it, never for a caller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qc_adapter.model.inspector import inspector_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qc_adapter.access.asked import Asked
    from qc_adapter.access.policy import Entry, Rule


@dataclass(frozen=True, slots=True)
class Explanation:
    """The verdict; `rule` is the one that decides, or the nearest one of a denial, and `why` what it says."""

    allowed: bool
    rule: Rule | None
    why: str


def explain(entries: Sequence[Entry], asked: Asked) -> Explanation:
    """Return what becomes of a request of a caller with these entries, by which rule."""
    nearest: tuple[int, Rule | None, str] = (-1, None, "the caller has no rule")
    for entry in entries:
        for rule in entry.rules:
            found = _judge(rule, asked)
            if not found[1]:
                return Explanation(allowed=True, rule=rule, why=f"allows {asked.method} for all that is named")
            if found[0] > nearest[0]:
                nearest = (found[0], rule, found[1])
    if not entries:
        return Explanation(allowed=False, rule=None, why="no caller of the policy has this identity")
    return Explanation(allowed=False, rule=nearest[1], why=nearest[2])


def _judge(rule: Rule, asked: Asked) -> tuple[int, str]:
    """Return how near the rule is to allow it, and what it lacks."""
    if asked.method not in rule.methods:
        return 0, f"allows {', '.join(sorted(rule.methods))}, not {asked.method}"
    if asked.number and not rule.covers_inspector(asked):
        inspector = inspector_id(asked.gateway, str(asked.number))
        return 1, f"allows {asked.method} for the inspectors {rule.inspectors.text}, not for {inspector}"
    if rule.covers_targets(asked):
        return 3, ""
    agents = rule.targets.text if rule.targets is not None else "none"
    if asked.unnamed:
        return 2, f"allows {asked.method} to the agents {agents}: for a call that is named by its id it must say all"
    outside = [
        number for number in asked.targets if rule.targets is None or not rule.targets.cover(asked.gateway, number)
    ]
    return 2, f"allows {asked.method} to the agents {agents}, not to {outside[0]}"
