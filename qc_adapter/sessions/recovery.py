"""
Signs inspectors in again whose sign-in the gateway has forgotten, and gives them back what they had.

A case is claimed, gets one step, and goes back into the book with what came of it. So whichever replica claims it next
goes on from there, and no inspector is signed in more often than once a second.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from qc_adapter.model.errors import SessionUnreadable, StoreUnavailable
from qc_adapter.sessions.orders import Stage

if TYPE_CHECKING:
    from qc_adapter.sessions.recovery_book import Case, RecoveryBook
    from qc_adapter.sessions.recovery_steps import RecoverySteps

_LOOK_SECONDS: Final = 0.5
_MOST_AT_ONCE: Final = 64


class Recovery:
    """Works off the book of recoveries, many inspectors at once."""

    def __init__(self, book: RecoveryBook, steps: RecoverySteps) -> None:
        self._book = book
        self._steps = steps
        self._wanted = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._log = structlog.get_logger()

    def start(self) -> None:
        """Begin to look for cases."""
        self._loop = asyncio.create_task(self._look_always(), name="recovery")

    def wake(self) -> None:
        """Look now."""
        self._wanted.set()

    async def stop(self) -> None:
        """Stop; what was sent to the gateway is finished by its turn."""
        tasks = [*self._tasks, *([self._loop] if self._loop is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._loop = None

    async def _look_always(self) -> None:
        blind = False
        while True:
            self._wanted.clear()
            try:
                await self._look()
                blind = False
            except StoreUnavailable as failure:
                if not blind:
                    blind = True
                    self._log.warning("recoveries_not_listed", detail=failure.message)
            except Exception as defect:  # noqa: BLE001 - without this loop nobody is signed in again any more
                self._log.error("look_failed", exc_info=defect)
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._wanted.wait()
            except TimeoutError:
                continue

    async def _look(self) -> None:
        room = _MOST_AT_ONCE - len(self._tasks)
        if room <= 0:
            return
        for case in await self._book.due(room, self._steps.longest_seconds, self._steps.keys):
            task = asyncio.create_task(self._work(case), name=f"recovery {case.agent_id}")
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self.wake()  # there may be more than fitted in, and the next step of this one

    async def _work(self, case: Case) -> None:
        try:
            if case.stage is Stage.RESTORING:
                await self._steps.restore(case)
            else:
                await self._steps.sign_in(case)
        except (StoreUnavailable, SessionUnreadable) as failure:
            # The claim lapses; then it is tried again.
            self._log.warning("recovery_interrupted", agent_id=case.agent_id, detail=failure.message)
        except Exception as defect:  # noqa: BLE001 - one bad case must not end the others
            self._log.error("recovery_failed", agent_id=case.agent_id, exc_info=defect)
