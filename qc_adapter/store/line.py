"""
One connection to Redis for the scripts of all callers: what they ask in one turn of the loop goes out in one write.

The client library connects, signs in, finds the master and reads replies; its way from a command to a reply, with a
pool, retries and a lock for each, costs several times what Redis does for one.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import hiredis
from redis.asyncio.sentinel import SentinelManagedConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError

from qc_adapter.store.failure import is_read_only

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection, ConnectionPool

    from qc_adapter.store.script import Script

Arguments = tuple[bytes | str | float, ...]
#: Of a caller's patience: its timer may be a little early.
_NEARLY: Final = 0.9
#: Sentinels that are in a hurry replace a server that was silent for so long; one that is well answers in milliseconds.
_LONG_SECONDS: Final = 0.8
_DOUBTFUL: Final = "it leads to a server that is no master any more, or may be none"
_STRAY: Final = "a reply came that nobody asked for"


class _Asked:
    """A script that is to be run, and who waits for its reply, if somebody still does."""

    __slots__ = ("_arguments", "_script", "again", "command", "reply", "until", "whole")

    def __init__(self, script: Script, arguments: Arguments, until: float) -> None:
        self._script = script
        self._arguments = arguments
        self.until = until
        self.reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        #: Whether it was lost with a connection before.
        self.again = False
        #: Whether Redis is told the text, because it does not know the name.
        self.whole = False
        self.command = packed("EVALSHA", script.sha1, 0, *arguments)

    def make_whole(self) -> None:
        """Tell the text."""
        self.whole = True
        self.command = packed("EVAL", self._script.text, 0, *self._arguments)

    def answer(self, reply: Any) -> None:
        """Give the reply to who asked; one that went away has cancelled it."""
        if self.reply.done():
            return
        if isinstance(reply, BaseException):
            self.reply.set_exception(reply)
        else:
            self.reply.set_result(reply)


class Line:
    """
    Replies come in the order of the commands, so each is given to the one who asked first among those that wait.

    A caller that goes away does not stop its script, and keeps its place: the reply is read and dropped, and never
    another one's. A connection that breaks is replaced, and what waited on it is run once more, within its time.

    So is one that was silent for long, whatever it says then: a master that was frozen wakes up, runs what it was told
    before, and still believes to be it. One that leads to a server that takes no writes is replaced as soon as nobody
    waits on it.
    """

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._asked: deque[_Asked] = deque()
        self._waiting: deque[_Asked] = deque()
        self._more = asyncio.Event()
        #: Whether there is a connection to write to. A cancelled write may go on: what bounds it in the client library
        #: swallows a cancellation that comes just when it is done (python/cpython#86296, mended in Python 3.12).
        self._open = False
        self._idle = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        #: When a reply came last, the first one began to wait for one, or another connection was needed.
        self._heard_at = 0.0
        self._doubts = 0
        #: Of the server that the connection leads to, and of the one that sentinels take for the master.
        self._address: tuple[str, int] | None = None
        self._master: tuple[str, int] | None = None

    @property
    def doubts(self) -> int:
        """
        Another number whenever the server was replaced, or may have been: it is silent for long, or was.

        Who connects while it is silent may be led to it still.
        """
        return self._doubts + self._silent_for(_LONG_SECONDS)

    def ask(self, script: Script, arguments: Arguments, seconds: float) -> asyncio.Future[Any]:
        """Run a script; it does not go out any more when the time is over. Opens the line if it is not."""
        now = time.monotonic()
        if not self._waiting and not self._asked:
            self._heard_at = now
        asked = _Asked(script, arguments, now + seconds)
        self._send(asked)
        return asked.reply

    def lead_to(self, address: tuple[str, int]) -> None:
        """Note where the master is; a server at another address is left as soon as nobody waits on it."""
        if self._master not in {None, address}:
            self._doubts += 1
        self._master = address
        if not self._open or self._address == address:
            return
        self._open = False
        self._more.set()
        if not self._waiting and self._task is not None:
            self._task.cancel()

    def drop_if_silent(self, seconds: float) -> None:
        """
        Give the connection up if nothing came for so long although somebody waits.

        One slow answer says nothing about the rest. Those who wait run out of patience one after the other: what is
        being given up, or made anew, is not cut off by the next of them.
        """
        task = self._task
        if task is not None and not task.cancelling() and self._silent_for(_NEARLY * seconds):
            task.cancel()

    async def settled(self) -> None:
        """Return when all that was asked is done, whoever still waits for it."""
        while self._waiting or self._asked:
            self._idle.clear()
            await self._idle.wait()

    async def close(self) -> None:
        """Close, whoever waits."""
        for asked in (*self._waiting, *self._asked):
            asked.until = 0.0
        if (task := self._task) is not None:
            if not task.cancelling():
                task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _silent_for(self, seconds: float) -> bool:
        return bool(self._waiting or self._asked) and time.monotonic() - self._heard_at >= seconds

    def _note_silence(self) -> bool:
        """Say whether a silence that ends now was long."""
        long = self._silent_for(_LONG_SECONDS)
        self._doubts += 2 * long
        self._heard_at = time.monotonic()
        return long

    def _send(self, asked: _Asked) -> None:
        self._asked.append(asked)
        self._more.set()
        if self._task is None:
            self._task = asyncio.create_task(self._work(), name="store line")
            self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Run what waited on a connection that broke on another one, or tell why it was not run."""
        self._task = None
        self._note_silence()
        failure: BaseException = RedisConnectionError("dropped")
        if not task.cancelled():
            failure = task.exception() or failure
        if isinstance(failure, RuntimeError):  # what uvloop says to a write on a closed connection
            failure = RedisConnectionError("closed")
        lost = [*self._waiting, *self._asked]
        self._waiting.clear()
        self._asked.clear()
        for asked in lost:
            if isinstance(failure, RedisConnectionError) and not asked.again and asked.until > time.monotonic():
                asked.again = True
                self._send(asked)
            else:
                asked.answer(failure)
        self._idle.set()

    async def _connected(self) -> AbstractConnection:
        """Connect, and look where the master is afterwards: one that was frozen answers when another has its place."""
        connection: AbstractConnection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        try:
            while isinstance(connection, SentinelManagedConnection) and not await self._leads_to_master(connection):
                await connection.disconnect(nowait=True)
                await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException:
            await self._give_back(connection)
            raise
        return connection

    async def _leads_to_master(self, connection: SentinelManagedConnection) -> bool:
        self._address = connection.host, connection.port
        return bool(self._address == await connection.connection_pool.get_master_address())

    async def _give_back(self, connection: AbstractConnection) -> None:
        """Never into the pool with a reply on its way."""
        with contextlib.suppress(RedisError, OSError, RuntimeError):
            await connection.disconnect(nowait=True)
        await self._pool.release(connection)

    async def _work(self) -> None:
        connection = await self._connected()
        self._open = True
        self._more.set()
        reading = asyncio.create_task(self._read(connection), name="store replies")
        writing = asyncio.create_task(self._write(connection), name="store commands")
        try:
            done, _ = await asyncio.wait({reading, writing}, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        finally:
            self._open = False
            self._more.set()
            for task in (reading, writing):
                task.cancel()
            await asyncio.gather(reading, writing, return_exceptions=True)
            await self._give_back(connection)

    async def _write(self, connection: AbstractConnection) -> None:
        while True:
            await self._more.wait()
            if not self._open:
                return
            self._more.clear()
            commands, now = [], time.monotonic()
            while self._asked:
                asked = self._asked.popleft()
                if asked.until > now:
                    commands.append(asked.command)
                    self._waiting.append(asked)
                else:
                    asked.answer(TimeoutError())
            if commands:
                await connection.send_packed_command([b"".join(commands)], check_health=False)

    async def _read(self, connection: AbstractConnection) -> None:
        while True:
            reply: Any
            try:
                reply = await connection.read_response(timeout=math.inf)
            except ResponseError as error:
                reply = error
            if not self._waiting:
                raise RedisConnectionError(_STRAY)
            doubtful = self._note_silence()
            if doubtful and not self._waiting[0].again:
                raise RedisConnectionError(_DOUBTFUL)
            asked = self._waiting.popleft()
            if isinstance(reply, NoScriptError) and not asked.whole:  # a Redis that was restarted or promoted
                asked.make_whole()
                self._send(asked)
            else:
                asked.answer(reply)
            if doubtful or (isinstance(reply, ResponseError) and is_read_only(reply)):
                # A demoted master keeps its connections open: what is asked from now on must look for the new one.
                self._open = False
            if self._waiting:
                continue
            if not self._open:
                raise RedisConnectionError(_DOUBTFUL)
            self._idle.set()


def packed(*command: bytes | str | float) -> bytes:
    """Return a command as it goes over the wire."""
    wire: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]
    return wire
