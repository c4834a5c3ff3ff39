"""Reads YAML into texts, lists and mappings that know their lines; what a policy does not need is refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MOST_NESTED: Final = 8
# The same events; the one in C is faster by far where it is there.
_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Text:
    """A single value, as it was written; `quoted` unless it stood there bare."""

    line: int
    text: str
    quoted: bool = False


@dataclass(frozen=True, slots=True)
class Listed:
    """A list."""

    line: int
    items: list[Node] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Mapped:
    """A mapping; its pairs in their order, with those that repeat a key."""

    line: int
    pairs: list[tuple[Text, Node]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Refused:
    """Stands for what was complained of already."""

    line: int


Node = Text | Listed | Mapped | Refused


class _GivenUp(Exception):
    """What follows cannot be made sense of."""


def read_nodes(text: str, complain: Callable[[int, str], None]) -> Node:
    """Return the one document of the text. Complains with a line, counted from 1, and what to change."""
    reading = _Reading(yaml.parse(text, Loader=_LOADER), complain)
    try:
        return reading.document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join(part for part in (error.context, error.problem) if part)
        complain(mark.line + 1 if mark else 1, f"cannot be read as YAML: {what}")
    except yaml.reader.ReaderError as error:
        complain(text.count("\n", 0, error.position) + 1, f"cannot be read as YAML: {error.reason}")
    except _GivenUp:
        pass
    return Refused(1)


class _Reading:
    def __init__(self, events: Iterator[Any], complain: Callable[[int, str], None]) -> None:
        self._events = events
        self._complain = complain

    def document(self) -> Node:
        found: Node | None = None
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                if found is not None:
                    self._complain(_line(event), "is a second document: write all into one, without ---")
                    raise _GivenUp
                found = self._node(next(self._events), 1)
        return Text(1, "") if found is None else found

    def _node(self, event: Any, depth: int) -> Node:
        line = _line(event)
        if isinstance(event, yaml.AliasEvent):
            self._complain(line, f"*{event.anchor} stands for something else: aliases are not read, write it out")
            return Refused(line)
        if event.anchor is not None:
            self._complain(line, f"&{event.anchor} is an anchor, which is not read: take it away")
        if event.tag is not None:
            self._complain(line, "has a type (! or !!), which is not read: take it away")
        if isinstance(event, yaml.ScalarEvent):
            return Text(line, event.value, quoted=event.style is not None and event.style != "")
        if depth > _MOST_NESTED:
            self._complain(line, "is nested deeper than anything in a policy")
            raise _GivenUp
        if isinstance(event, yaml.SequenceStartEvent):
            return self._listed(line, depth)
        return self._mapped(line, depth)

    def _listed(self, line: int, depth: int) -> Listed:
        found = Listed(line)
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            found.items.append(self._node(event, depth + 1))
        return found

    def _mapped(self, line: int, depth: int) -> Mapped:
        found = Mapped(line)
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key, value = self._node(event, depth + 1), self._node(next(self._events), depth + 1)
            if isinstance(key, Text):
                found.pairs.append((key, value))
            elif not isinstance(key, Refused):
                self._complain(key.line, "a key must be a word")
        return found


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1
