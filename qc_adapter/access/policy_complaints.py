"""Collects what is wrong with a policy, and reads its mappings and lists with a complaint for all that is odd."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from qc_adapter.access.policy_nodes import Listed, Mapped, Node, Refused, Text

if TYPE_CHECKING:
    from collections.abc import Collection

#: Nobody reads on after so many.
_MOST: Final = 100
_LONGEST_SHOWN: Final = 60


@dataclass(frozen=True, slots=True, order=True)
class PolicyProblem:
    """What is wrong in a line, and what to change."""

    line: int
    what: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.what}"


class Complaints:
    """The problems of one file."""

    def __init__(self) -> None:
        self.problems: list[PolicyProblem] = []

    def add(self, line: int, what: str) -> None:
        """Note a problem."""
        if len(self.problems) < _MOST:
            self.problems.append(PolicyProblem(line, what))

    def in_order(self) -> list[PolicyProblem]:
        """Return the problems by line."""
        return sorted(self.problems, key=lambda problem: problem.line)

    def mapping(self, node: Node, where: str, known: Collection[str] = ()) -> dict[str, tuple[int, Node]] | None:
        """Return lines and values by key, without keys that are not `known` (empty: all are); None for no mapping."""
        if not isinstance(node, Mapped):
            self._no(node, where, "must be a mapping, with a colon behind each key")
            return None
        found: dict[str, tuple[int, Node]] = {}
        for key, value in node.pairs:
            name = key.text
            if known and name not in known:
                self.add(key.line, f"{where}: {_unknown(name, known, 'key')}")
            elif name in found:
                self.add(key.line, f"{where}: {shown(name)} stands there twice, first in line {found[name][0]}")
            else:
                found[name] = key.line, value
        return found

    def texts(self, node: Node, where: str, example: str) -> list[Text]:
        """Return the single values of a list, which must have one at least."""
        if not isinstance(node, Listed):
            self._no(node, where, f"must be a list, like [{example}]")
            return []
        if not node.items:
            self.add(node.line, f"{where}: is empty: name one at least, like [{example}]")
        found = []
        for item in node.items:
            if isinstance(item, Text):
                found.append(item)
            else:
                self._no(item, where, f"must hold single values, like [{example}]")
        return found

    def items(self, node: Node, where: str, what: str) -> list[Node]:
        """Return the items of a list, which may be empty."""
        if isinstance(node, Listed):
            return node.items
        self._no(node, where, f"must be a list of {what}, each behind a hyphen, or [] for none")
        return []

    def unknown(self, text: Text, where: str, known: Collection[str], what: str) -> None:
        """Complain of a value that is none of those there are."""
        self.add(text.line, f"{where}: {_unknown(text.text, known, what)}")

    def _no(self, node: Node, where: str, must: str) -> None:
        if isinstance(node, Refused):
            return
        empty = isinstance(node, Text) and not node.text
        self.add(node.line, f"{where}: {'is empty: it ' if empty else ''}{must}")


def shown(text: str) -> str:
    """Return a text of the file as it may stand in a message: one line, not endless."""
    return ascii(text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}...")


def _unknown(text: str, known: Collection[str], what: str) -> str:
    if text == "<<":
        return "<< takes over other keys, which is not read: write them out"
    near = difflib.get_close_matches(text[:_LONGEST_SHOWN], sorted(known), n=1)
    meant = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known))}"
    return f"{shown(text)} is no {what}: {meant}"
