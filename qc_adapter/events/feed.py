"""
One inspector's event log in memory: a bounded ring with cursors, and the readers that follow it.

A reader is a position in the ring and a way to be woken. There is no queue for each reader: one that falls behind what
the ring keeps is told so (`SlowConsumer`), and costs the others nothing.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from qc_adapter.events import model
from qc_adapter.events.model import AgentEvent, Entry, Gap, GapReason
from qc_adapter.model.errors import AdapterError, CursorExpired, InvalidCursor, SlowConsumer

if TYPE_CHECKING:
    from collections.abc import Callable

OLDEST: Final = "oldest"
#: A wait without a deadline still has a timer: event loops do not take infinity.
_LONGEST_WAIT_SECONDS: Final = 86_400.0
_CURSOR = re.compile(r"m-([0-9a-f]{12})-([0-9]{1,18})")
_LEFT_CALL = frozenset({model.CALL_RELEASE, model.CUSTOMER_RELEASE})
_LEFT_ALL = frozenset({model.PHONE_RELEASE, model.READY, model.WORK, model.SHUTDOWN})


class Feed:
    """
    The log of one inspector.

    Keeps at most `capacity` entries, none older than `retention_seconds`. A feed is made with a random name that its
    cursors carry, so a cursor of another inspector, or of a process that is gone, is known to be expired.
    """

    __slots__ = (
        "_capacity",
        "_ended",
        "_entries",
        "_name",
        "_next",
        "_retention_seconds",
        "_waiting",
        "listeners",
        "readers",
        "talking",
        "touched_at",
    )

    def __init__(self, capacity: int, retention_seconds: float) -> None:
        self._name = secrets.token_hex(6)
        self._entries: deque[Entry] = deque(maxlen=capacity)
        self._capacity = capacity
        self._retention_seconds = retention_seconds
        self._next = 1
        self._waiting: set[asyncio.Future[None]] = set()
        self._ended: AdapterError | None = None
        #: Call ids that the inspector is talking on by what the log has seen.
        self.talking: set[str] = set()
        #: Called with each new entry, before readers are woken.
        self.listeners: set[Callable[[Entry], None]] = set()
        #: How many streams read the feed, also while they write and do not wait.
        self.readers = 0
        self.touched_at = time.monotonic()

    @property
    def tail(self) -> int:
        """Sequence of the newest entry, 0 before the first."""
        return self._next - 1

    @property
    def head(self) -> int:
        """Sequence before the oldest entry that is kept."""
        return self._next - 1 - len(self._entries)

    def cursor(self, sequence: int) -> str:
        """Return the cursor right after the entry with that sequence."""
        return f"m-{self._name}-{sequence}"

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
        sequence = int(match[2])
        if match[1] != self._name or not self.head <= sequence <= self.tail:
            raise CursorExpired(cursor, self.cursor(self.head))
        return sequence

    def append(self, item: AgentEvent) -> Entry:
        """Add an event, tell the listeners and wake the readers."""
        return self._add(item)

    def append_gap(self, reason: GapReason) -> Entry:
        """Add a gap between the newest entry and now."""
        return self._add(Gap(reason, self.cursor(self.tail), self.cursor(self._next)))

    def _add(self, item: AgentEvent | Gap) -> Entry:
        now = time.monotonic()
        self.touched_at = now
        sequence = self._next
        entry = Entry(self.cursor(sequence), sequence, item, now)
        self._next += 1
        self._entries.append(entry)
        self.trim(now)
        for listener in tuple(self.listeners):
            listener(entry)
        if isinstance(item, AgentEvent):
            self._follow_calls(item)
        self.wake()
        return entry

    def trim(self, now: float) -> None:
        """Drop entries that are older than the retention."""
        limit = now - self._retention_seconds
        while self._entries and self._entries[0].logged_at < limit:
            self._entries.popleft()

    def _follow_calls(self, event: AgentEvent) -> None:
        if event.event_type == model.TALKING:
            if event.call_id:
                self.talking.add(event.call_id)
        elif event.event_type in _LEFT_CALL:
            self.talking.discard(event.call_id)
        elif event.event_type in _LEFT_ALL:
            self.talking.clear()

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
        self.wake()

    def reopen(self) -> None:
        """Take `end` back: the inspector is signed in again."""
        self._ended = None
        self.touched_at = time.monotonic()

    @property
    def ended(self) -> AdapterError | None:
        """Why there will be no more entries, if so."""
        return self._ended

    @property
    def followed(self) -> bool:
        """Whether somebody reads or listens."""
        return bool(self.readers or self._waiting or self.listeners)

    def wake(self) -> None:
        """Wake every reader that waits."""
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)
        self._waiting.clear()

    async def changed(self, timeout_seconds: float) -> bool:
        """Wait until something happens to the feed; False when the time is over before."""
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[None] = loop.create_future()
        self._waiting.add(waiting)
        timer = loop.call_later(min(timeout_seconds, _LONGEST_WAIT_SECONDS), _give_up, waiting)
        try:
            await waiting
        except TimeoutError:
            return False
        else:
            return True
        finally:
            timer.cancel()
            self._waiting.discard(waiting)


def _give_up(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_exception(TimeoutError())
