"""The feeds of all inspectors of this replica, and the streams that read them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from qc_adapter.events.feed import Feed
from qc_adapter.model.errors import Draining

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from qc_adapter.events.model import Entry


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
    """
    One reader of a feed, which is kept for it within a `with`.

    `position` is the sequence of the last entry that it was given.
    """

    __slots__ = ("_feed", "_hub", "position")

    def __init__(self, hub: Hub, feed: Feed, after: int) -> None:
        self._hub = hub
        self._feed = feed
        self.position = after

    def __enter__(self) -> Self:
        self._feed.readers += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._feed.readers -= 1

    @property
    def draining(self) -> bool:
        """Whether the replica is going away."""
        return self._hub.draining

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
            raise self._feed.ended.afresh()
        return await self._feed.changed(timeout_seconds)
