"""Spares a command the question whose GUID it is to use, as long as a change of it would be heard of."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from qc_adapter.model.session import Session

#: A notice that got lost costs at most that.
_FRESH_SECONDS: Final = 1.0


class Sessions(Protocol):
    """The part of the session store that is asked."""

    async def get(self, agent_id: str) -> Session | None: ...


class SessionCache:
    """
    The sessions of inspectors whose notices this replica hears, each for a second at most.

    `heard` says whether notices about an inspector arrive now.
    """

    def __init__(self, sessions: Sessions, heard: Callable[[str], bool]) -> None:
        self._sessions = sessions
        self._heard = heard
        self._known: dict[str, tuple[float, Session]] = {}
        #: Counts what was forgotten, so that an answer that was on its way then is not kept.
        self._forgotten = 0

    async def get(self, agent_id: str) -> Session | None:
        """Return the session, or None when there is none; raises what the store raises."""
        known = self._known.get(agent_id)
        if known is not None and time.monotonic() - known[0] < _FRESH_SECONDS and self._heard(agent_id):
            return known[1]
        before, asked_at = self._forgotten, time.monotonic()
        session = await self._sessions.get(agent_id)
        self._known.pop(agent_id, None)
        if session is not None and self._forgotten == before and self._heard(agent_id):
            self._known[agent_id] = (asked_at, session)
        return session

    def forget(self, agent_id: str) -> None:
        """Drop what may have changed."""
        self._forgotten += 1
        self._known.pop(agent_id, None)
