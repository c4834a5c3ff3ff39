"""The port to the session store: what the rest of the adapter may ask it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from qc_adapter.model.session import Renewal, Secret, Session
    from qc_adapter.sessions.orders import SealedOrders


class SessionReader(Protocol):
    """Finds sessions. Every method raises `StoreUnavailable` within the store's time limit."""

    async def get(self, agent_id: str) -> Session | None:
        """Return the inspector's session, or None when there is none."""
        ...

    async def agent_ids(self) -> list[str]:
        """Return the inspectors with a session, in no order; one that comes or goes meanwhile may be missed."""
        ...


class SessionWriter(Protocol):
    """Changes sessions. A cancelled caller does not undo a change that is under way."""

    async def put(self, session: Session, orders: SealedOrders | None = None) -> bool:
        """
        Store the session in place of any other one of the inspector; raises `InvalidRequest` for a bad GUID.

        With it stand the orders for the time when the gateway forgets it; those of the session before are dropped.

        Says whether one with another GUID was there: another sign-in.
        """
        ...

    async def renew(self, agent_id: str, used: Secret, renewal: Renewal) -> Session | None:
        """
        Store what a reply brought, only if `used`, the GUID of the request, is still the stored one.

        Returns the session as it is stored then: renewed, or a newer one that is left alone. None if it is gone.
        """
        ...

    async def remove(self, agent_id: str, guid: Secret | None = None) -> bool:
        """Remove the session, with `guid` only while that is the stored one. Says whether one was removed."""
        ...


class SessionGuard(Protocol):
    """Keeps two sign-ins or sign-outs of one inspector apart, on all replicas."""

    async def begin(self, agent_id: str, mark: str, seconds: float) -> bool:
        """Begin under that mark; False while somebody else is at it. It lapses by itself after that time."""
        ...

    async def finish(self, agent_id: str, mark: str) -> None:
        """Let others begin, if the mark is ours."""
        ...

    async def under_way(self, agent_id: str) -> bool:
        """Whether somebody has begun and not finished."""
        ...


class SessionStore(SessionReader, SessionWriter, SessionGuard, Protocol):
    """The whole store, with its life."""

    async def ping(self) -> None:
        """Return when the store answers and takes writes, else raise `StoreUnavailable`."""
        ...

    async def close(self) -> None:
        """Let what is under way end, and close the connections."""
        ...
