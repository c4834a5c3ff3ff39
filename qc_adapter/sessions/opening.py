"""Which session store belongs to a link."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qc_adapter.sessions.memory import MemorySessionStore
from qc_adapter.sessions.redis import RedisSessionStore

if TYPE_CHECKING:
    from qc_adapter.sessions.store import SessionStore
    from qc_adapter.store.link import RedisLink


def open_store(link: RedisLink | None) -> SessionStore:
    """Return the store in Redis, or the one in memory without a link. Closing the store closes the link."""
    return MemorySessionStore() if link is None else RedisSessionStore(link)
