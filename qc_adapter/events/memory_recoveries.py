"""Recoveries of the only replica there is."""

from __future__ import annotations

import secrets
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from qc_adapter.events.redis_recoveries import DOUBT_SECONDS
from qc_adapter.sessions.orders import FORCED_OUT, SIGNED_OUT_BY_FORCE, Kept, Stage
from qc_adapter.sessions.recovery_book import Case

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qc_adapter.events.memory_leases import MemoryRota
    from qc_adapter.model.session import Session
    from qc_adapter.sessions.memory import MemorySessionStore, OrdersEntry

_SIGNING: Final = (Stage.SIGNING_IN, Stage.TAKING_OVER)


class MemoryRecoveries:
    """The book of recoveries."""

    def __init__(self, store: MemorySessionStore, rota: MemoryRota) -> None:
        self._store = store
        self._rota = rota

    async def due(self, most: int, claim_seconds: float, keys: Sequence[str]) -> Sequence[Case]:  # noqa: ARG002
        """Claim what is due; nobody else is there who could open it."""
        now = time.monotonic()
        ripe = [
            agent_id
            for agent_id, entry in self._store.orders.items()
            if entry.stage not in (None, Stage.WANTING) and entry.due_at <= now
        ]
        return [self._claim(agent_id, now, claim_seconds) for agent_id in ripe[:most]]

    def _claim(self, agent_id: str, now: float, claim_seconds: float) -> Case:
        entry = self._store.orders[agent_id]
        doubtful = entry.doubtful_until > now
        entry.claim, entry.due_at = secrets.token_hex(6), now + claim_seconds
        if entry.stage in _SIGNING:
            entry.tried_at = now
            entry.doubtful_until = entry.doubtful_until if doubtful else now + DOUBT_SECONDS
        return Case(
            agent_id,
            entry.stage or Stage.RESTORING,
            entry.sealed,
            entry.claim,
            entry.retcode,
            entry.attempts,
            doubtful,
            None if entry.taken_at is None else now - entry.taken_at,
            tuple(sorted(self._store.monitored.get(agent_id, ()))),
        )

    async def put_off(self, case: Case, stage: Stage, detail: str, seconds: float, *, doubtful: bool) -> bool:
        """Let it be due again after that time."""
        entry = self._claimed(case)
        if entry is None:
            return False
        entry.stage, entry.detail, entry.due_at = stage, detail, time.monotonic() + seconds
        entry.attempts += 1
        entry.doubtful_until = entry.doubtful_until if doubtful else 0.0
        self._rota.tell(case.agent_id)
        return True

    async def signed_in(self, case: Case, session: Session, *, forced: bool) -> bool:
        """Store the session and enlist it."""
        entry, now = self._claimed(case), time.monotonic()
        if entry is None:
            return False
        self._store.replace(session)
        entry.stage, entry.detail, entry.attempts, entry.claim = Stage.RESTORING, "", 0, ""
        entry.recovered_at, entry.due_at, entry.doubtful_until = now, now, 0.0
        entry.taken_at = now if forced else entry.taken_at
        await self._rota.enlist(case.agent_id)
        return True

    async def settle(self, case: Case, detail: str) -> bool:
        """End the recovery."""
        entry = self._claimed(case)
        if entry is None:
            return False
        entry.stage, entry.detail, entry.claim = Stage.WANTING if detail else None, detail, ""
        self._rota.tell(case.agent_id)
        return True

    async def give_up(self, case: Case, retcode: str, detail: str, *, conflict: bool) -> bool:
        """End the recovery, and the log with it."""
        if self._claimed(case) is None:
            return False
        await self._lose(case.agent_id, retcode, detail, conflict=conflict)
        return True

    async def dismiss(self, agent_id: str) -> None:
        """Forget the orders."""
        await self._lose(agent_id, FORCED_OUT, SIGNED_OUT_BY_FORCE, conflict=False)

    async def _lose(self, agent_id: str, retcode: str, detail: str, *, conflict: bool) -> None:
        """Let nobody sign the inspector in again."""
        self._store.forget_orders(agent_id)
        session = await self._store.get(agent_id)
        if session is not None and session.recovering:
            lost = replace(session, recovering=False)
            self._store.replace(lost)
            self._rota.give_up(agent_id, lost, retcode, detail, conflict=conflict)

    async def kept(self, agent_ids: Sequence[str]) -> dict[str, Kept]:
        """Return what is kept for inspectors."""
        return {agent_id: self._kept(agent_id) for agent_id in agent_ids}

    def _kept(self, agent_id: str) -> Kept:
        monitored = len(self._store.monitored.get(agent_id, ()))
        return Kept(agent_id in self._store.orders, monitored)

    def _claimed(self, case: Case) -> OrdersEntry | None:
        entry = self._store.orders.get(case.agent_id)
        return entry if entry is not None and entry.claim == case.claim else None
