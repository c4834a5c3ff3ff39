"""What an accepted command changes in what is kept for the time when the gateway forgets a sign-in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import structlog

from qc_adapter.gateway import operations
from qc_adapter.model.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qc_adapter.commands.run import CommandRun


class Monitored(Protocol):
    """Remembers whom an inspector monitors, so that it can be begun anew; raises `StoreUnavailable`."""

    async def begin(self, inspector: str, work_nos: Sequence[str]) -> None:
        """Add these agents."""
        ...

    async def end(self, inspector: str, work_nos: Sequence[str]) -> None:
        """Take these agents away."""
        ...


class Orders(Protocol):
    """Keeps how to sign inspectors in again; raises `StoreUnavailable`."""

    async def dismiss(self, agent_id: str) -> None:
        """Let nobody sign this one in again, also if that has begun."""
        ...


class Nothing:
    """Keeps nothing: all ends with the sign-in."""

    async def begin(self, inspector: str, work_nos: Sequence[str]) -> None:
        """Do nothing."""

    async def end(self, inspector: str, work_nos: Sequence[str]) -> None:
        """Do nothing."""

    async def dismiss(self, agent_id: str) -> None:
        """Do nothing."""


_NOTHING: Final = Nothing()


class Keeping:
    """Has noted whom an inspector monitors, and who was signed out on purpose."""

    def __init__(self, monitored: Monitored | None = None, orders: Orders | None = None) -> None:
        """Without either nothing is kept of it."""
        self._monitored = monitored or _NOTHING
        self._orders = orders or _NOTHING
        self._log = structlog.get_logger()

    async def note(self, run: CommandRun) -> None:
        """Have it noted; the gateway has taken the command, whatever becomes of this."""
        command, operation = run.command, run.command.request.operation
        if run.accepted is None:
            return
        try:
            if operation is operations.MONITOR:
                await self._monitored.begin(command.agent_id, command.work_nos)
            elif operation is operations.STOP_MONITORING:
                await self._monitored.end(command.agent_id, command.work_nos)
            elif operation is operations.FORCE_SIGN_OUT_AGENT:
                await self._orders.dismiss(command.target_id)
        except StoreUnavailable as failure:
            self._log.warning(
                "command_not_noted", method=command.method, agent_id=command.agent_id, detail=failure.message
            )
