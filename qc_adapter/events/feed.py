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
from qc_adapter.model.errors import AdapterError, CursorExpired, Draining, InvalidCursor, SlowConsumer

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
        """Whether somebody waits for the next entry or listens."""
        return bool(self._waiting or self.listeners)

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


class Hub:
    """The feeds of all inspectors of this replica, and the end of them at drain."""

    def __init__(self, capacity: int = 1000, retention_seconds: float = 600.0) -> None:
        self._capacity = capacity
        self._retention_seconds = retention_seconds
        self._feeds: dict[str, Feed] = {}
        self._draining = False

    @property
    def draining(self) -> bool:
        """Whether the replica is going away."""
        return self._draining

    def feed(self, agent_id: str) -> Feed:
        """Return the inspector's feed; makes it at first use."""
        feed = self._feeds.get(agent_id)
        if feed is None:
            feed = self._feeds[agent_id] = Feed(self._capacity, self._retention_seconds)
        return feed

    def subscribe(self, agent_id: str, after: int | None = None) -> Subscription:
        """Follow an inspector from that sequence on, by default from now."""
        feed = self.feed(agent_id)
        return Subscription(self, feed, feed.tail if after is None else after)

    def drain(self) -> None:
        """End all subscriptions, present and future, with `Draining` and their cursor."""
        self._draining = True
        for feed in self._feeds.values():
            feed.wake()

    def prune(self, keep: Callable[[str], bool]) -> None:
        """Trim by age, and forget feeds that nobody follows and that were silent for the whole retention."""
        now = time.monotonic()
        for agent_id, feed in list(self._feeds.items()):
            feed.trim(now)
            silent = now - feed.touched_at > self._retention_seconds
            if silent and not feed.followed and not keep(agent_id):
                del self._feeds[agent_id]


class Subscription:
    """One reader of a feed. `position` is the sequence of the last entry that it was given."""

    __slots__ = ("_feed", "_hub", "position")

    def __init__(self, hub: Hub, feed: Feed, after: int) -> None:
        self._hub = hub
        self._feed = feed
        self.position = after

    @property
    def cursor(self) -> str:
        """The cursor behind the last entry that was given."""
        return self._feed.cursor(self.position)

    def take(self, limit: int = 64) -> list[Entry]:
        """Return what is there, without waiting; raises `SlowConsumer`."""
        entries = self._feed.read(self.position, limit)
        if entries:
            self.position = entries[-1].sequence
        return entries

    async def wait(self, timeout_seconds: float, *, to_the_end: bool = True) -> bool:
        """
        Wait for the feed to change; False when the time is over before.

        Raises `Draining` when the replica goes away, and with `to_the_end` the error that the feed ended with.
        """
        if self._hub.draining:
            raise Draining(self.cursor)
        if to_the_end and self._feed.ended is not None:
            raise self._feed.ended
        return await self._feed.changed(timeout_seconds)
