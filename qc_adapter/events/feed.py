"""
One inspector's event log as this replica keeps it: a bounded ring with cursors, and the readers that follow it.

With a store in memory the ring is the log. With Redis it mirrors the newest part of the log that all replicas share.
A reader is a place in the ring and a way to be woken. There is no queue for each reader: one that falls behind what
the ring keeps is told so (`SlowConsumer`), and costs the others nothing.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections import deque
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from qc_adapter.events.activity import Activity, activity
from qc_adapter.events.inspection import accepted
from qc_adapter.events.leases import PollState
from qc_adapter.events.model import AgentEvent, Entry, Gap, GapReason
from qc_adapter.events.standing import NOTHING_HEARD, Standing
from qc_adapter.model.errors import AdapterError, CursorExpired, InvalidCursor, SlowConsumer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from qc_adapter.events.inspection import Acceptance, Inspection
    from qc_adapter.events.model import Item
    from qc_adapter.events.pacing import Pacing, Waiting

OLDEST: Final = "oldest"
#: A wait without a deadline still has a timer: event loops do not take infinity.
_LONGEST_WAIT_SECONDS: Final = 86_400.0
_CURSOR = re.compile(r"([0-9a-f]{12})-([0-9]{1,15})")


def fresh_epoch() -> str:
    """Return a name for a log that begins: cursors of another log, or of one that was lost, do not fit it."""
    return secrets.token_hex(6)


@dataclass(frozen=True, slots=True)
class _Era:
    """From the entry `since` on, the entry with a sequence stands at `sequence - offset` in the log `epoch`."""

    since: int
    epoch: str
    offset: int


class Feed:
    """
    The log of one inspector.

    Keeps at most `capacity` entries, none older than `retention_seconds`.
    """

    __slots__ = (
        "_capacity",
        "_ended",
        "_entries",
        "_eras",
        "_next",
        "_pacing",
        "_retention_seconds",
        "_streams",
        "_waiting",
        "detail",
        "endings",
        "inspection",
        "last_batch",
        "listeners",
        "pins",
        "readers",
        "standing",
        "state",
        "torn",
        "touched_at",
    )

    def __init__(self, capacity: int, retention_seconds: float, epoch: str = "", position: int = 0) -> None:
        """Begin behind that position of that log, or with a log of its own."""
        self._entries: deque[Entry] = deque(maxlen=capacity)
        self._capacity = capacity
        self._retention_seconds = retention_seconds
        self._next = position + 1
        self._eras = [_Era(0, epoch or fresh_epoch(), 0)]
        self._waiting: set[Waiting] = set()
        #: Streams that wait, of which there may be thousands, and who wakes them.
        self._streams: set[Waiting] = set()
        self._pacing: Pacing | None = None
        self._ended: AdapterError | None = None
        #: What the events add up to, and what the receipts do.
        self.standing = NOTHING_HEARD
        self.inspection: Inspection | None = None
        #: What the reader of the events last said of the session; None before it said anything.
        self.state: PollState | None = None
        self.detail = ""
        #: Called with each new entry, before readers are woken.
        self.listeners: set[Callable[[Entry], None]] = set()
        #: Called with the reason when there will be no more entries, before readers are woken.
        self.endings: set[Callable[[AdapterError], None]] = set()
        #: How many streams read the feed, also while they write and do not wait.
        self.readers = 0
        #: How many commands that can be repeated began here: who repeats one follows this feed again.
        self.pins = 0
        self.touched_at = time.monotonic()
        #: When the last batch came in that no poll brought, the marks of its items, and those of older events that
        #: happen once; see `qc_adapter.events.inlet`.
        self.last_batch: tuple[float, tuple[str, ...], tuple[str, ...]] = (0.0, (), ())
        #: Whether a sign-in was lost and nothing came since of the one after it; the shared log says it of itself.
        self.torn = False

    @property
    def tail(self) -> int:
        """Sequence of the newest entry, 0 before the first."""
        return self._next - 1

    @property
    def head(self) -> int:
        """Sequence before the oldest entry that is kept."""
        return self._next - 1 - len(self._entries)

    @property
    def epoch(self) -> str:
        """The name of the log."""
        return self._eras[-1].epoch

    @property
    def position(self) -> int:
        """Position of the newest entry in the log."""
        return self._next - 1 - self._eras[-1].offset

    @property
    def talking(self) -> frozenset[str]:
        """Call ids that the inspector is talking on by what the log has seen."""
        return self.standing.talking

    @property
    def activity(self) -> Activity:
        """What the inspector does."""
        return activity(self.standing, self.inspection)

    def cursor(self, sequence: int) -> str:
        """Return the cursor right after the entry with that sequence."""
        era = self._era_of(sequence)
        return f"{era.epoch}-{sequence - era.offset}"

    def place(self, sequence: int) -> tuple[str, int]:
        """Return the log and the position in it that the sequence stands for."""
        era = self._era_of(sequence)
        return era.epoch, sequence - era.offset

    def _era_of(self, sequence: int) -> _Era:
        for era in reversed(self._eras):
            if era.since <= sequence:
                break
        return era

    def locate(self, cursor: str) -> int:
        """
        Return the sequence that a caller's cursor stands for.

        Raises `InvalidCursor`, or `CursorExpired` when what came after it is no longer kept.
        """
        if not cursor:
            return self.tail
        if cursor == OLDEST:
            return self.head
        match = _CURSOR.fullmatch(cursor)
        if match is None:
            raise InvalidCursor
        position = int(match[2])
        if match[1] == self.epoch and position > self.position:
            # What the caller has seen was lost with a part of the log: to show it the rest again would tell it nothing.
            raise CursorExpired(cursor, self.cursor(self.tail))
        sequence = self._find(match[1], position)
        if sequence is None or sequence < self.head:
            raise CursorExpired(cursor, self.cursor(self.head))
        return sequence

    def _find(self, epoch: str, position: int) -> int | None:
        """Return the sequence of a position; of one in a hole of the log, the sequence before the hole's end."""
        last = self.tail
        for era in reversed(self._eras):
            if era.epoch != epoch:
                return (
                    None  # cursors of a log that was lost lead nowhere, though this replica may still keep some of it
                )
            if position >= era.since - era.offset:
                return min(position + era.offset, last)
            last = era.since - 1
        return None

    def sequence_of(self, epoch: str, position: int) -> int:
        """Return the sequence of a position of the log, or the nearest one that is kept."""
        for era in reversed(self._eras):
            if era.epoch == epoch:
                return min(max(position + era.offset, self.head, era.since), self.tail)
        # A log that was lost ended before this one began.
        return max(self.head, min(self._eras[-1].since, self.tail))

    def append(self, item: Item) -> Entry:
        """Add an item behind the newest, tell the listeners and wake the readers."""
        return self._add(item, time.monotonic())

    def accept(self, acceptance: Acceptance) -> None:
        """Take note of what the gateway accepted."""
        self.inspection = accepted(self.inspection, acceptance)

    def tell(self, state: PollState | None, detail: str) -> None:
        """
        Note what the reader says of the session; readers of the feed are woken when it is another state.

        A reader that takes over has nothing to say yet.
        """
        if state is PollState.STARTING:
            return
        before, self.state, self.detail = self.state, state, detail
        if state is not before:
            self.wake()

    def begin_anew(self) -> None:
        """Forget what the events and receipts of an older sign-in added up to."""
        self.standing, self.inspection = NOTHING_HEARD, None
        self.forget_batch()

    def forget_batch(self) -> None:
        """Expect the first batch of another sign-in, which may look like that of the one before."""
        self.last_batch = (0.0, (), self.last_batch[2])

    def mend(self) -> None:
        """Put a gap where a sign-in was lost, before what comes of the one after it."""
        if self.torn:
            self.torn = False
            self.append(GapReason.TAKEOVER)

    def restore(self, entries: Iterable[tuple[int, Item]], standing: Standing) -> None:
        """Fill an empty feed with the positions and items that the log keeps, and what they added up to."""
        for position, item in entries:
            if not self._entries:
                self._next = position
            self._stand_before(position)
            # A gap tells no time: it came after what stands before it.
            read_at = self._entries[-1].logged_at if self._entries and isinstance(item, GapReason) else _read_at(item)
            self._entries.append(self._entry(item, read_at))
            self._next += 1
        self.standing = standing

    def mirror(self, epoch: str, before: int, items: Sequence[Item]) -> bool:
        """
        Take over items of the shared log, the first of which stands behind the position `before`.

        Returns False, and takes nothing, if there is a hole before them: then the log is to be read.
        """
        if epoch != self.epoch or before > self.position:
            return False
        for item in items[self.position - before :]:
            self._add(item, _read_at(item))
        return True

    def catch_up(self, entries: Iterable[tuple[int, Item]]) -> None:
        """Take over positions and items of the shared log; what it has no positions for was lost, and it says so."""
        for position, item in entries:
            if position > self.position:
                self._stand_before(position)
                self._add(item, _read_at(item))

    def _stand_before(self, position: int) -> None:
        """Let the next entry have that position: a log that lost its end in a failover has a hole there."""
        if position != self.position + 1:
            self._begin_era(self.epoch, position)

    def jump(self, epoch: str, position: int, reason: GapReason) -> None:
        """Go on behind another position of the log, or with another log; what lies between is a gap."""
        from_cursor = self.cursor(self.tail)
        sequence = self._next
        self._begin_era(epoch, position)
        gap = Gap(reason, from_cursor, self.cursor(sequence))
        self._put(Entry(self.cursor(sequence), sequence, gap, time.monotonic()))

    def _begin_era(self, epoch: str, position: int) -> None:
        """Let the next entry stand at that position of that log."""
        eras = [*self._eras, _Era(self._next, epoch, self._next - position)]
        # An era counts as long as the ring keeps an entry of it.
        self._eras = [era for era, later in pairwise(eras) if later.since > self.head] + eras[-1:]

    def _add(self, item: Item, read_at: float) -> Entry:
        entry = self._entry(item, read_at)
        self._put(entry)
        return entry

    def _entry(self, item: Item, read_at: float) -> Entry:
        sequence = self._next
        cursor = self.cursor(sequence)
        if isinstance(item, GapReason):
            return Entry(cursor, sequence, Gap(item, self.cursor(sequence - 1), cursor), read_at)
        return Entry(cursor, sequence, item, read_at)

    def _put(self, entry: Entry) -> None:
        self.touched_at = now = time.monotonic()
        self._next += 1
        self._entries.append(entry)
        self.trim(now)
        if self.listeners:
            for listener in tuple(self.listeners):
                listener(entry)
        item = entry.item
        self.standing = self.standing.after(item if isinstance(item, AgentEvent) else item.reason)
        self.wake()

    def trim(self, now: float) -> None:
        """Drop entries that are older than the retention."""
        limit = now - self._retention_seconds
        while self._entries and self._entries[0].logged_at < limit:
            self._entries.popleft()

    def read(self, after: int, limit: int) -> list[Entry]:
        """Return at most `limit` entries behind that sequence, oldest first; raises `SlowConsumer`."""
        missing = self.tail - after
        if missing <= 0:
            return []
        if after < self.head:
            raise SlowConsumer(self.cursor(after))
        entries = self._entries
        start = len(entries) - missing
        return [entries[index] for index in range(start, min(start + limit, len(entries)))]

    def end(self, error: AdapterError) -> None:
        """Let every reader, present or future, end with this error once it has read all; see `reopen`."""
        self._ended = error
        for ending in tuple(self.endings):
            ending(error)
        self.wake()

    def reopen(self) -> None:
        """Take `end` back: the inspector is signed in again."""
        self._ended = None
        self.touched_at = time.monotonic()

    def touch(self) -> None:
        """Note that somebody takes an interest."""
        self.touched_at = time.monotonic()

    @property
    def ended(self) -> AdapterError | None:
        """Why there will be no more entries, if so."""
        return self._ended

    @property
    def followed(self) -> bool:
        """Whether somebody reads or listens."""
        return bool(self.readers or self._waiting or self._streams or self.listeners)

    def wake(self) -> None:
        """Wake every reader that waits, commands first."""
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(True)
        self._waiting.clear()
        if self._pacing is not None and self._streams:
            self._pacing.wake(self._streams)
            self._streams.clear()

    async def changed(self, timeout_seconds: float) -> bool:
        """Wait until something happens to the feed; False when the time is over before."""
        loop = asyncio.get_running_loop()
        waiting: Waiting = loop.create_future()
        self._waiting.add(waiting)
        timer = loop.call_later(min(timeout_seconds, _LONGEST_WAIT_SECONDS), _give_up, waiting)
        try:
            return await waiting
        finally:
            timer.cancel()
            self._waiting.discard(waiting)

    async def changed_about(self, timeout_seconds: float, pacing: Pacing) -> bool:
        """Do the same as one of very many: the time may be over a little early, and others may be woken before."""
        if not pacing.takes(timeout_seconds):
            return await self.changed(timeout_seconds)
        self._pacing = pacing
        waiting: Waiting = asyncio.get_running_loop().create_future()
        self._streams.add(waiting)
        due = pacing.enter(waiting, min(timeout_seconds, _LONGEST_WAIT_SECONDS))
        try:
            return await waiting
        finally:
            due.discard(waiting)
            self._streams.discard(waiting)


def _read_at(item: Item) -> float:
    """Return when another replica read the item, on our monotonic clock; now for a gap."""
    now = time.monotonic()
    return now if isinstance(item, GapReason) else now - max(0.0, time.time() - item.received_at)


def _give_up(waiting: Waiting) -> None:
    if not waiting.done():
        waiting.set_result(False)
