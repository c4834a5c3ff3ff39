"""Lets the sign-ins and sign-outs of one inspector take turns, here and on all replicas, and ends what was begun."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from typing import TYPE_CHECKING, Any, Final, TypeVar

from qc_adapter.model.deadline import Deadline
from qc_adapter.model.errors import SessionBusy, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from qc_adapter.sessions.store import SessionGuard

T = TypeVar("T")

#: For a sign-in and all that belongs to it; the mark of a replica that died lapses after that.
LONGEST_SECONDS: Final = 60.0
_RETRY_SECONDS: Final = 0.5


class Turns:
    """
    Gives one piece of work at a time its turn with an inspector.

    What was begun at the gateway is finished even when the caller goes away: a sign-in without a stored GUID could
    neither be used nor ended.
    """

    def __init__(self, guard: SessionGuard) -> None:
        self._guard = guard
        self._busy: set[str] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._late: set[asyncio.Task[None]] = set()

    @property
    def under_way(self) -> int:
        """How many inspectors are being signed in or out here."""
        return len(self._busy)

    async def take(self, agent_id: str, work: Coroutine[Any, Any, T], seconds: float = LONGEST_SECONDS) -> T:
        """
        Run the work to its end in a task of our own, whatever becomes of the caller; raises `SessionBusy`.

        It must not take longer than that time, after which others may begin.
        """
        if agent_id in self._busy:
            work.close()
            raise SessionBusy(agent_id)
        self._busy.add(agent_id)  # at once: the task begins later, and a second call may come before
        task = asyncio.create_task(self._alone(agent_id, work, seconds), name=f"session {agent_id}")
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._ended(agent_id, done))
        return await asyncio.shield(task)

    async def close(self, timeout_seconds: float) -> None:
        """Wait for what is under way, then cancel it."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_seconds)
        tasks = [*self._tasks, *self._late]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _alone(self, agent_id: str, work: Coroutine[Any, Any, T], seconds: float) -> T:
        """Do the work while no other replica signs the inspector in or out: the later GUID must be stored later."""
        mark = secrets.token_hex(8)
        try:
            if not await self._guard.begin(agent_id, mark, seconds):
                raise SessionBusy(agent_id)  # noqa: TRY301 - the work has to be closed as well
        except BaseException as failure:
            work.close()
            if isinstance(failure, StoreUnavailable):
                self._let_others(agent_id, mark, seconds)  # it may have been set all the same
            raise
        try:
            return await work
        finally:
            try:
                await self._guard.finish(agent_id, mark)
            except StoreUnavailable:
                self._let_others(agent_id, mark, seconds)

    def _let_others(self, agent_id: str, mark: str, seconds: float) -> None:
        task = asyncio.create_task(self._finish_later(agent_id, mark, seconds), name=f"session {agent_id} free")
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    async def _finish_later(self, agent_id: str, mark: str, seconds: float) -> None:
        """Take the mark away when the store is back; after its time it is gone by itself."""
        life = Deadline.after(seconds)
        while not life.over:
            await asyncio.sleep(_RETRY_SECONDS)
            with contextlib.suppress(StoreUnavailable):
                await self._guard.finish(agent_id, mark)
                return

    def _ended(self, agent_id: str, task: asyncio.Task[Any]) -> None:
        self._busy.discard(agent_id)
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # a caller that went away does not read it
