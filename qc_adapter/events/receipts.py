"""
Keeps what receipts say of inspections, for all who ask what an inspector does.

A receipt is known to the replica that sent the command; the events come to the one that polls. So it is written to the
head of the inspector's log, behind the caller's back: `accepted` does not wait for it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from qc_adapter.events import log_scripts
from qc_adapter.events.inspection import accepted
from qc_adapter.events.stored import from_inspection, to_inspection
from qc_adapter.model.deadline import Deadline
from qc_adapter.model.errors import StoreUnavailable

if TYPE_CHECKING:
    from qc_adapter.events.hub import Hub
    from qc_adapter.events.inspection import Acceptance, Inspection
    from qc_adapter.store.link import RedisLink

#: A receipt that could not be written by then says nothing about the present any more.
_RETRIED_SECONDS: Final = 30.0
_RETRY_SECONDS: Final = 0.5


class RedisReceipts:
    """Writes receipts one after the other, in the order in which they came."""

    def __init__(self, link: RedisLink, hub: Hub) -> None:
        self._link = link
        self._hub = hub
        self._waiting: asyncio.Queue[tuple[str, Inspection | None, Acceptance, Deadline]] = asyncio.Queue()
        self._log = structlog.get_logger()

    def note(self, agent_id: str, acceptance: Acceptance) -> None:
        """Take note of a command that the gateway accepted; never fails, never waits."""
        feed = self._hub.find(agent_id)
        before = None if feed is None else feed.inspection
        if feed is not None:
            feed.accept(acceptance)
        self._waiting.put_nowait((agent_id, before, acceptance, Deadline.after(_RETRIED_SECONDS)))

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            agent_id, before, acceptance, life = await self._waiting.get()
            try:
                await self._write(agent_id, before, acceptance, life)
            except StoreUnavailable as failure:
                self._log.warning("receipt_not_recorded", agent_id=agent_id, detail=failure.message)
            except Exception as defect:  # noqa: BLE001 - the receipts behind this one are good
                self._log.error("look_failed", exc_info=defect)

    async def _write(self, agent_id: str, before: Inspection | None, acceptance: Acceptance, life: Deadline) -> None:
        """Put the receipt behind what stands there, which may have been written by another replica."""
        while True:
            after = accepted(before, acceptance)
            try:
                found = await self._link.script(
                    "receipt", log_scripts.RECEIPT, agent_id, to_inspection(before), to_inspection(after)
                )
            except StoreUnavailable:
                if life.over:
                    raise
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            if found is None:
                return
            before = from_inspection(found.decode())
