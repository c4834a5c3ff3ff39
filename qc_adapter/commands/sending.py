"""Sends a command: whose GUID, within which time, and when a second time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

from qc_adapter.model.errors import DeadlineExceeded, GatewayRefused, NotSignedIn, OutcomeUnknown, SessionRecovering

if TYPE_CHECKING:
    from collections.abc import Callable

    from qc_adapter.commands.run import CommandRun
    from qc_adapter.gateway.client import Receipt
    from qc_adapter.gateway.requests import GatewayRequest
    from qc_adapter.model.deadline import Deadline
    from qc_adapter.model.session import Renewal, Session

#: A refusal with one of these may mean that the GUID was renewed while the command was on its way.
STALE_GUID: Final = frozenset({"000-003", "100-006"})
#: With less than this left no reply could be read in time: rather nothing is sent than an outcome unknown.
LEAST_SECONDS: Final = 0.01
#: How long a renewal that overtook the command may take to reach the store.
RENEWAL_SECONDS: Final = 0.25
_LOOK_SECONDS: Final = 0.05


class Sends(Protocol):
    """The part of the gateway client that a command needs."""

    async def send(
        self, session: Session, request: GatewayRequest, deadline: Deadline, on_send: Callable[[], None]
    ) -> Receipt: ...


class Sessions(Protocol):
    """The part of the session store that a command needs."""

    async def get(self, agent_id: str) -> Session | None: ...


class Keeps(Protocol):
    """Stores what a reply changed in a session, now or as soon as the store can be reached."""

    async def absorb(self, session: Session, renewal: Renewal | None) -> None: ...


class Sender:
    """Takes a command to the gateway, and what the reply changed to the store."""

    def __init__(self, gateway: Sends, sessions: Sessions, keeper: Keeps) -> None:
        self._gateway = gateway
        self._sessions = sessions
        self._keeper = keeper

    async def send(self, run: CommandRun, deadline: Deadline) -> Receipt:
        """
        Send the command; a second time only when it was refused with a GUID that the store has replaced since.

        What must not be repeated is not even sent then.
        """
        agent_id = run.command.agent_id
        session = await self._sessions.get(agent_id)
        if session is None:
            raise NotSignedIn(agent_id)
        if session.recovering:
            raise SessionRecovering(agent_id)
        try:
            return await self._send_once(run, session, deadline)
        except GatewayRefused as refusal:
            if not run.command.request.operation.repeatable:
                raise
            newer = await self._newer(session, refusal, deadline)
            if newer is None:
                raise
        return await self._send_once(run, newer, deadline)

    async def _send_once(self, run: CommandRun, session: Session, deadline: Deadline) -> Receipt:
        if deadline.remaining_seconds < LEAST_SECONDS:
            raise DeadlineExceeded(
                f"too little time is left to send {run.command.method}: nothing was done", "not_sent"
            )
        try:
            receipt = await self._gateway.send(session, run.command.request, deadline, run.mark_sent)
        except (GatewayRefused, OutcomeUnknown) as failure:
            await self._keeper.absorb(session, failure.renewal)
            raise
        await self._keeper.absorb(session, receipt.renewal)
        return receipt

    async def _newer(self, used: Session, refusal: GatewayRefused, deadline: Deadline) -> Session | None:
        """Return the session that has replaced the refused one; waits a moment for a renewal that is on its way."""
        if refusal.retcode not in STALE_GUID:
            return None
        patience = deadline.sooner(RENEWAL_SECONDS)
        while True:
            stored = await self._sessions.get(used.agent_id)
            if stored is not None and stored.recovering:
                raise SessionRecovering(used.agent_id)
            if stored is None or stored.guid != used.guid:
                return stored
            if patience.over:
                return None
            await asyncio.sleep(_LOOK_SECONDS)
