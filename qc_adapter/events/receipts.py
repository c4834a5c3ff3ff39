"""
Keeps what receipts say of inspections, for all who ask what an inspector does.

A receipt is known to the replica that sent the command; the events come to the one that polls. So it is written to the
head of the inspector's log, behind the caller's back: `accepted` does not wait for it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
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
_MOST_AT_ONCE: Final = 64
#: Of those that wait; a receipt that finds no room is not written, as one that is too old is not.
_MOST_WAITING: Final = 10_000
#: Nobody waits for a receipt that has others right before it; meanwhile more of them gather.
_GATHERING_SECONDS: Final = 0.02


@dataclass(frozen=True, slots=True)
class _Receipt:
    """A receipt that is to be written behind the inspection as it was known."""

    agent_id: str
    before: Inspection | None
    acceptance: Acceptance
    life: Deadline

    def arguments(self) -> tuple[str, str, str]:
        return self.agent_id, to_inspection(self.before), to_inspection(accepted(self.before, self.acceptance))


class RedisReceipts:
    """Writes receipts in the order in which they came, all that wait at once."""

    def __init__(self, link: RedisLink, hub: Hub) -> None:
        self._link = link
        self._hub = hub
        self._waiting: asyncio.Queue[_Receipt] = asyncio.Queue(_MOST_WAITING)
        self._log = structlog.get_logger()

    def note(self, agent_id: str, acceptance: Acceptance) -> None:
        """Take note of a command that the gateway accepted; never fails, never waits."""
        feed = self._hub.find(agent_id)
        before = None if feed is None else feed.inspection
        if feed is not None:
            feed.accept(acceptance)
        try:
            self._waiting.put_nowait(_Receipt(agent_id, before, acceptance, Deadline.after(_RETRIED_SECONDS)))
        except asyncio.QueueFull:
            self._log.warning("receipt_not_recorded", agent_id=agent_id, detail="too many wait for the store")

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            receipts = [await self._waiting.get()]
            while len(receipts) < _MOST_AT_ONCE and not self._waiting.empty():
                receipts.append(self._waiting.get_nowait())
            try:
                await self._write(receipts)
                await asyncio.sleep(_GATHERING_SECONDS)
            except Exception as defect:  # noqa: BLE001 - the receipts behind these are good
                self._log.error("look_failed", exc_info=defect)

    async def _write(self, receipts: list[_Receipt]) -> None:
        """Put the receipts behind what stands there, which may have been written by another replica."""
        while receipts:
            arguments = [argument for receipt in receipts for argument in receipt.arguments()]
            try:
                reply = await self._link.script("receipt", log_scripts.RECEIPT, *arguments)
            except StoreUnavailable as failure:
                receipts = self._of_use(receipts, failure)
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            receipts = [
                replace(receipt, before=from_inspection(found.decode()))
                for receipt, found in zip(receipts, reply, strict=True)
                if found is not None
            ]

    def _of_use(self, receipts: list[_Receipt], failure: StoreUnavailable) -> list[_Receipt]:
        for receipt in receipts:
            if receipt.life.over:
                self._log.warning("receipt_not_recorded", agent_id=receipt.agent_id, detail=failure.message)
        return [receipt for receipt in receipts if not receipt.life.over]
