"""The life of a session: signed in, adopted, signed out, and who is told of it."""

from __future__ import annotations

import heapq
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from qc_adapter.gateway.requests import reset_skills
from qc_adapter.model.deadline import Deadline
from qc_adapter.model.errors import (
    AdapterError,
    GatewayRefused,
    InvalidRequest,
    NotSignedIn,
    OutcomeUnknown,
    SessionRecovering,
    SessionUnreadable,
    StoreUnavailable,
)
from qc_adapter.model.inspector import rank_of
from qc_adapter.model.session import Session
from qc_adapter.sessions.orders import SealedOrders, close
from qc_adapter.sessions.patience import patiently

if TYPE_CHECKING:
    from collections.abc import Callable

    from qc_adapter.gateway.gateways import Gateways
    from qc_adapter.gateway.signed_in import SignedIn
    from qc_adapter.model.session import EventSource, Renewal, Secret
    from qc_adapter.sessions.event_sources import EventSources
    from qc_adapter.sessions.orders import Orders
    from qc_adapter.sessions.store import SessionStore
    from qc_adapter.sessions.turns import Turns
    from qc_adapter.store.seal import Seal

_UNDO_SECONDS: Final = 5.0
_SIGN_OUTS: Final = 3
#: A refusal with one of these may mean that the GUID was renewed while the request was on its way.
_STALE_GUID: Final = frozenset({"000-003", "100-006"})


class Listeners(Protocol):
    """Is told when a session comes or goes."""

    async def notice(self, session: Session) -> None: ...

    async def replaced(self, session: Session) -> None: ...

    async def adopted(self, session: Session) -> None: ...

    async def leaving(self, agent_id: str) -> None: ...

    async def forget(self, agent_id: str) -> None: ...


class Keeps(Protocol):
    """Stores what a reply changed in a session, now or as soon as the store can be reached."""

    async def absorb(self, session: Session, renewal: Renewal | None) -> None: ...


class SessionService:
    """Signs inspectors in and out at the gateway and keeps the store in step."""

    def __init__(
        self,
        *,
        gateway: Gateways,
        store: SessionStore,
        listeners: Listeners,
        turns: Turns,
        keeper: Keeps,
        sources: EventSources,
        seal: Seal | None,
    ) -> None:
        """Without a seal no credentials are kept."""
        self._gateway = gateway
        self._store = store
        self._listeners = listeners
        self._turns = turns
        self._keeper = keeper
        self._sources = sources
        self._seal = seal
        self._log = structlog.get_logger()

    @property
    def under_way(self) -> int:
        """How many inspectors are being signed in or out."""
        return self._turns.under_way

    async def sign_in(self, agent_id: str, orders: Orders, *, again: bool, deadline: Deadline) -> SignedIn:
        """
        Sign in and store the session; raises `GatewayRefused`, `OutcomeUnknown`, `SessionBusy`, `StoreUnavailable`.

        With `again` the orders are kept, for the time when the gateway forgets the sign-in. Nothing is signed in while
        the store does not answer: it could not be stored. A refused password is never tried again: repetition locks
        the account.
        """
        sealed = self._seal_orders(agent_id, orders) if again else None
        return await self._turns.take(agent_id, self._sign_in(agent_id, orders, sealed, deadline))

    async def sign_out(self, agent_id: str, *, force: bool, deadline: Deadline) -> None:
        """Sign out and forget the session; raises `NotSignedIn`, `GatewayRefused`, `OutcomeUnknown`, `SessionBusy`."""
        await self._turns.take(agent_id, self._sign_out(agent_id, force, deadline))

    async def update_guid(self, agent_id: str, deadline: Deadline) -> Session:
        """Have the gateway make a fresh GUID and store it; raises as `sign_out`, and `SessionRecovering`."""
        return await self._turns.take(agent_id, self._update_guid(agent_id, deadline))

    async def adopt(self, agent_id: str, guid: Secret, source: EventSource | None) -> Session:
        """Store a session that another system opened; without a source that of the gateway's sign-ins."""
        session = Session(agent_id, guid, self._sources.chosen(agent_id, source))
        replaced = await self._turns.take(agent_id, self._store.put(session))
        self._log.info("session_adopted", agent_id=agent_id, event_source=str(session.event_source))
        await (self._listeners.adopted if replaced else self._listeners.notice)(session)
        return session

    async def get(self, agent_id: str) -> Session:
        """Return a session; raises `NotSignedIn`."""
        session = await self._store.get(agent_id)
        if session is None:
            raise NotSignedIn(agent_id)
        return session

    async def list(
        self, after: str, limit: int, wanted: Callable[[str], bool] = lambda _: True
    ) -> tuple[list[Session | SessionUnreadable], str]:
        """
        Return sessions behind that agent id, by gateway and ascending id, and the last id looked at if there are more.

        Of inspectors that are not wanted nothing is looked at, so that the last id is none of them.
        What is stored and cannot be read stands in its place: one bad record does not hide the others.
        """
        ranked = ((rank_of(agent_id), agent_id) for agent_id in await self._store.agent_ids() if wanted(agent_id))
        if after:
            last = rank_of(after)
            ranked = (one for one in ranked if one[0] > last)
        # Twenty thousand are not sorted for a page of a hundred: nothing else goes on meanwhile.
        ids = [agent_id for _, agent_id in heapq.nsmallest(limit + 1, ranked)]
        sessions = [await self._look_up(agent_id) for agent_id in ids[:limit]]
        return [session for session in sessions if session is not None], ids[limit - 1] if len(ids) > limit else ""

    async def _look_up(self, agent_id: str) -> Session | SessionUnreadable | None:
        try:
            return await self._store.get(agent_id)
        except SessionUnreadable as unreadable:
            return unreadable

    async def close(self, timeout_seconds: float) -> None:
        """Wait for sign-ins and sign-outs that are under way, then cancel them."""
        await self._turns.close(timeout_seconds)

    def _seal_orders(self, agent_id: str, orders: Orders) -> SealedOrders:
        if self._seal is None:
            what = (
                "SAME_CREDENTIALS keeps the password in Redis, sealed: set QC_SEAL_KEYS (qc-adapter seal-key makes one)"
            )
            raise InvalidRequest([("re_sign_in", what)])
        return SealedOrders(close(self._seal, agent_id, orders), orders.force)

    async def _sign_in(
        self, agent_id: str, orders: Orders, sealed: SealedOrders | None, deadline: Deadline
    ) -> SignedIn:
        older = await self._older(agent_id)
        signed_in = await self._sign_in_anew(agent_id, orders, older, deadline)
        session = signed_in.session
        try:
            replaced = await self._store.put(session, sealed)
        except StoreUnavailable:
            await self._undo(session)
            raise
        self._log.info("signed_in", agent_id=agent_id, force=orders.force)
        # The two minutes of silence that end a sign-in run from now: poll at once.
        live = older is None or not older.recovering  # else nobody polls for the one before
        await (self._listeners.replaced if replaced and live else self._listeners.notice)(session)
        if orders.skills is not None:
            receipt = await self._gateway.request(session, reset_skills(agent_id, orders.skills), deadline)
            await self._keeper.absorb(session, receipt.renewal)
        return signed_in

    async def _sign_in_anew(self, agent_id: str, orders: Orders, older: Session | None, deadline: Deadline) -> SignedIn:
        """Sign in; that it ends an older sign-in of ours is no loss to those who watch."""
        if older is not None:
            await self._listeners.leaving(agent_id)
        form = self._sources.complete(agent_id, orders.form)
        try:
            return await self._gateway.sign_in(agent_id, form, force=orders.force, deadline=deadline)
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
            if session.recovering:  # the gateway has forgotten it already
                await self._store.remove(agent_id)
            else:
                await self._end(session, force, deadline)
        except BaseException:
            await self._listeners.notice(session)
            raise
        await self._listeners.forget(agent_id)
        self._log.info("signed_out", agent_id=agent_id, force=force)

    async def _end(self, session: Session, force: bool, deadline: Deadline) -> None:
        """Sign out at the gateway and remove the session, also when a poll renews its GUID meanwhile."""
        for _ in range(_SIGN_OUTS):
            end = partial(self._gateway.sign_out, session, force=force, deadline=deadline)
            await patiently(end, deadline)
            if await self._store.remove(session.agent_id, session.guid):
                return
            stored = await self._store.get(session.agent_id)
            if stored is None or stored.signed_in_at != session.signed_in_at:
                return  # somebody signed in anew: that is not the session that was to end
            # The gateway may have taken the old GUID for "already out".
            session = stored

    async def _update_guid(self, agent_id: str, deadline: Deadline) -> Session:
        session = await self.get(agent_id)
        if session.recovering:
            raise SessionRecovering(agent_id)
        try:
            return await self._renew(session, deadline)
        except GatewayRefused as refused:
            newer = await self._store.get(agent_id)
            if refused.retcode not in _STALE_GUID or newer is None or newer.guid == session.guid:
                raise
        return await self._renew(newer, deadline)

    async def _renew(self, session: Session, deadline: Deadline) -> Session:
        try:
            renewal = await patiently(lambda: self._gateway.update_guid(session, deadline), deadline)
        except (GatewayRefused, OutcomeUnknown) as failure:
            await self._keeper.absorb(session, failure.renewal)
            raise
        await self._keeper.absorb(session, renewal)
        self._log.info("guid_updated", agent_id=session.agent_id)
        return session.renewed(renewal)
