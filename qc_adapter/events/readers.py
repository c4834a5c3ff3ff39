"""Keeps one poller running for every stored session that is to be polled."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol

import structlog

from qc_adapter.events.model import GapReason
from qc_adapter.events.poller import Pace, Poller, Polls, PollState, PollStatus
from qc_adapter.model.errors import NotSignedIn, SessionUnreadable, StoreUnavailable
from qc_adapter.model.session import EventSource

if TYPE_CHECKING:
    from qc_adapter.events.hub import Hub
    from qc_adapter.events.poller import Counts, Sessions
    from qc_adapter.model.session import Session


class Directory(Protocol):
    """The part of the session store that lists who is signed in."""

    async def agent_ids(self) -> list[str]: ...


class Readers:
    """
    Watches the session store and polls for each session in it.

    A session that another system wrote is noticed within `look_seconds`; one that came through this replica at once,
    by `notice`. A lost session is left alone until its GUID changes.
    """

    def __init__(
        self,
        *,
        gateway: Polls,
        directory: Directory,
        sessions: Sessions,
        hub: Hub,
        counts: Counts,
        pace: Pace,
        look_seconds: float = 0.5,
    ) -> None:
        self._gateway = gateway
        self._directory = directory
        self._sessions = sessions
        self._hub = hub
        self._counts = counts
        self._pace = pace
        self._look_seconds = look_seconds
        self._pollers: dict[str, Poller] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._loop: asyncio.Task[None] | None = None
        self._pruned_at = time.monotonic()
        self._retired: set[asyncio.Task[None]] = set()
        self._unpolled: set[str] = set()
        self._blind = False
        self._unreadable: set[str] = set()
        self._log = structlog.get_logger()

    def start(self) -> None:
        """Begin to look at the store."""
        self._loop = asyncio.create_task(self._look(), name="readers")

    async def stop(self) -> None:
        """Stop polling and wait until every poller has ended."""
        tasks = [*self._tasks.values(), *self._retired, *([self._loop] if self._loop else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()
        self._pollers.clear()

    def notice(self, session: Session) -> None:
        """Poll for this session from now on, if it is to be polled and is not yet."""
        if self._hub.draining:
            return
        if session.event_source is not EventSource.POLL:
            if session.agent_id not in self._tasks:
                self._pollers.pop(session.agent_id, None)  # what it found out was about an older sign-in
            self._unpolled.add(session.agent_id)
            self._hub.feed(session.agent_id).reopen()
            return
        self._unpolled.discard(session.agent_id)
        poller = self._pollers.get(session.agent_id)
        if poller is not None:
            poller.leaving = False
            task = self._tasks.get(session.agent_id)
            lost = poller.status.state is PollState.LOST
            if (task is not None and not task.done()) or (lost and poller.lost_guid == session.guid):
                return
        self._start(session.agent_id)

    def replaced(self, session: Session) -> None:
        """
        Poll for a session that took the place of another one.

        A poll that is still held for the older sign-in would keep the new one waiting; what it may have taken away
        is a gap.
        """
        task = self._tasks.pop(session.agent_id, None)
        if task is not None and not task.done():
            task.cancel()
            self._retired.add(task)
            task.add_done_callback(self._retired.discard)
            self._counts.gap(GapReason.POLL_REPLY_LOST.lower())
            self._hub.feed(session.agent_id).append_gap(GapReason.POLL_REPLY_LOST)
        self._pollers.pop(session.agent_id, None)
        self.notice(session)

    def leaving(self, agent_id: str) -> None:
        """Expect the end of a session that is just being signed out; `forget` or `notice` follows."""
        if (poller := self._pollers.get(agent_id)) is not None:
            poller.leaving = True

    def forget(self, agent_id: str) -> None:
        """Stop polling for an inspector who signed out, and end its streams."""
        self._pollers.pop(agent_id, None)
        self._unpolled.discard(agent_id)
        self._hub.feed(agent_id).end(NotSignedIn(agent_id))
        if (task := self._tasks.get(agent_id)) is not None:
            task.cancel()

    def status(self, agent_id: str) -> PollStatus | None:
        """Return how polling for an inspector goes; None when this replica does not poll for it."""
        poller = self._pollers.get(agent_id)
        return None if poller is None else poller.status

    def counts(self) -> dict[PollState, int]:
        """Return how many sessions are in each state."""
        found = dict.fromkeys(PollState, 0)
        for poller in self._pollers.values():
            found[poller.status.state] += 1
        return found

    def oldest_poll_seconds(self) -> float:
        """Return the age of the oldest answered poll among living sessions; 120 is a sign-out."""
        answered = [p.status.answered_at for p in self._pollers.values() if p.status.state is not PollState.LOST]
        return time.monotonic() - min(answered) if answered else 0.0

    def _start(self, agent_id: str) -> None:
        feed = self._hub.feed(agent_id)
        feed.reopen()
        poller = Poller(
            agent_id,
            gateway=self._gateway,
            sessions=self._sessions,
            feed=feed,
            counts=self._counts,
            pace=self._pace,
        )
        self._pollers[agent_id] = poller
        task = asyncio.create_task(poller.run(), name=f"poller {agent_id}")
        self._tasks[agent_id] = task
        task.add_done_callback(lambda done: self._ended(agent_id, poller, done))

    def _ended(self, agent_id: str, poller: Poller, task: asyncio.Task[None]) -> None:
        if self._tasks.get(agent_id) is task:
            del self._tasks[agent_id]
        if not task.cancelled() and (failure := task.exception()) is not None:
            self._log.error("poller_failed", agent_id=agent_id, exc_info=failure)
        done = poller.status.state is not PollState.LOST and not poller.leaving
        if done and self._pollers.get(agent_id) is poller:
            del self._pollers[agent_id]

    async def _look(self) -> None:
        while True:
            try:
                await self._look_once()
                self._blind = False
            except StoreUnavailable as failure:
                if not self._blind:
                    self._blind = True
                    self._log.warning("sessions_not_listed", detail=failure.message)
            except Exception as defect:  # noqa: BLE001 - without this loop nobody is noticed any more
                self._log.error("look_failed", exc_info=defect)
            if time.monotonic() - self._pruned_at > 60:
                self._pruned_at = time.monotonic()
                self._hub.prune(keep=self._pollers.__contains__)
            await asyncio.sleep(self._look_seconds)

    async def _look_once(self) -> None:
        unpolled = set(self._unpolled)
        known = dict(self._pollers)  # a listing says nothing about a session that came after it began
        stored = set(await self._directory.agent_ids())
        self._unreadable &= stored
        for agent_id in known.keys() - stored:
            if self._pollers.get(agent_id) is known[agent_id]:
                self.forget(agent_id)
        for agent_id in unpolled - stored:
            self.forget(agent_id)
        for agent_id in stored:
            poller = self._pollers.get(agent_id)
            if poller is not None and poller.status.state is not PollState.LOST:
                continue
            session = await self._read(agent_id)
            if session is not None:
                self.notice(session)

    async def _read(self, agent_id: str) -> Session | None:
        """Return a stored session; one that cannot be read is said once and does not keep the others waiting."""
        try:
            session = await self._sessions.get(agent_id)
        except SessionUnreadable as failure:
            if agent_id not in self._unreadable:
                self._unreadable.add(agent_id)
                self._log.warning("session_unreadable", agent_id=agent_id, detail=failure.message)
            return None
        self._unreadable.discard(agent_id)
        return session
