"""
The steps of a recovery: one request, or one round of them, and what came of it goes into the book.

No step is repeated here: the book says when the next one is due, on whatever replica.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from qc_adapter.gateway.requests import monitor, reset_skills
from qc_adapter.gateway.retcodes import Category, describe
from qc_adapter.model.deadline import Deadline
from qc_adapter.model.errors import (
    AdapterError,
    DeadlineExceeded,
    GatewayError,
    GatewayMisconfigured,
    GatewayRefused,
    OutcomeUnknown,
    SessionBusy,
    StoreUnavailable,
)
from qc_adapter.sessions.orders import LONGEST_PAUSE_SECONDS, QUIET_SECONDS, Stage, unseal
from qc_adapter.store.seal import Unsealable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qc_adapter.gateway.gateways import Gateways
    from qc_adapter.gateway.requests import GatewayRequest
    from qc_adapter.gateway.signed_in import SignedIn
    from qc_adapter.model.session import Session
    from qc_adapter.sessions.changes import Changes
    from qc_adapter.sessions.event_sources import EventSources
    from qc_adapter.sessions.orders import Orders
    from qc_adapter.sessions.recovery_book import Case, RecoveryBook
    from qc_adapter.sessions.service import Keeps
    from qc_adapter.sessions.store import SessionReader
    from qc_adapter.sessions.turns import Turns
    from qc_adapter.store.seal import Seal

_FIRST_PAUSE_SECONDS: Final = 1.0
#: Beyond the time for a request, to store what it brought.
_SPARE_SECONDS: Final = 2.0
_STORE_PAUSE_SECONDS: Final = 0.5
_MONITORED_AT_ONCE: Final = 500
_ELSEWHERE: Final = "100-002"
#: The session is gone again, or its GUID was renewed meanwhile: not a word about what was asked for.
_STALE: Final = frozenset({"000-003", "100-006"})
#: What the gateway says of an account; to ask again could lock it.
_FINAL: Final = frozenset({"100-001", "100-004", "100-015"})
_FINAL_GROUPS: Final = ("110-", "100-06")
_FINAL_CATEGORIES: Final = frozenset({Category.UNAUTHENTICATED, Category.PERMISSION_DENIED})


class Notices(Protocol):
    """Is told of a session that is to be polled at once."""

    async def notice(self, session: Session) -> None: ...


class RecoverySteps:
    """Signs an inspector in again, and gives it back what it had."""

    def __init__(
        self,
        *,
        book: RecoveryBook,
        gateway: Gateways,
        store: SessionReader,
        turns: Turns,
        keeper: Keeps,
        sources: EventSources,
        seal: Seal | None,
        notices: Notices,
        changes: Changes,
        request_seconds: float,
    ) -> None:
        """Without a seal no orders can be opened, and the sessions are lost."""
        self._book = book
        self._gateway = gateway
        self._store = store
        self._turns = turns
        self._keeper = keeper
        self._sources = sources
        self._seal = seal
        self._notices = notices
        self._changes = changes
        self._request_seconds = request_seconds
        self._log = structlog.get_logger()

    @property
    def longest_seconds(self) -> float:
        """How long a step may take; then others may have the case."""
        return self._request_seconds + _SPARE_SECONDS

    @property
    def keys(self) -> tuple[str, ...]:
        """The names of the keys that orders are opened with here."""
        return () if self._seal is None else self._seal.names

    async def sign_in(self, case: Case) -> None:
        """Sign in once, unless the inspector is just being signed in or out."""
        orders = self._orders(case)
        if orders is None:
            detail = "the kept credentials cannot be opened with the keys in QC_SEAL_KEYS of any replica"
            await self._give_up(case, case.retcode, detail)
            return
        try:
            await self._turns.take(case.agent_id, self._attempt(case, orders), self.longest_seconds)
        except SessionBusy as busy:
            # Whoever is at it may sign the inspector in, which ends this case.
            await self._book.put_off(case, case.stage, busy.message, _FIRST_PAUSE_SECONDS, doubtful=case.doubtful)

    def _orders(self, case: Case) -> Orders | None:
        if self._seal is None:
            return None
        try:
            return unseal(self._seal, case.agent_id, case.sealed)
        except (Unsealable, ValueError, KeyError, TypeError):
            return None

    async def _attempt(self, case: Case, orders: Orders) -> None:
        """Send one sign-in, and say in the book what came of it."""
        force = case.stage is Stage.TAKING_OVER
        form = self._sources.complete(case.agent_id, orders.form)
        try:
            signed_in = await self._gateway.sign_in(
                case.agent_id, form, force=force, deadline=Deadline.after(self._request_seconds)
            )
        except GatewayRefused as refused:
            await self._refused(case, orders, refused)
        except OutcomeUnknown as failure:
            await self._put_off(case, case.stage, failure, doubtful=True)
        except AdapterError as failure:
            await self._put_off(case, case.stage, failure, doubtful=case.doubtful)
        else:
            await self._store_anew(case, signed_in, force=force)

    async def _refused(self, case: Case, orders: Orders, refused: GatewayRefused) -> None:
        code = refused.retcode
        if code == _ELSEWHERE and case.stage is Stage.SIGNING_IN and orders.force:
            if case.taken_ago_seconds is not None and case.taken_ago_seconds < QUIET_SECONDS:
                detail = "another client takes this inspector over again and again"
                await self._give_up(case, code, detail, conflict=True)
            else:
                # A second attempt, so not before a second has passed.
                detail = "another client has signed the inspector in: taking over"
                await self._book.put_off(case, Stage.TAKING_OVER, detail, _FIRST_PAUSE_SECONDS, doubtful=False)
        elif code == _ELSEWHERE and not orders.force and not case.doubtful:
            await self._give_up(case, code, f"signed in elsewhere: {refused.message}")
        elif _is_final(code):
            await self._give_up(case, code, refused.message)
        else:
            await self._put_off(case, case.stage, refused, doubtful=code == _ELSEWHERE)

    async def _store_anew(self, case: Case, signed_in: SignedIn, *, force: bool) -> None:
        session = signed_in.session
        life = Deadline.after(_SPARE_SECONDS)
        while True:
            try:
                stored = await self._book.signed_in(case, session, forced=force)
                break
            except StoreUnavailable:
                if life.over:
                    await self._undo(session)
                    raise
            await asyncio.sleep(_STORE_PAUSE_SECONDS)
        if stored:
            self._log.info("signed_in_again", agent_id=case.agent_id, force=force)
            self._changes.changed("signed_in_again", case.agent_id)
            await self._notices.notice(session)
        else:  # another sign-in or sign-out came before it
            await self._undo(session)

    async def _undo(self, session: Session) -> None:
        """End a sign-in that cannot be stored: its GUID is known to nobody else."""
        try:
            await self._gateway.sign_out(session, force=True, deadline=Deadline.after(_SPARE_SECONDS))
        except AdapterError as failure:
            self._log.warning("sign_in_not_undone", agent_id=session.agent_id, detail=failure.message)

    async def restore(self, case: Case) -> None:
        """Set the skills and begin the monitoring anew; each may be repeated without harm."""
        orders, wanting = self._orders(case), list[str]()
        session = await self._store.get(case.agent_id)
        if session is None:
            return
        if orders is None:
            wanting.append("skills are not set: the kept orders cannot be opened")
        deadline = Deadline.after(self._request_seconds)
        try:
            for request in _requests(case, orders):
                session, refusal = await self._ask(session, request, deadline)
                wanting += refusal
        except (GatewayError, DeadlineExceeded) as failure:
            await self._put_off(case, Stage.RESTORING, failure, doubtful=False)
        else:
            await self._settle(case, "; ".join(wanting))

    async def _ask(
        self, session: Session, request: GatewayRequest, deadline: Deadline
    ) -> tuple[Session, tuple[str, ...]]:
        """Send one request. Returns the session as it is then, and the refusal; raises what may be tried again."""
        told: tuple[str, ...] = ()
        try:
            renewal = (await self._gateway.request(session, request, deadline)).renewal
        except GatewayRefused as refused:
            renewal = refused.renewal
            await self._keeper.absorb(session, renewal)
            if refused.retcode in _STALE or describe(refused.retcode).category is Category.UNAVAILABLE:
                raise
            told = (refused.message,)
        else:
            await self._keeper.absorb(session, renewal)
        return (session if renewal is None else session.renewed(renewal)), told

    async def _settle(self, case: Case, detail: str) -> None:
        if await self._book.settle(case, detail):
            if detail:
                self._log.warning("session_recovered_in_part", agent_id=case.agent_id, detail=detail)
            else:
                self._log.info("session_recovered", agent_id=case.agent_id)

    async def _put_off(self, case: Case, stage: Stage, failure: AdapterError, *, doubtful: bool) -> None:
        longest = min(LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0 ** min(case.attempts, 10))
        if isinstance(failure, GatewayMisconfigured):
            longest = LONGEST_PAUSE_SECONDS
        pause = max(_FIRST_PAUSE_SECONDS, longest * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
        if not case.attempts or isinstance(failure, GatewayMisconfigured):
            self._log.warning("recovery_put_off", agent_id=case.agent_id, detail=failure.message)
        await self._book.put_off(case, stage, failure.message, pause, doubtful=doubtful)

    async def _give_up(self, case: Case, retcode: str, detail: str, *, conflict: bool = False) -> None:
        if await self._book.give_up(case, retcode, detail, conflict=conflict):
            event = "session_conflict" if conflict else "session_lost"
            self._log.warning(event, agent_id=case.agent_id, retcode=retcode, detail=detail)
            self._changes.changed(event, case.agent_id, retcode)


def _is_final(retcode: str) -> bool:
    """Whether the gateway would refuse these credentials again."""
    return retcode in _FINAL or retcode.startswith(_FINAL_GROUPS) or describe(retcode).category in _FINAL_CATEGORIES


def _requests(case: Case, orders: Orders | None) -> Iterator[GatewayRequest]:
    if orders is not None and orders.skills is not None:
        yield reset_skills(case.agent_id, orders.skills)
    for start in range(0, len(case.monitored), _MONITORED_AT_ONCE):
        yield monitor(case.agent_id, case.monitored[start : start + _MONITORED_AT_ONCE])
