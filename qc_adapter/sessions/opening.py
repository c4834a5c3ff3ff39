"""Which session store belongs to a link."""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

from qc_adapter.sessions.memory import MemorySessionStore
from qc_adapter.sessions.redis import RedisSessionStore

if TYPE_CHECKING:
    from qc_adapter.sessions.records import Records
    from qc_adapter.sessions.store import SessionStore
    from qc_adapter.store.link import RedisLink


@overload
def open_store(link: None) -> MemorySessionStore: ...
@overload
def open_store(link: RedisLink, records: Records | None = None) -> RedisSessionStore: ...
@overload
def open_store(link: RedisLink | None, records: Records | None = None) -> SessionStore: ...
def open_store(link: RedisLink | None, records: Records | None = None) -> SessionStore:
    """Return the store in Redis, or the one in memory without a link. Closing the store closes the link."""
    return MemorySessionStore() if link is None else RedisSessionStore(link, records)
