"""Ranges of agent ids, as the policy has them, merged and sorted so that an id is looked up in no time."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: In place of a gateway's name: the agents' gateway is that of the inspector.
OF_THE_INSPECTOR: Final = ""

_Spans = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Span:
    """The ids from `first` to `last` at one gateway."""

    gateway: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Ranges:
    """Ids at gateways; `text` is how the policy wrote them."""

    text: str
    everybody: bool = False
    _spans: Mapping[str, _Spans] = field(default_factory=dict)

    def cover(self, gateway: str, number: int) -> bool:
        """Whether that id is one of them."""
        return self.everybody or self._has(gateway, number) or self._has(OF_THE_INSPECTOR, number)

    def _has(self, gateway: str, number: int) -> bool:
        spans = self._spans.get(gateway)
        if spans is None:
            return False
        place = bisect_right(spans[0], number)
        return place > 0 and number <= spans[1][place - 1]


EVERYBODY: Final = Ranges("all", everybody=True)


def ranges_of(text: str, spans: Iterable[Span]) -> Ranges:
    """Return the ids of all these spans, which may overlap."""
    merged: dict[str, list[list[int]]] = {}
    for span in sorted(spans, key=lambda one: (one.gateway, one.first)):
        found = merged.setdefault(span.gateway, [])
        if found and span.first <= found[-1][1] + 1:
            found[-1][1] = max(found[-1][1], span.last)
        else:
            found.append([span.first, span.last])
    return Ranges(
        text,
        _spans={
            gateway: (tuple(first for first, _ in found), tuple(last for _, last in found))
            for gateway, found in merged.items()
        },
    )
