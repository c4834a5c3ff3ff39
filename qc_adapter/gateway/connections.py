"""The connections to one gateway that are kept for each inspector, and the gate in front of them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from itertools import islice
from typing import TYPE_CHECKING, Final

from qc_adapter.gateway.connection import Connection
from qc_adapter.gateway.deadlines import Deadlines
from qc_adapter.gateway.wire import NotSent, NotSentWhy

if TYPE_CHECKING:
    from collections.abc import Callable

    from qc_adapter.gateway.connector import Connector
    from qc_adapter.gateway.settings import GatewaySettings
    from qc_adapter.gateway.trust import Trust
    from qc_adapter.gateway.wire import RawReply

#: So many times within the time for keeping idle connections those are looked for whose time is over.
_SWEEPS: Final = 4
#: So many are closed in one turn of the event loop: each takes up to 0.1 ms, and everything else waits for that.
_MOST_CLOSED: Final = 16
#: Connections that are cut are gone at once; longer nobody waits for that.
_CLOSING_SECONDS: Final = 2.0


class Connections:
    """
    Connections of one kind with a gate in front; a request that waits at the gate has not been sent.

    A connection carries only requests of one inspector, so that no mishap on it brings an inspector the reply, and the
    GUID, of another. Build it within a running event loop.
    """

    def __init__(self, connector: Connector, trust: Trust, settings: GatewaySettings, slots: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._connector = connector
        self._trust = trust
        self._keep_seconds = settings.keepalive_seconds
        self._most_body = settings.max_reply_bytes
        self._gate = asyncio.Semaphore(slots)
        self._deadlines = Deadlines(self._loop)
        self._idle: dict[str, list[Connection]] = {}
        #: The same ones, the longest idle first.
        self._resting: OrderedDict[Connection, None] = OrderedDict()
        self._all: set[Connection] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False
        self._all_gone: asyncio.Future[None] | None = None

    async def exchange(self, inspector: str, request: bytes, seconds: float, on_send: Callable[[], None]) -> RawReply:
        """
        Send one request once and read its whole reply, within `seconds` all in all.

        Raises `NotSent` or `ReplyLost`.
        """
        until = self._loop.time() + seconds
        if self._gate.locked():
            await self._wait_at_gate(seconds)
        else:
            await self._gate.acquire()  # which does not wait
        try:
            if self._closed:
                raise _shutting_down()
            connection = self._kept(inspector) or await self._new(inspector, until - self._loop.time())
            if self._loop.time() >= until:
                self._keep(connection)
                raise NotSent("no time was left to send it", NotSentWhy.NO_SLOT)
            moment = self._deadlines.begin(connection, until, seconds)
            try:
                reply = await connection.begin(request, on_send)
            except BaseException:
                connection.abort()
                raise
            finally:
                self._deadlines.done(connection, moment)
            self._keep(connection)
            return reply
        finally:
            self._gate.release()

    async def close(self) -> None:
        """End all connections; requests under way end as lost."""
        self._closed = True
        self._deadlines.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._idle.clear()
        self._resting.clear()
        for connection in list(self._all):
            connection.abort()
        if self._all:
            self._all_gone = self._loop.create_future()
            await asyncio.wait([self._all_gone], timeout=_CLOSING_SECONDS)

    def made(self, connection: Connection) -> None:
        """Note one that stands."""
        self._all.add(connection)

    def lost(self, connection: Connection) -> None:
        """Forget one that is gone."""
        self._all.discard(connection)
        if connection in self._resting:
            self._take(connection)
        if self._all_gone is not None and not self._all and not self._all_gone.done():
            self._all_gone.set_result(None)

    async def _wait_at_gate(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._gate.acquire()
        except TimeoutError:
            raise NotSent("no slot for another request became free in time", NotSentWhy.NO_SLOT) from None

    def _kept(self, inspector: str) -> Connection | None:
        """Take an idle connection of the inspector that may still be used."""
        since = self._loop.time() - self._keep_seconds
        while (idle := self._idle.get(inspector)) is not None:
            connection = idle[-1]
            self._take(connection)
            fresh = connection.idle_since > since and connection.trust is self._trust.context
            if connection.usable and fresh and connection.quiet:
                return connection
            connection.close()
        return None

    def _take(self, connection: Connection) -> None:
        """Take one from those that are idle."""
        del self._resting[connection]
        idle = self._idle[connection.inspector]
        idle.remove(connection)
        if not idle:
            del self._idle[connection.inspector]

    async def _new(self, inspector: str, seconds: float) -> Connection:
        trust = self._trust.context
        connection = await self._connector.connect(
            lambda: Connection(self, inspector, trust, self._most_body), trust, seconds
        )
        if self._closed:
            connection.abort()
            raise _shutting_down()
        if not connection.usable:
            connection.abort()
            raise connection.unsent()
        return connection

    def _keep(self, connection: Connection) -> None:
        """Keep a connection for the inspector's next request, if it may be used for another one."""
        if not connection.usable:
            return
        if connection.trust is not self._trust.context or self._closed:
            connection.close()
            return
        connection.idle_since = self._loop.time()
        self._idle.setdefault(connection.inspector, []).append(connection)
        self._resting[connection] = None
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(self._keep_seconds, self._sweep)

    def _sweep(self) -> None:
        """Close what was idle too long. One timer for all of them: who takes one looks at its time again."""
        since = self._loop.time() - self._keep_seconds
        over = [one for one in islice(self._resting, _MOST_CLOSED) if one.idle_since <= since]
        for connection in over:
            self._take(connection)
            connection.close()
        pause = 0.0 if len(over) == _MOST_CLOSED else self._keep_seconds / _SWEEPS
        self._sweeper = self._loop.call_later(pause, self._sweep) if self._resting else None


def _shutting_down() -> NotSent:
    return NotSent("this adapter is shutting down", NotSentWhy.CONNECT)
