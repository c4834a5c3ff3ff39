"""Sessions in the memory of this process: for one replica, the demo and tests."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qc_adapter.sessions.record import storable

if TYPE_CHECKING:
    from qc_adapter.model.session import Renewal, Secret, Session
    from qc_adapter.sessions.orders import SealedOrders, Stage


@dataclass(slots=True)
class OrdersEntry:
    """Orders, and how far a recovery has come; times are on the monotonic clock."""

    sealed: str
    tried_at: float
    #: When a sign-in of ours last took the session over from another client.
    taken_at: float | None = None
    recovered_at: float | None = None
    stage: Stage | None = None
    detail: str = ""
    retcode: str = ""
    attempts: int = 0
    losses: int = 0
    doubtful_until: float = 0.0
    due_at: float = 0.0
    claim: str = ""


class MemorySessionStore:
    """Keeps sessions until the process ends. No method awaits, so each one is atomic on the event loop."""

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}
        self._busy: dict[str, str] = {}
        #: What is kept beside the sessions, and goes with them.
        self.orders: dict[str, OrdersEntry] = {}
        self.monitored: dict[str, set[str]] = {}
        #: Whose session was written or removed; whoever has looked at one takes it out.
        self.touched: set[str] = set()

    async def get(self, agent_id: str) -> Session | None:
        """Return the inspector's session, or None."""
        return self._sessions.get(agent_id)

    async def agent_ids(self) -> list[str]:
        """Return the inspectors with a session."""
        return list(self._sessions)

    async def put(self, session: Session, orders: SealedOrders | None = None) -> bool:
        """Store the session in place of any other one of the inspector; say whether there was another sign-in."""
        before, new = self._sessions.get(session.agent_id), storable(session)
        self._sessions[session.agent_id] = new
        self.touched.add(session.agent_id)
        self.forget_orders(session.agent_id)
        if orders is not None:
            now = time.monotonic()
            self.orders[session.agent_id] = OrdersEntry(orders.sealed, now, now if orders.forced else None)
        return before is not None and before.guid != new.guid

    def replace(self, session: Session) -> None:
        """Store another session of the inspector and keep what stands beside it."""
        self._sessions[session.agent_id] = storable(session)
        self.touched.add(session.agent_id)

    def forget_orders(self, agent_id: str) -> None:
        """Let nobody sign the inspector in again."""
        self.orders.pop(agent_id, None)
        self.monitored.pop(agent_id, None)

    async def renew(self, agent_id: str, used: Secret, renewal: Renewal) -> Session | None:
        """Store what a reply brought if `used` is still the stored GUID; return what is stored then."""
        stored = self._sessions.get(agent_id)
        if stored is None or stored.guid != used:
            return stored
        renewed = storable(stored.renewed(renewal))
        self._sessions[agent_id] = renewed
        self.touched.add(agent_id)
        return renewed

    async def remove(self, agent_id: str, guid: Secret | None = None) -> bool:
        """Remove the session, with `guid` only while that is the stored one."""
        stored = self._sessions.get(agent_id)
        if stored is None or (guid is not None and stored.guid != guid):
            return False
        del self._sessions[agent_id]
        self.touched.add(agent_id)
        self.forget_orders(agent_id)
        return True

    async def begin(self, agent_id: str, mark: str, seconds: float) -> bool:  # noqa: ARG002 - it ends with the process
        """Begin, unless somebody else is at it."""
        return self._busy.setdefault(agent_id, mark) == mark

    async def finish(self, agent_id: str, mark: str) -> None:
        """Let others begin, if the mark is ours."""
        if self._busy.get(agent_id) == mark:
            del self._busy[agent_id]

    async def under_way(self, agent_id: str) -> bool:
        """Whether somebody has begun and not finished."""
        return agent_id in self._busy

    async def ping(self) -> None:
        """Return: memory is always there."""

    async def close(self) -> None:
        """Forget everything."""
        self._sessions.clear()
        self.touched.clear()
        self.orders.clear()
        self.monitored.clear()
