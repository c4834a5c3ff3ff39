"""Leases of the only replica there is: every session in memory is its own."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Final

import structlog

from qc_adapter.events.activity import NOTHING_KNOWN
from qc_adapter.events.census import parts
from qc_adapter.events.leases import Beat, Claim, LeaseLost, PollState, PollStatus, SessionGone, Taken
from qc_adapter.events.standing import Phase
from qc_adapter.model.errors import NotSignedIn, SessionConflict, SessionLost
from qc_adapter.model.inspector import gateway_of
from qc_adapter.model.session import EventSource
from qc_adapter.sessions.changes import Teller
from qc_adapter.sessions.orders import LONGEST_PAUSE_SECONDS, QUIET_SECONDS, TOLD_PAUSE_SECONDS, Stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qc_adapter.events.activity import Activity
    from qc_adapter.events.hub import Hub
    from qc_adapter.events.leases import Lease, Step
    from qc_adapter.model.session import Session
    from qc_adapter.sessions.changes import Changes
    from qc_adapter.sessions.memory import MemorySessionStore, OrdersEntry


#: What was written is looked at with each scan; the whole book is compared with the store, and old events are dropped,
#: this often.
_COMPARE_SECONDS: Final = 10.0
_MOST_CLAIMS: Final = 500


class MemoryLease:
    """Lasts until the session is gone, lost or replaced."""

    __slots__ = ("_rota", "_store", "agent_id")

    holder = ""
    remaining_seconds = math.inf

    def __init__(self, agent_id: str, rota: MemoryRota, store: MemorySessionStore) -> None:
        self.agent_id = agent_id
        self._rota = rota
        self._store = store

    @property
    def activity(self) -> Activity:
        """What the inspector does."""
        return self._rota.activity(self.agent_id)

    async def session(self, seconds: float) -> Session | None:  # noqa: ARG002 - it never ends by itself
        """Return what is stored now."""
        self._rota.check(self)
        session = await self._store.get(self.agent_id)
        if session is None:
            await self._rota.retire(self.agent_id)
        return session

    async def keep(self, step: Step) -> Session | None:
        """Store the GUID first: whoever acts on an event finds it."""
        if step.renewal is not None:
            await self._store.renew(self.agent_id, step.used.guid, step.renewal)
        self._rota.check(self)
        self._rota.note(self.agent_id, step)
        return await self.session(0.0)

    async def end(self, used: Session, retcode: str, detail: str) -> PollState | None:
        """Park the inspector as lost, or as one who is to be signed in again."""
        self._rota.check(self)
        session = await self._store.get(self.agent_id)
        if session is not None and session.guid != used.guid:
            return None
        return self._rota.end(self.agent_id, session, retcode, detail)

    async def park(self, unreadable: str = "") -> None:  # noqa: ARG002 - nobody else writes into memory
        """Leave the inspector alone until the session changes."""
        self._rota.park(self.agent_id, await self._store.get(self.agent_id))

    async def release(self) -> None:
        """Be claimed anew by the next beat."""
        self._rota.check(self)
        self._rota.free(self.agent_id)

    async def abandon(self) -> None:
        """Do the same, with a gap: a poll may have been cut off."""
        self._rota.check(self)
        self._rota.free(self.agent_id, Taken.REVOKED)


class MemoryRota:
    """The book of all leases."""

    shared = False

    def __init__(self, store: MemorySessionStore, hub: Hub, changes: Changes | None = None) -> None:
        self._store = store
        self._hub = hub
        self._changes = changes or Teller()
        #: Who waits to be claimed, and how it ended for the holder before.
        self._free: dict[str, Taken] = {}
        self._held: dict[str, Lease] = {}
        self._parked: dict[str, Session | None] = {}
        #: Whose lease has ended since the last beat: a reader may be left.
        self._ended: set[str] = set()
        self._compare_at = 0.0
        #: Who had no reader at the last look.
        self._unread: set[str] = set()
        self._leaving: set[str] = set()
        self._statuses: dict[str, PollStatus] = {}
        self._log = structlog.get_logger()

    async def beat(self, held: Sequence[Lease], *, claiming: bool) -> Beat:
        """Claim what is free, not too many at once: others want their turn."""
        claims = []
        for agent_id, taken in list(islice(self._free.items(), _MOST_CLAIMS)) if claiming else ():
            del self._free[agent_id]
            lease = self._held[agent_id] = MemoryLease(agent_id, self, self._store)
            # What the gateway pushes does not come through whoever holds the lease.
            forced = taken is not Taken.NOT and not await self._pushed(agent_id)
            feed = self._hub.feed(agent_id)
            feed.torn = feed.torn or forced
            feed.mend()
            known = self._statuses.get(agent_id)
            ago = time.time() - known.answered_time if known is not None and known.answered_time else None
            claims.append(Claim(lease, forced, taken is Taken.REVOKED, ago))
        lost, self._ended = frozenset(self._ended), set()
        return Beat(claims, len(held) + len(claims), lost)

    async def _pushed(self, agent_id: str) -> bool:
        session = await self._store.get(agent_id)
        return session is not None and session.event_source is EventSource.PUSH

    async def _recovering(self, agent_id: str) -> bool:
        session = await self._store.get(agent_id)
        return session is not None and session.recovering

    async def scan(self) -> Counter[str]:
        """Notice what was put into the store without us. Returns whom nobody reads for."""
        touched = self._store.touched
        for part in parts(tuple(touched)):
            for agent_id in part:
                await self._look_at(agent_id)
                touched.discard(agent_id)
            await asyncio.sleep(0)
        if (now := time.monotonic()) >= self._compare_at:
            await self._compare()
            self._compare_at = now + _COMPARE_SECONDS
        before, self._unread = self._unread, set(self._free)
        return Counter(gateway_of(agent_id) for agent_id in self._unread & before)

    async def _look_at(self, agent_id: str) -> None:
        """Bring the book in step with what is stored for the inspector."""
        session = await self._store.get(agent_id)
        listed = any(agent_id in book for book in (self._held, self._free, self._parked))
        if session is None:
            if listed:
                await self.retire(agent_id)
        elif not listed or (agent_id in self._parked and self._parked[agent_id] != session):
            self.free(agent_id)

    async def _compare(self) -> None:
        """Bring the whole book in step, whatever was missed, and let go of what nobody needs any more."""
        found = set(await self._store.agent_ids())
        listed = self._free.keys() | self._held.keys() | self._parked.keys()
        for agent_id in found ^ listed:
            await self._look_at(agent_id)
        self._hub.prune(self._hub.retention_seconds, keep=found.__contains__)

    async def enlist(self, agent_id: str, taken: Taken = Taken.NOT) -> None:
        """Make the lease free, or take it away from its holder."""
        self._leaving.discard(agent_id)
        if agent_id in self._parked and await self._recovering(agent_id):
            return
        if taken is Taken.REPLACED and not await self._pushed(agent_id):
            # What is pushed may have come before the reply to the sign-in, and begins anew by itself.
            self._hub.feed(agent_id).begin_anew()
        if agent_id not in self._held:
            self.free(agent_id, self._free.get(agent_id, Taken.NOT))  # nobody has it yet
        elif taken is not Taken.NOT:
            self.free(agent_id, taken)

    async def leaving(self, agent_id: str) -> None:
        """Note that a sign-out is under way."""
        self._leaving.add(agent_id)
        self._hub.feed(agent_id).forget_batch()

    async def retire(self, agent_id: str) -> None:
        """Take an inspector without a session off the book."""
        if await self._store.get(agent_id) is None:
            self._forget(agent_id)
            self._leaving.discard(agent_id)
            self._say(agent_id, None)
            feed = self._hub.feed(agent_id)
            feed.begin_anew()
            feed.torn = False
            feed.end(NotSignedIn(agent_id))

    async def statuses(self, agent_ids: Sequence[str]) -> dict[str, PollStatus]:
        """Return what the readers said with their last steps, and what the inspectors do."""
        found = {}
        for agent_id in agent_ids:
            status, activity = self._as_told(agent_id), self.activity(agent_id)
            if status is not None:
                found[agent_id] = replace(status, activity=activity)
            elif activity != NOTHING_KNOWN:  # nobody reads here, and events were fed in
                found[agent_id] = PollStatus(PollState.STARTING, activity=activity)
        return found

    def activity(self, agent_id: str) -> Activity:
        """Return what the inspector does."""
        feed = self._hub.find(agent_id)
        return NOTHING_KNOWN if feed is None else feed.activity

    def check(self, lease: Lease) -> None:
        """Raise `LeaseLost` if the lease is not the last one that was given."""
        if self._held.get(lease.agent_id) is not lease:
            raise LeaseLost

    def free(self, agent_id: str, taken: Taken = Taken.NOT) -> None:
        """Let the next beat claim the lease."""
        self._forget(agent_id)
        self._say(agent_id, None)  # what was found out about an older sign-in
        self._free[agent_id] = taken
        self._hub.feed(agent_id).reopen()

    def park(self, agent_id: str, session: Session | None) -> None:
        """Leave the inspector alone until that session changes."""
        self._forget(agent_id)
        self._parked[agent_id] = session

    def note(self, agent_id: str, step: Step) -> None:
        """Log what a poll brought."""
        feed = self._hub.feed(agent_id)
        for item in step.items:
            feed.append(item)
        before = self._statuses.get(agent_id)
        answered = time.time() if step.state is PollState.ACTIVE else before.answered_time if before else 0.0
        self._say(agent_id, PollStatus(step.state, answered, step.detail))

    def end(self, agent_id: str, session: Session | None, retcode: str, detail: str) -> PollState:
        """Say what becomes of an inspector whose session the gateway ended; raises `SessionGone` if that was wanted."""
        if agent_id in self._leaving or session is None:
            self.park(agent_id, session)
            raise SessionGone
        if (orders := self._store.orders.get(agent_id)) is not None:
            told = self._hub.feed(agent_id).standing.phase is Phase.OUT
            _begin_recovery(orders, retcode, detail, TOLD_PAUSE_SECONDS if told else 0.0)
            self._store.replace(replace(session, recovering=True))
            self.park(agent_id, replace(session, recovering=True))
            self._note_end(agent_id, PollState.RECOVERING, detail)
            self._hub.feed(agent_id).torn = True
            self._log.warning("session_recovering", agent_id=agent_id, retcode=retcode, detail=detail)
            self._changes.changed("session_recovering", agent_id, retcode)
            return PollState.RECOVERING
        self.park(agent_id, session)
        self._note_end(agent_id, PollState.LOST, detail)
        self._hub.feed(agent_id).end(SessionLost(agent_id, retcode))
        self._log.warning("session_lost", agent_id=agent_id, retcode=retcode, detail=detail)
        self._changes.changed("session_lost", agent_id, retcode)
        return PollState.LOST

    def give_up(self, agent_id: str, session: Session | None, retcode: str, detail: str, *, conflict: bool) -> None:
        """End the streams of an inspector who could not be signed in again."""
        self.park(agent_id, session)
        self._note_end(agent_id, PollState.LOST, detail)
        feed = self._hub.feed(agent_id)
        feed.torn = False
        feed.end((SessionConflict if conflict else SessionLost)(agent_id, retcode))

    def _note_end(self, agent_id: str, state: PollState, detail: str) -> None:
        before = self._statuses.get(agent_id)
        self._say(agent_id, PollStatus(state, before.answered_time if before else 0.0, detail))
        if (feed := self._hub.find(agent_id)) is not None:
            feed.begin_anew()

    def _say(self, agent_id: str, status: PollStatus | None) -> None:
        """Keep what is known of a session, and tell those who watch it."""
        if status is None:
            self._statuses.pop(agent_id, None)
        else:
            self._statuses[agent_id] = status
        self.tell(agent_id)

    def tell(self, agent_id: str) -> None:
        """Tell those who watch a session how it is."""
        status = self._as_told(agent_id)
        if (feed := self._hub.find(agent_id)) is not None:
            feed.tell(status.state if status else None, status.detail if status else "")

    def _as_told(self, agent_id: str) -> PollStatus | None:
        """
        Return how a session is, as callers are told.

        Until skills and monitoring are set anew it goes on recovering, and if they were refused it is not what it was.
        """
        status, orders = self._statuses.get(agent_id), self._store.orders.get(agent_id)
        if orders is None or orders.stage is None:
            return status
        known = status or PollStatus(PollState.STARTING)
        if orders.stage is Stage.WANTING:
            wanting = known.state is PollState.ACTIVE
            return replace(known, state=PollState.DEGRADED, detail=orders.detail) if wanting else status
        if known.state is PollState.LOST:
            return status
        return replace(known, state=PollState.RECOVERING, detail=orders.detail)

    def _forget(self, agent_id: str) -> None:
        if self._held.pop(agent_id, None) is not None:
            self._ended.add(agent_id)
        self._free.pop(agent_id, None)
        self._parked.pop(agent_id, None)


def _begin_recovery(orders: OrdersEntry, retcode: str, detail: str, not_before_seconds: float) -> None:
    """Have the inspector signed in again: at once, or after a pause if the sign-in before lived for a short time."""
    now = time.monotonic()
    quick = orders.recovered_at is not None and now - orders.recovered_at < QUIET_SECONDS
    orders.losses = orders.losses + 1 if quick else 0
    pause = min(LONGEST_PAUSE_SECONDS, 2.0 ** (orders.losses - 1)) if orders.losses else 1.0
    orders.stage, orders.detail, orders.retcode, orders.attempts, orders.claim = (
        Stage.SIGNING_IN, detail, retcode, 0, "",
    )  # fmt: skip
    orders.due_at = max(now + not_before_seconds, orders.tried_at + pause)
