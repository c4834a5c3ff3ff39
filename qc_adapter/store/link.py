"""The way to Redis: every command bounded in time, read to its end, and its failure put into our words."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError

from qc_adapter.model.errors import StoreUnavailable
from qc_adapter.store.failure import is_read_only, is_wrong_type, why_of
from qc_adapter.store.line import Line, packed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio import Redis
    from redis.asyncio.client import PubSub
    from redis.asyncio.connection import AbstractConnection

    from qc_adapter.store.script import Script

T = TypeVar("T")
_SCAN_COUNT: Final = 1000
#: A replica that is well has what was written within a few milliseconds.
_COPY_MS: Final = 500
#: A replica that has gone may be about to be master, until it has stayed away for so long.
_GONE_SECONDS: Final = 5.0


class RedisLink:
    """
    One client for all parts of this replica.

    Scripts, which are nearly all that is asked, share one line. Each other command has a connection and runs in a task
    of its own that a cancelled caller leaves behind: it reads its reply to the end. So no reply can stay on a
    connection for the next command (redis/redis-py#2624; a wrong reply is another inspector's GUID). Failures are
    `StoreUnavailable`; `on_error` hears the operation of each.

    While Redis does not answer, one command at a time tries; the others fail at once, so that no caller waits for what
    is known already.
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
        self._line = Line(client.connection_pool)
        self._timeout_seconds = timeout_seconds
        self._slots = asyncio.Semaphore(connections)
        self._on_error = on_error
        self._on_close = on_close
        self._running: set[asyncio.Task[Any]] = set()
        self._closed = False
        #: Why the last command failed, until one succeeds.
        self._away: str | None = None
        self._trying = False
        self._answered_at = 0.0
        #: How many replicas copy the server, or did until a moment ago, and when it was last seen to be that many.
        self._replicas = 0
        self._replicas_seen_at = 0.0
        #: Whether the sentinels are just being asked.
        self._asking = False

    @property
    def doubts(self) -> int:
        """Another number whenever another server has, or may have, taken the place of this one."""
        return self._line.doubts

    async def look(self) -> None:
        """Return when Redis answers; raises `StoreUnavailable`. Learns whether it has replicas, and where it is."""
        looking = self._begun("ping", self._ask_role)
        self._follow_master()
        await asyncio.shield(looking)

    async def command(self, operation: str, *command: bytes | str | float) -> Any:
        """Send one command; raises `StoreUnavailable`."""
        return await self._run(operation, lambda: self._send(*command))

    async def script(self, operation: str, script: Script, *arguments: bytes | str | float) -> Any:
        """Run a script; raises `StoreUnavailable`."""
        if self._closed:
            raise StoreUnavailable(operation, "it is closed")
        return await self._bounded(operation, lambda: self._line.ask(script, arguments, self._timeout_seconds))

    def begin(self, operation: str, script: Script, *arguments: bytes | str | float) -> asyncio.Task[Any]:
        """Run a script in a task of this link, which ends it before it closes; raises `StoreUnavailable`."""
        return self._begun(operation, lambda: self._line.ask(script, arguments, self._timeout_seconds))

    async def script_copied(self, operation: str, script: Script, *arguments: bytes | str | float) -> tuple[Any, bool]:
        """
        Run a script, and say whether a failover would keep what it wrote: each replica has it, and may be next.

        Raises `StoreUnavailable`.
        """
        if self._away is not None:
            await self.look()  # to try is not for the one that waits for replicas: all others are refused meanwhile
        if not (replicas := self._replicas):
            return await self.script(operation, script, *arguments), True
        return await self._run(operation, lambda: self._evaluate_copied(script, arguments, replicas))

    async def keys(self, operation: str, prefix: str) -> set[bytes]:
        """Return the keys that begin so; one that comes or goes meanwhile may be missed."""
        found: set[bytes] = set()
        cursor = b"0"
        while True:
            cursor, keys = await self.command(operation, "SCAN", cursor, "MATCH", f"{prefix}*", "COUNT", _SCAN_COUNT)
            found.update(keys)
            if int(cursor) == 0:
                return found

    def subscriber(self) -> PubSub:
        """Return a new subscription to channels, on a connection of its own."""
        return self._client.pubsub(ignore_subscribe_messages=True)

    async def close(self) -> None:
        """Wait for the commands under way, each of which has its time limit, and close the connections."""
        if self._closed:
            return
        self._closed = True
        if self._running:
            await asyncio.wait(self._running)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timeout_seconds):
                await self._line.settled()
        await self._line.close()
        await self._client.aclose()
        if self._on_close is not None:
            await self._on_close()

    async def _run(self, operation: str, command: Callable[[], Awaitable[T]]) -> T:
        """Run the command in a task that this link owns, and wait for it as long as the caller wants to."""
        return await asyncio.shield(self._begun(operation, command))

    def _begun(self, operation: str, command: Callable[[], Awaitable[T]]) -> asyncio.Task[T]:
        if self._closed:
            raise StoreUnavailable(operation, "it is closed")
        task = asyncio.create_task(self._bounded(operation, command), name=f"store-{operation}")
        self._own(task)
        return task

    def _own(self, task: asyncio.Task[Any]) -> None:
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # a caller that went away does not read it

    async def _bounded(self, operation: str, command: Callable[[], Awaitable[T]]) -> T:
        if self._away is not None and self._trying:
            self._on_error(operation)
            raise StoreUnavailable(operation, self._away)
        tries, began = self._away is not None, time.monotonic()
        self._trying = self._trying or tries
        try:
            async with asyncio.timeout(self._timeout_seconds):
                reply = await command()
        except (RedisError, OSError) as error:  # TimeoutError is an OSError
            if is_wrong_type(error):
                raise StoreUnavailable(operation, "a key holds another type than ours", wrong_type=True) from None
            self._on_error(operation)
            why = why_of(error, self._timeout_seconds)
            refused = isinstance(error, ResponseError) and not is_read_only(error)
            if self._answered_at < began and not refused:
                self._away = why
            if isinstance(error, TimeoutError):
                self._line.drop_if_silent(self._timeout_seconds)
            if is_read_only(error):
                # A demoted master keeps its connections open: the next command must look for the new one.
                await self._client.connection_pool.disconnect(inuse_connections=False)
            raise StoreUnavailable(operation, why) from None
        else:
            self._away, self._answered_at = None, time.monotonic()
            return reply
        finally:
            if tries:
                self._trying = False

    async def _evaluate_copied(
        self, script: Script, arguments: tuple[bytes | str | float, ...], replicas: int
    ) -> tuple[Any, bool]:
        async with self._slots:
            try:
                reply, copies = await self._ask_both(replicas, "EVALSHA", script.sha1, 0, *arguments)
            except NoScriptError:
                reply, copies = await self._ask_both(replicas, "EVAL", script.text, 0, *arguments)
            return reply, isinstance(copies, int) and copies >= replicas

    def _follow_master(self) -> None:
        """Ask the sentinels, beside all else: that they are away does not say that Redis is."""
        pool = self._client.connection_pool
        if isinstance(pool, SentinelConnectionPool) and not self._asking:
            self._asking = True
            self._own(asyncio.create_task(self._lead_to_master(pool), name="store master"))

    async def _lead_to_master(self, pool: SentinelConnectionPool) -> None:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                self._line.lead_to(await pool.get_master_address())  # type: ignore[no-untyped-call]
        except (RedisError, OSError):
            return  # asked again at the next look
        finally:
            self._asking = False

    async def _ask_role(self) -> None:
        try:
            kind, *more = await self._send("ROLE")
        except ResponseError:  # not allowed to this user: then as if there were none
            await self._send("PING")
            self._replicas = 0
        else:
            self._count(len(more[1]) if kind == b"master" else 0)

    def _count(self, replicas: int) -> None:
        """In an ordered failover the next master leaves first, and what the old one is told then gets lost."""
        now = time.monotonic()
        if replicas >= self._replicas or now - self._replicas_seen_at >= _GONE_SECONDS:
            self._replicas, self._replicas_seen_at = replicas, now

    async def _send(self, *command: bytes | str | float) -> Any:
        async with self._slots:
            return await _again_if_closed(lambda: self._client.execute_command(*command))  # type: ignore[no-untyped-call]

    async def _ask_both(self, replicas: int, *command: bytes | str | float) -> tuple[Any, Any]:
        """
        Send a command and WAIT together, and return both replies; the error of the first one at once.

        WAIT is about what its own connection has written.
        """
        pool = self._client.connection_pool

        async def ask() -> tuple[Any, Any]:
            connection: AbstractConnection = await pool.get_connection()  # type: ignore[no-untyped-call]
            try:
                both = packed(*command) + packed("WAIT", replicas, _COPY_MS)
                await connection.send_packed_command([both], check_health=False)
                return await _reply(connection), await _reply(connection)
            except BaseException:
                await connection.disconnect(nowait=True)  # a reply may still be on its way
                raise
            finally:
                await pool.release(connection)

        return await _again_if_closed(ask)


async def _reply(connection: AbstractConnection) -> Any:
    return await connection.read_response(timeout=math.inf)


async def _again_if_closed(send: Callable[[], Awaitable[T]]) -> T:
    try:
        return await send()
    except RuntimeError:
        # What uvloop says to a write on a closed connection. Nothing went out, and the client has dropped it.
        try:
            return await send()
        except RuntimeError as error:
            raise RedisConnectionError("closed") from error
