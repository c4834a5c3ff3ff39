"""The feeds that this replica has, and the streams that read them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol, Self

from qc_adapter.events.feed import Feed
from qc_adapter.events.pacing import Pacing
from qc_adapter.model.errors import Draining

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from types import TracebackType

    from qc_adapter.events.inspection import Acceptance
    from qc_adapter.events.model import Entry


class Follows(Protocol):
    """Gives out feeds that are in step with the log of their inspector."""

    async def follow(self, agent_id: str, *, fresh: bool = False) -> Feed:
        """Return the feed; a `fresh` one has all that was in the log when it was asked for."""
        ...

    def at_hand(self, agent_id: str) -> Feed | None:
        """Return the feed that `follow` would return without asking anybody, None if it would have to ask."""
        ...


class Hub:
    """The feeds by inspector, and the end of them at drain. By itself it is the log of a store in memory."""

    def __init__(self, capacity: int = 1000, retention_seconds: float = 600.0) -> None:
        self.capacity = capacity
        self.retention_seconds = retention_seconds
        #: Of the streams that wait for any of the feeds.
        self.pacing = Pacing()
        self._feeds: dict[str, Feed] = {}
        self._draining = False

    @property
    def draining(self) -> bool:
        """Whether the replica is going away."""
        return self._draining

    async def follow(self, agent_id: str, *, fresh: bool = False) -> Feed:  # noqa: ARG002 - it is the log itself
        """Return the inspector's feed."""
        return self.feed(agent_id)

    def at_hand(self, agent_id: str) -> Feed | None:
        """Return the same: there is nobody to ask."""
        return self.feed(agent_id)

    def feed(self, agent_id: str) -> Feed:
        """Return the inspector's feed; makes it at first use."""
        feed = self._feeds.get(agent_id)
        if feed is None:
            feed = self._feeds[agent_id] = Feed(self.capacity, self.retention_seconds)
        return feed

    def find(self, agent_id: str) -> Feed | None:
        """Return the inspector's feed if there is one."""
        return self._feeds.get(agent_id)

    def put(self, agent_id: str, feed: Feed) -> None:
        """Keep a feed that mirrors a log elsewhere."""
        self._feeds[agent_id] = feed

    def feeds(self) -> Iterator[tuple[str, Feed]]:
        """Return the inspectors and their feeds; the hub may change meanwhile."""
        return iter(list(self._feeds.items()))

    def note(self, agent_id: str, acceptance: Acceptance) -> None:
        """Take note of a command that the gateway accepted."""
        self.feed(agent_id).accept(acceptance)

    def drain(self) -> None:
        """End all subscriptions, present and future, with `Draining` and their cursor."""
        self._draining = True
        for feed in self._feeds.values():
            feed.wake()

    def prune(self, silent_seconds: float, keep: Callable[[str], bool] = lambda _: False) -> list[str]:
        """Trim by age, and forget feeds that nobody follows and that were silent for so long; returns whose."""
        now = time.monotonic()
        forgotten = []
        for agent_id, feed in self.feeds():
            feed.trim(now)
            if now - feed.touched_at > silent_seconds and not (feed.followed or feed.pins or keep(agent_id)):
                del self._feeds[agent_id]
                forgotten.append(agent_id)
        return forgotten


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
        self._feed.touched_at = time.monotonic()

    @property
    def draining(self) -> bool:
        """Whether the replica is going away."""
        return self._hub.draining

    @property
    def feed(self) -> Feed:
        """What is read."""
        return self._feed

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
        self._check(to_the_end=to_the_end)
        return await self._feed.changed(timeout_seconds)

    def wait_about(self, timeout_seconds: float) -> Awaitable[bool]:
        """Wait to the end of the feed as one of very many: neither the time nor the turn is kept to the moment."""
        self._check(to_the_end=True)
        return self._feed.changed_about(timeout_seconds, self._hub.pacing)

    def _check(self, *, to_the_end: bool) -> None:
        if self._hub.draining:
            raise Draining(self.cursor)
        if to_the_end and self._feed.ended is not None:
            raise self._feed.ended.afresh()
