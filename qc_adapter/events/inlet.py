"""
The way into a log for events that no poll of ours brought: pushed by the gateway, or fed in by another system.

A batch whose answer got lost comes again, and events have no numbers: what a batch repeats is known by comparing it
with the one before. What comes again sooner than whoever sends it would repeat anything is new: the same may happen
twice. An event with a time stamp happens once, so it is known by itself: a copy may come late, from a replica that was
frozen with it in its hands, when newer events are logged already.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

import orjson

from qc_adapter.events.model import GapReason, Item
from qc_adapter.events.translate import translate
from qc_adapter.model.errors import EventsReadElsewhere, NotSignedIn
from qc_adapter.model.inspector import number_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from qc_adapter.events.hub import Hub
    from qc_adapter.gateway.envelope import RawEvent
    from qc_adapter.model.session import EventSource
    from qc_adapter.sessions.store import SessionStore

#: The gateway gives up after 120 s of failed pushes, with 10 s between two of them (development guide 1407).
REPEATED_WITHIN_SECONDS: Final = 150.0
#: More than this at once is no batch of a gateway.
MOST_EVENTS: Final = 2000
#: How many events that happen once are remembered, for copies that come late.
MOST_REMEMBERED: Final = 128
#: Ends the mark of an event that happens once.
ONCE: Final = "!"
_MARK_BYTES: Final = 8
LONGEST_MARK: Final = 2 * _MARK_BYTES + len(ONCE)


@dataclass(frozen=True, slots=True)
class Batch:
    """
    What came in at once, oldest first, and a mark of each item by which it is known again.

    It repeats nothing that came in less than `repeats_after_seconds` before. `nonce` names this very arrival.
    """

    items: tuple[Item, ...]
    marks: tuple[str, ...]
    repeats_after_seconds: float = 0.0
    nonce: str = field(default_factory=lambda: secrets.token_hex(6))


@dataclass(frozen=True, slots=True)
class Logged:
    """How many items are new in the log, how many had come before, and the cursor behind them."""

    new: int
    repeated: int
    cursor: str


class Inlet(Protocol):
    """Takes batches into logs."""

    async def take(self, agent_id: str, source: EventSource, batch: Batch) -> Logged:
        """
        Log what is new of a batch for a session with that event source; returns when it is in the log.

        While the inspector is just being signed in, the session need not be there yet: events may come before the
        reply. Raises `NotSignedIn`, `EventsReadElsewhere` and `StoreUnavailable`; then nothing was logged.
        """
        ...


def batch_of(
    agent_id: str,
    events: Sequence[RawEvent],
    *,
    unread: int = 0,
    batch_id: str = "",
    repeats_after_seconds: float = 0.0,
) -> Batch:
    """
    Return events of one inspector as a batch; `unread` entries that are no events leave a gap at its end.

    With a `batch_id` the batch is known again by that.
    """
    received_at = time.time()
    number = number_of(agent_id)
    items: list[Item] = [translate(raw, received_at, work_no=number) for raw in events]
    marks = [_mark(batch_id and (batch_id, place), raw) for place, raw in enumerate(events)]
    if unread:
        items.append(GapReason.POLL_REPLY_LOST)
        marks.append("gap")
    return Batch(tuple(items), tuple(marks), repeats_after_seconds)


def seen(recent: Collection[str], marks: Sequence[str]) -> int:
    """Return how many of the first marks are of events that happen once, and that are remembered."""
    return next((n for n, mark in enumerate(marks) if mark[-1] != ONCE or mark not in recent), len(marks))


def repeated(before: Sequence[str], marks: Sequence[str]) -> int:
    """Return how many of the first marks repeat the batch before: all of it or none."""
    return len(before) if tuple(marks[: len(before)]) == tuple(before) else 0


def _mark(name: object, raw: RawEvent) -> str:
    told = name or (raw.event_type, raw.work_no, raw.content, raw.gateway_time_ms)
    try:
        text = orjson.dumps(told, option=orjson.OPT_SORT_KEYS)
    except (TypeError, ValueError):  # a number of more than 64 bits
        text = repr(told).encode(errors="replace")
    mark = hashlib.blake2b(text, digest_size=_MARK_BYTES).hexdigest()
    # A batch with a name is known by that alone, and its sender may begin to count anew.
    return mark + ONCE if raw.gateway_time_ms is not None and not name else mark


class MemoryInlet:
    """The way into the logs of the only replica there is."""

    def __init__(self, store: SessionStore, hub: Hub, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._hub = hub
        self._clock = clock

    async def take(self, agent_id: str, source: EventSource, batch: Batch) -> Logged:
        """Log what is new of a batch."""
        session, signing = await self._store.get(agent_id), await self._store.under_way(agent_id)
        if not signing:
            if session is None:
                raise NotSignedIn(agent_id)
            if session.event_source is not source:
                raise EventsReadElsewhere(agent_id, session.event_source)
        feed = self._hub.feed(agent_id)
        now = self._clock()
        came_at, before, recent = feed.last_batch
        again = batch.repeats_after_seconds <= now - came_at < REPEATED_WITHIN_SECONDS
        same = repeated(before, batch.marks) if again else 0
        known = max(same, seen(recent, batch.marks))
        last_words = not signing and session is not None and session.recovering
        if batch.items[known:] and not last_words:
            feed.mend()
        for item in batch.items[known:]:
            feed.append(item)
        if same == known or known < len(batch.marks):  # else it is a late copy: what came last is another batch
            recent = (*recent, *(mark for mark in batch.marks[known:] if mark[-1] == ONCE))[-MOST_REMEMBERED:]
            feed.last_batch = (now, batch.marks, recent)
        return Logged(len(batch.items) - known, known, feed.cursor(feed.tail))
