"""Sessions in Redis, shared by all replicas and by other systems that sign inspectors in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from qc_adapter.model.errors import SessionUnreadable, StoreUnavailable
from qc_adapter.sessions.record import KEY_PREFIX, agent_id_of, key_of, mark_of, storable
from qc_adapter.sessions.records import Records
from qc_adapter.sessions.script import BEGIN, FINISH, FORM, PUT, REMOVE, RENEW
from qc_adapter.store import keys

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from typing import Any

    from qc_adapter.model.session import Renewal, Secret, Session
    from qc_adapter.sessions.orders import SealedOrders
    from qc_adapter.store.link import RedisLink

_ALIVE_MS: Final = 60_000


class RedisSessionStore:
    """
    One hash for each session, changed by scripts only, so that no reader sees half a change.

    The record names its inspector, and a read verifies that.
    """

    def __init__(self, link: RedisLink, records: Records | None = None) -> None:
        """Without an own way to write records they are in plain text."""
        self._link = link
        self._records = records or Records()

    async def get(self, agent_id: str) -> Session | None:
        """Return the inspector's session, or None."""
        return self._records.read(agent_id, await self.stored(agent_id))

    async def stored(self, agent_id: str) -> list[bytes]:
        """Return the record as it lies there, as names and values in turn."""
        found: list[bytes] = await _readable(agent_id, self._link.command("get", "HGETALL", key_of(agent_id)))
        return found

    async def agent_ids(self) -> list[str]:
        """Return the inspectors with a session."""
        found = await self._link.keys("list", KEY_PREFIX)
        return [agent_id for agent_id in map(agent_id_of, found) if agent_id is not None]

    async def put(self, session: Session, orders: SealedOrders | None = None) -> bool:
        """Store the session in place of any other one of the inspector; say whether there was another sign-in."""
        new = storable(session)
        await find_form(self._link, self._records)
        kept = (orders.sealed if orders else "", repr(new.signed_in_at), int(orders is not None and orders.forced))
        fields = self._records.to_fields(new)
        return bool(await self._link.script("put", PUT, new.agent_id, mark_of(new.guid.reveal()), *kept, *fields))

    async def renew(self, agent_id: str, used: Secret, renewal: Renewal) -> Session | None:
        """Store what a reply brought if `used` is still the stored GUID; return what is stored then."""
        await find_form(self._link, self._records)
        changes = self._records.to_changes(agent_id, renewal)
        mark = mark_of(used.reveal())
        stored = await _readable(agent_id, self._link.script("renew", RENEW, agent_id, mark, *changes))
        return self._records.read(agent_id, stored)

    async def remove(self, agent_id: str, guid: Secret | None = None) -> bool:
        """Remove the session, with `guid` only while that is the stored one."""
        wanted = () if guid is None else (mark_of(guid.reveal()),)
        return bool(await _readable(agent_id, self._link.script("remove", REMOVE, agent_id, *wanted)))

    async def begin(self, agent_id: str, mark: str, seconds: float) -> bool:
        """Begin, unless somebody else is at it."""
        return bool(await self._link.script("begin", BEGIN, agent_id, mark, int(seconds * 1000)))

    async def finish(self, agent_id: str, mark: str) -> None:
        """Let others begin, if the mark is ours."""
        await self._link.script("begin", FINISH, agent_id, mark)

    async def under_way(self, agent_id: str) -> bool:
        """Whether somebody has begun and not finished."""
        return bool(await self._link.command("begin", "EXISTS", keys.BUSY + agent_id))

    async def ping(self) -> None:
        """Return when Redis takes a write: one that is full or a replica answers PING, and nobody can poll with it."""
        await self._link.look()
        await self._link.command("ping", "SET", keys.ALIVE, "1", "PX", _ALIVE_MS)

    async def close(self) -> None:
        """Let what is under way end, and close the connections."""
        await self._link.close()


async def _readable(agent_id: str, reply: Awaitable[Any]) -> Any:
    try:
        found = await reply
    except StoreUnavailable as failure:
        if not failure.wrong_type:
            raise
        raise SessionUnreadable(agent_id, f"the key {key_of(agent_id)} holds no hash") from None
    # The client makes a dictionary of some replies.
    return [part for pair in found.items() for part in pair] if isinstance(found, dict) else found


async def find_form(link: RedisLink, records: Records) -> None:
    """Learn with which key records are sealed; it comes with each beat, and some write before the first."""
    if records.unknown:
        key: bytes = await link.script("put", FORM, " ".join(records.keys), records.seals)
        records.answered(key.decode())
