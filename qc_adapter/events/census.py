"""How many sessions are in which state, counted for a page of metrics."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Final, TypeVar

from qc_adapter.events.leases import label_of
from qc_adapter.model.inspector import gateway_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from qc_adapter.events.leases import PollState
    from qc_adapter.events.reader import Reader

T = TypeVar("T")

#: So many inspectors are looked at in one go: a millisecond or two.
_PART: Final = 500


def parts(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Cut what takes long into parts, between which others can have their turn."""
    return (items[start : start + _PART] for start in range(0, len(items), _PART))


class Census:
    """The sessions by gateway and state, and the poll at each gateway whose answer is the longest ago."""

    def __init__(self) -> None:
        self.states: Counter[tuple[str, str]] = Counter()
        self._answered_at: dict[str, float] = {}

    def add(self, readers: Iterable[tuple[str, Reader]]) -> None:
        """Count readers, by inspector."""
        for agent_id, reader in readers:
            gateway, answered_at = gateway_of(agent_id), reader.answered_at
            self.states[gateway, label_of(reader.state, reader.lease.activity)] += 1
            if answered_at < self._answered_at.get(gateway, answered_at + 1):
                self._answered_at[gateway] = answered_at

    def lost(self, states: Mapping[str, PollState]) -> None:
        """Count those whose session has ended."""
        self.states.update((gateway_of(agent_id), state.value) for agent_id, state in states.items())

    def oldest_poll_seconds(self, gateway: str) -> float:
        """Return how long ago that poll was answered; 120 s without one are a sign-out."""
        answered_at = self._answered_at.get(gateway)
        return 0.0 if answered_at is None else time.monotonic() - answered_at
