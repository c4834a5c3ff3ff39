"""Stores the GUID and cookies that a reply brought, also when the store is away at that moment."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

import structlog

from qc_adapter.model.deadline import Deadline
from qc_adapter.model.errors import SessionUnreadable, StoreUnavailable

if TYPE_CHECKING:
    from qc_adapter.model.session import Renewal, Secret, Session


class Renews(Protocol):
    """The part of the session store that the keeper needs."""

    async def renew(self, agent_id: str, used: Secret, renewal: Renewal) -> Session | None: ...


class GuidKeeper:
    """
    Writes renewals back by compare-and-set.

    A reply belongs to the GUID that its request was sent with. If the store has another one by now, the reply is older
    than what is stored and changes nothing. A renewal that cannot be stored is tried again until it can: it may be the
    only GUID that the gateway will take.
    """

    def __init__(self, store: Renews, retry_seconds: float = 0.5, worthless_after_seconds: float = 120.0) -> None:
        """Take the store; the gateway ends the life of a GUID after 120 s (GUIDTIMEOUT, cec_07_0005)."""
        self._store = store
        self._retry_seconds = retry_seconds
        self._worthless_after_seconds = worthless_after_seconds
        self._log = structlog.get_logger()
        self._tasks: set[asyncio.Task[None]] = set()

    async def absorb(self, session: Session, renewal: Renewal | None) -> None:
        """Store what a reply brought. Does not fail: what cannot be stored now is stored later."""
        if renewal is None:
            return
        try:
            await self._store.renew(session.agent_id, session.guid, renewal)
        except (StoreUnavailable, SessionUnreadable):
            self._log.warning("renewal_kept_in_hand", agent_id=session.agent_id)
            task = asyncio.create_task(self._retry(session, renewal), name=f"renewal {session.agent_id}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Give up what is still in hand."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _retry(self, session: Session, renewal: Renewal) -> None:
        life = Deadline.after(self._worthless_after_seconds)
        while not life.over:
            await asyncio.sleep(self._retry_seconds)
            try:
                await self._store.renew(session.agent_id, session.guid, renewal)
            except (StoreUnavailable, SessionUnreadable):
                continue
            return
        self._log.warning("renewal_given_up", agent_id=session.agent_id)
