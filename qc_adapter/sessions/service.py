"""The life of a session: signed in, adopted, signed out, and who is told of it."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import structlog

from qc_adapter.gateway.requests import reset_skills
from qc_adapter.model.deadline import Deadline
from qc_adapter.model.errors import AdapterError, NotSignedIn, SessionBusy, SessionUnreadable, StoreUnavailable
from qc_adapter.model.inspector import rank_of

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from qc_adapter.gateway.gateways import Gateways
    from qc_adapter.gateway.requests import SignInForm, SkillReset
    from qc_adapter.gateway.signed_in import SignedIn
    from qc_adapter.model.session import Session
    from qc_adapter.sessions.store import SessionStore

T = TypeVar("T")

_UNDO_SECONDS = 5.0
#: For a sign-in and all that belongs to it; the mark of a replica that died lapses after that.
_LONGEST_SECONDS = 60.0
_RETRY_SECONDS = 0.5
_SIGN_OUTS = 3


class Listeners(Protocol):
    """Is told when a session comes or goes."""

    async def notice(self, session: Session) -> None: ...

    async def replaced(self, session: Session) -> None: ...

    async def adopted(self, session: Session) -> None: ...

    async def leaving(self, agent_id: str) -> None: ...

    async def forget(self, agent_id: str) -> None: ...


class SessionService:
    """
    Signs inspectors in and out at the gateway and keeps the store in step.

    What was begun at the gateway is finished even when the caller goes away: a sign-in without a stored GUID could
    neither be used nor ended.
    """

    def __init__(self, *, gateway: Gateways, store: SessionStore, listeners: Listeners) -> None:
        self._gateway = gateway
        self._store = store
        self._listeners = listeners
        self._busy: set[str] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._late: set[asyncio.Task[None]] = set()
        self._log = structlog.get_logger()

    async def sign_in(
        self, agent_id: str, form: SignInForm, *, force: bool, skills: SkillReset | None, deadline: Deadline
    ) -> SignedIn:
        """
        Sign in and store the session; raises `GatewayRefused`, `OutcomeUnknown`, `SessionBusy`, `StoreUnavailable`.

        Nothing is signed in while the store does not answer: it could not be stored. A refused password is never tried
        again: repetition locks the account.
        """
        return await self._finish(agent_id, self._sign_in(agent_id, form, force, skills, deadline))

    async def sign_out(self, agent_id: str, *, force: bool, deadline: Deadline) -> None:
        """Sign out and forget the session; raises `NotSignedIn`, `GatewayRefused`, `OutcomeUnknown`, `SessionBusy`."""
        await self._finish(agent_id, self._sign_out(agent_id, force, deadline))

    async def adopt(self, session: Session) -> None:
        """Store a session that another system opened."""
        replaced = await self._finish(session.agent_id, self._store.put(session))
        self._log.info("session_adopted", agent_id=session.agent_id, event_source=str(session.event_source))
        await (self._listeners.adopted if replaced else self._listeners.notice)(session)

    async def get(self, agent_id: str) -> Session:
        """Return a session; raises `NotSignedIn`."""
        session = await self._store.get(agent_id)
        if session is None:
            raise NotSignedIn(agent_id)
        return session

    async def list(self, after: str, limit: int) -> tuple[list[Session | SessionUnreadable], str]:
        """
        Return sessions behind that agent id, by gateway and ascending id, and the last id looked at if there are more.

        What is stored and cannot be read stands in its place: one bad record does not hide the others.
        """
        ids = sorted(await self._store.agent_ids(), key=rank_of)
        if after:
            ids = [found for found in ids if rank_of(found) > rank_of(after)]
        sessions = [await self._look_up(agent_id) for agent_id in ids[:limit]]
        return [session for session in sessions if session is not None], ids[limit - 1] if len(ids) > limit else ""

    async def _look_up(self, agent_id: str) -> Session | SessionUnreadable | None:
        try:
            return await self._store.get(agent_id)
        except SessionUnreadable as unreadable:
            return unreadable

    async def close(self, timeout_seconds: float) -> None:
        """Wait for sign-ins and sign-outs that are under way, then cancel them."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_seconds)
        tasks = [*self._tasks, *self._late]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _sign_in(
        self, agent_id: str, form: SignInForm, force: bool, skills: SkillReset | None, deadline: Deadline
    ) -> SignedIn:
        signed_in = await self._sign_in_anew(agent_id, form, force, deadline)
        try:
            replaced = await self._store.put(signed_in.session)
        except StoreUnavailable:
            await self._undo(signed_in.session)
            raise
        self._log.info("signed_in", agent_id=agent_id, force=force)
        # The two minutes of silence that end a sign-in run from now: poll at once.
        await (self._listeners.replaced if replaced else self._listeners.notice)(signed_in.session)
        if skills is not None:
            await self._gateway.request(signed_in.session, reset_skills(agent_id, skills), deadline)
        return signed_in

    async def _sign_in_anew(self, agent_id: str, form: SignInForm, force: bool, deadline: Deadline) -> SignedIn:
        """Sign in; that it ends an older sign-in of ours is no loss to those who watch."""
        older = await self._older(agent_id)
        if older is not None:
            await self._listeners.leaving(agent_id)
        try:
            return await self._gateway.sign_in(agent_id, form, force=force, deadline=deadline)
        except BaseException:
            if older is not None:
                await self._listeners.notice(older)
            raise

    async def _older(self, agent_id: str) -> Session | None:
        try:
            return await self._store.get(agent_id)
        except SessionUnreadable:
            return None

    async def _undo(self, session: Session) -> None:
        try:
            await self._gateway.sign_out(session, force=True, deadline=Deadline.after(_UNDO_SECONDS))
        except AdapterError as failure:
            self._log.warning("sign_in_not_undone", agent_id=session.agent_id, detail=failure.message)

    async def _sign_out(self, agent_id: str, force: bool, deadline: Deadline) -> None:
        session = await self.get(agent_id)
        await self._listeners.leaving(agent_id)
        try:
            await self._end(session, force, deadline)
        except BaseException:
            await self._listeners.notice(session)
            raise
        await self._listeners.forget(agent_id)
        self._log.info("signed_out", agent_id=agent_id, force=force)

    async def _end(self, session: Session, force: bool, deadline: Deadline) -> None:
        """Sign out at the gateway and remove the session, also when a poll renews its GUID meanwhile."""
        for _ in range(_SIGN_OUTS):
            await self._gateway.sign_out(session, force=force, deadline=deadline)
            if await self._store.remove(session.agent_id, session.guid):
                return
            stored = await self._store.get(session.agent_id)
            if stored is None or stored.signed_in_at != session.signed_in_at:
                return  # somebody signed in anew: that is not the session that was to end
            # The gateway may have taken the old GUID for "already out".
            session = stored

    async def _finish(self, agent_id: str, work: Coroutine[Any, Any, T]) -> T:
        """Run the work to its end in a task of our own, whatever becomes of the caller."""
        if agent_id in self._busy:
            work.close()
            raise SessionBusy(agent_id)
        self._busy.add(agent_id)  # at once: the task begins later, and a second call may come before
        task = asyncio.create_task(self._alone(agent_id, work), name=f"session {agent_id}")
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._ended(agent_id, done))
        return await asyncio.shield(task)

    async def _alone(self, agent_id: str, work: Coroutine[Any, Any, T]) -> T:
        """Do the work while no other replica signs the inspector in or out: the later GUID must be stored later."""
        mark = secrets.token_hex(8)
        try:
            if not await self._store.begin(agent_id, mark, _LONGEST_SECONDS):
                raise SessionBusy(agent_id)  # noqa: TRY301 - the work has to be closed as well
        except BaseException as failure:
            work.close()
            if isinstance(failure, StoreUnavailable):
                self._let_others(agent_id, mark)  # it may have been set all the same
            raise
        try:
            return await work
        finally:
            try:
                await self._store.finish(agent_id, mark)
            except StoreUnavailable:
                self._let_others(agent_id, mark)

    def _let_others(self, agent_id: str, mark: str) -> None:
        task = asyncio.create_task(self._finish_later(agent_id, mark), name=f"session {agent_id} free")
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    async def _finish_later(self, agent_id: str, mark: str) -> None:
        """Take the mark away when the store is back; after its time it is gone by itself."""
        life = Deadline.after(_LONGEST_SECONDS)
        while not life.over:
            await asyncio.sleep(_RETRY_SECONDS)
            with contextlib.suppress(StoreUnavailable):
                await self._store.finish(agent_id, mark)
                return

    def _ended(self, agent_id: str, task: asyncio.Task[Any]) -> None:
        self._busy.discard(agent_id)
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # a caller that went away does not read it
