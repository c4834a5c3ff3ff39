"""Lets a trace show how long it took to find an inspector's session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from qc_adapter.telemetry.correlation import current_trace

if TYPE_CHECKING:
    from qc_adapter.model.session import Session


class Sessions(Protocol):
    """The part of the session store that a command needs."""

    async def get(self, agent_id: str) -> Session | None: ...


class TracedSessions:
    """The sessions of another one; within a call that is recorded, each look is a span."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def get(self, agent_id: str) -> Session | None:
        """Return the session, or None when there is none; raises what the store raises."""
        trace = current_trace()
        if trace is None or not trace.recorded:
            return await self._sessions.get(agent_id)
        span = trace.step("find session", attributes={"qc.agent_id": agent_id})
        try:
            session = await self._sessions.get(agent_id)
            span.set_attribute("qc.session_found", session is not None)
            return session
        finally:
            span.end()
