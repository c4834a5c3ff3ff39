"""Sessions in Redis, shared by all replicas and by other systems that sign inspectors in."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from redis.exceptions import NoScriptError, RedisError

from qc_adapter.model.errors import SessionUnreadable, StoreUnavailable
from qc_adapter.sessions.failure import is_read_only, is_wrong_type, why_of
from qc_adapter.sessions.record import (
    KEY_PREFIX,
    UnreadableRecord,
    agent_id_of,
    key_of,
    read_record,
    storable,
    to_changes,
    to_fields,
)
from qc_adapter.sessions.script import PUT, REMOVE, RENEW

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio import Redis

    from qc_adapter.model.session import Renewal, Secret, Session
    from qc_adapter.sessions.script import Script

T = TypeVar("T")


class RedisSessionStore:
    """
    One hash for each session, changed by scripts only, so that no reader sees half a change.

    Each command runs in a task of its own that a cancelled caller leaves behind: it reads its reply to the end, so no
    reply can stay on a connection for the next command (redis/redis-py#2624; a wrong reply is another inspector's
    GUID). The record names its inspector, and a read verifies that. `on_error` hears the operation of each failure.
    """

    def __init__(
        self,
        client: Redis,
        *,
        timeout_seconds: float = 2.0,
        connections: int = 64,
        on_error: Callable[[str], None] = lambda _operation: None,
        on_close: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._client = client
        self._timeout_seconds = timeout_seconds
        self._slots = asyncio.Semaphore(connections)
        self._on_error = on_error
        self._on_close = on_close
        self._running: set[asyncio.Task[Any]] = set()
        self._closed = False

    async def get(self, agent_id: str) -> Session | None:
        """Return the inspector's session, or None."""
        key = key_of(agent_id)
        return self._session(agent_id, await self._run("get", lambda: self._send("HGETALL", key), agent_id))

    async def agent_ids(self) -> list[str]:
        """Return the inspectors with a session."""
        found = await self._run("list", self._scan)
        return [agent_id for agent_id in map(agent_id_of, found) if agent_id is not None]

    async def put(self, session: Session) -> None:
        """Store the session in place of any other one of the inspector."""
        fields = to_fields(storable(session))
        await self._run("put", lambda: self._script(PUT, key_of(session.agent_id), *fields))

    async def renew(self, agent_id: str, used: Secret, renewal: Renewal) -> Session | None:
        """Store what a reply brought if `used` is still the stored GUID; return what is stored then."""
        changes = to_changes(renewal)
        reply = await self._run(
            "renew", lambda: self._script(RENEW, key_of(agent_id), used.reveal(), *changes), agent_id
        )
        return self._session(agent_id, dict(zip(reply[::2], reply[1::2], strict=True)))

    async def remove(self, agent_id: str, guid: Secret | None = None) -> bool:
        """Remove the session, with `guid` only while that is the stored one."""
        wanted = () if guid is None else (guid.reveal(),)
        return bool(await self._run("remove", lambda: self._script(REMOVE, key_of(agent_id), *wanted), agent_id))

    async def ping(self) -> None:
        """Return when Redis answers."""
        await self._run("ping", lambda: self._send("PING"))

    async def close(self) -> None:
        """Wait for the commands under way, each of which has its time limit, and close the connections."""
        self._closed = True
        if self._running:
            await asyncio.wait(self._running)
        await self._client.aclose()
        if self._on_close is not None:
            await self._on_close()

    def _session(self, agent_id: str, stored: dict[bytes, bytes]) -> Session | None:
        if not stored:
            return None
        try:
            return read_record(agent_id, stored)
        except UnreadableRecord as error:
            raise SessionUnreadable(agent_id, f"the record {key_of(agent_id)}: {error}") from None

    async def _run(self, operation: str, command: Callable[[], Awaitable[T]], agent_id: str = "") -> T:
        """Run the command in a task that this store owns, and wait for it as long as the caller wants to."""
        if self._closed:
            raise StoreUnavailable(operation, "it is closed")
        task = asyncio.create_task(self._bounded(operation, command, agent_id), name=f"session-store-{operation}")
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def _bounded(self, operation: str, command: Callable[[], Awaitable[T]], agent_id: str) -> T:
        try:
            async with asyncio.timeout(self._timeout_seconds), self._slots:
                return await command()
        except (RedisError, OSError) as error:  # TimeoutError is an OSError
            if agent_id and is_wrong_type(error):
                raise SessionUnreadable(agent_id, f"the key {key_of(agent_id)} holds no hash") from None
            self._on_error(operation)
            if is_read_only(error):
                # A demoted master keeps its connections open: the next command must look for the new one.
                await self._client.connection_pool.disconnect(inuse_connections=False)
            raise StoreUnavailable(operation, why_of(error, self._timeout_seconds)) from None

    async def _scan(self) -> list[bytes]:
        found: set[bytes] = set()
        cursor = b"0"
        while True:
            cursor, keys = await self._send("SCAN", cursor, "MATCH", f"{KEY_PREFIX}*", "COUNT", 1000)
            found.update(keys)
            if int(cursor) == 0:
                return list(found)

    async def _script(self, script: Script, key: str, *arguments: str) -> Any:
        try:
            return await self._send("EVALSHA", script.sha1, 1, key, *arguments)
        except NoScriptError:  # a Redis that was restarted or promoted
            return await self._send("EVAL", script.text, 1, key, *arguments)

    async def _send(self, *command: bytes | str | float) -> Any:
        return await self._client.execute_command(*command)  # type: ignore[no-untyped-call]
