"""Recoveries in Redis: whichever replica claims a case goes on where the one before it stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import structlog

from qc_adapter.events import recovery_scripts as scripts
from qc_adapter.events.feed import fresh_epoch
from qc_adapter.sessions.orders import FORCED_OUT, SIGNED_OUT_BY_FORCE, Kept, Stage
from qc_adapter.sessions.record import storable
from qc_adapter.sessions.recovery_book import Case
from qc_adapter.sessions.redis import find_form

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qc_adapter.events.redis_lease import Book
    from qc_adapter.model.session import Session

#: A sign-in that nobody uses is ended by the gateway after 120 s of silence.
DOUBT_SECONDS: Final = 150.0
#: A replica that has the key comes within a second; after this it is worth a word.
_PATIENCE_SECONDS: Final = 5.0
_NO_KEY: Final = "waits for a replica that can open the kept credentials: none has the key in QC_SEAL_KEYS"


class RedisRecoveries:
    """The book of recoveries that all replicas share."""

    def __init__(self, book: Book) -> None:
        self._link = book.link
        self._records = book.records
        self._abandoned_ms = _ms(book.terms.abandoned_seconds)
        self._log = structlog.get_logger()

    async def due(self, most: int, claim_seconds: float, keys: Sequence[str]) -> Sequence[Case]:
        """Claim what is due."""
        claim = fresh_epoch()
        times = (_ms(claim_seconds), claim, _ms(DOUBT_SECONDS), _ms(_PATIENCE_SECONDS), self._abandoned_ms)
        found, waiting = await self._link.script("recover", scripts.DUE, most, *times, _NO_KEY, *keys)
        for agent_id in waiting:
            self._log.warning("recovery_waits_for_key", agent_id=agent_id.decode(), detail=_NO_KEY)
        return [_case(claim, *one) for one in found]

    async def put_off(self, case: Case, stage: Stage, detail: str, seconds: float, *, doubtful: bool) -> bool:
        """Let it be due again after that time."""
        more = (stage.value, detail, _ms(seconds), int(doubtful))
        return bool(await self._link.script("recover", scripts.PUT_OFF, case.agent_id, case.claim, *more))

    async def signed_in(self, case: Case, session: Session, *, forced: bool) -> bool:
        """Store the session and enlist it."""
        new = storable(session)
        await find_form(self._link, self._records)
        return bool(
            await self._link.script(
                "recover", scripts.SIGNED_IN, case.agent_id, case.claim, repr(new.signed_in_at), int(forced),
                *self._records.to_fields(new),
            )
        )  # fmt: skip

    async def settle(self, case: Case, detail: str) -> bool:
        """End the recovery."""
        return bool(await self._link.script("recover", scripts.SETTLE, case.agent_id, case.claim, detail))

    async def give_up(self, case: Case, retcode: str, detail: str, *, conflict: bool) -> bool:
        """End the recovery, and the log with it."""
        ended = f"{'conflict' if conflict else 'lost'} {retcode}"
        return bool(await self._link.script("recover", scripts.GIVE_UP, case.agent_id, case.claim, ended, detail))

    async def dismiss(self, agent_id: str) -> None:
        """Forget the orders."""
        await self._link.script("recover", scripts.DISMISS, agent_id, f"lost {FORCED_OUT}", SIGNED_OUT_BY_FORCE)

    async def kept(self, agent_ids: Sequence[str]) -> dict[str, Kept]:
        """Return what is kept for inspectors."""
        if not agent_ids:
            return {}
        found = await self._link.script("status", scripts.KEPT, *agent_ids)
        return {
            agent_id: Kept(bool(again), monitored)
            for agent_id, (again, monitored) in zip(agent_ids, found, strict=True)
        }


def _case(claim: str, *told: Any) -> Case:
    agent_id, stage, sealed, retcode, attempts, doubtful, taken_ago_ms, monitored = told
    return Case(
        agent_id.decode(),
        Stage(stage.decode()),
        sealed.decode(),
        claim,
        retcode.decode(),
        int(attempts),
        bool(doubtful),
        int(taken_ago_ms) / 1000 if int(taken_ago_ms) >= 0 else None,
        tuple(sorted(one.decode() for one in monitored)),
    )


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
