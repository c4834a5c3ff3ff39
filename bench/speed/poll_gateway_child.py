"""
A gateway for very many polls, as a process: holds them, gives them events with the time in them, goes away on demand.

It listens on the address named first, holds polls for the seconds named second, reads only the first line of a
request, and accepts every command. One timer ends all holds that are over, so that a held poll costs it no timer of its
own.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter, deque
from typing import Final, cast

import uvloop

from bench.answers import answer

#: Polls whose hold ends within it are answered together; a real gateway answers each by itself.
_TICK_SECONDS: Final = 0.002
_EMPTY: Final = b'{"message":"","retcode":"0"}'
_HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json;charset=UTF-8\r\nContent-Length: %d\r\n\r\n"
_NOTHING: Final = _HEAD % len(_EMPTY) + _EMPTY


class Gateway:
    """The polls that are held, and what was counted."""

    def __init__(self, address: str, hold_seconds: float) -> None:
        self._address = address
        self._hold_seconds = hold_seconds
        self._port = 0
        self._server: asyncio.Server | None = None
        #: Who is held, by inspector, and who is to be let go next; entries of polls that had an event are left behind.
        self._held: dict[bytes, tuple[Connection, float]] = {}
        self._order: deque[tuple[bytes, float]] = deque()
        #: How many events wait for the next poll of an inspector.
        self._waiting: Counter[bytes] = Counter()
        self._connections: set[Connection] = set()
        self._opened: list[float] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._telling: list[asyncio.Task[None]] = []
        self.polls = 0
        self.commands = 0
        self.events = 0

    async def open(self) -> None:
        """Listen, on the same port as before if there was one."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self), self._address, self._port, backlog=8192)
        self._port = self._server.sockets[0].getsockname()[1]

    def start(self) -> None:
        """Begin to let polls go when their hold is over."""
        self._tasks.append(asyncio.create_task(self._let_go()))

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{self._address}:{self._port}"

    def counts(self) -> dict[str, int]:
        """What was counted so far, and how many polls are held now."""
        return {
            "polls": self.polls,
            "commands": self.commands,
            "events": self.events,
            "held": len(self._held),
            "connections": len(self._connections),
        }

    def opened(self) -> list[float]:
        """When connections were opened since this was asked last, on the monotonic clock."""
        opened, self._opened = self._opened, []
        return opened

    def came(self, connection: Connection) -> None:
        """Note a connection."""
        self._connections.add(connection)
        self._opened.append(time.monotonic())

    def went(self, connection: Connection) -> None:
        """Forget a connection, and a poll that it held."""
        self._connections.discard(connection)
        if connection.holds and self._held.get(connection.holds, (None,))[0] is connection:
            del self._held[connection.holds]

    def poll(self, number: bytes, connection: Connection) -> None:
        """Answer with an event that waits, or hold."""
        self.polls += 1
        if self._waiting.get(number, 0):
            self._waiting[number] -= 1
            connection.write(_event(number))
            return
        until = time.monotonic() + self._hold_seconds
        connection.holds = number
        self._held[number] = (connection, until)
        self._order.append((number, until))

    async def _let_go(self) -> None:
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            now = time.monotonic()
            while self._order and self._order[0][1] <= now:
                number, until = self._order.popleft()
                held = self._held.get(number)
                if held is not None and held[1] == until:
                    del self._held[number]
                    held[0].write(_NOTHING)

    def tell(self, first: str, count: str, seconds: str) -> bool:
        """Begin to give so many inspectors from that number on an event every second, spread over the second."""
        self._telling.append(asyncio.create_task(self._tell(int(first), int(count), float(seconds))))
        return True

    async def _tell(self, first: int, count: int, seconds: float) -> None:
        began = time.monotonic()
        for turn in range(round(seconds * count)):
            await asyncio.sleep(began + turn / count - time.monotonic())
            number = b"%d" % (first + turn % count)
            self.events += 1
            held = self._held.pop(number, None)
            if held is None:
                self._waiting[number] += 1
            else:
                held[0].write(_event(number))

    def quiet(self) -> bool:
        """Tell no more events."""
        while self._telling:
            self._telling.pop().cancel()
        return True

    def go_away(self, seconds: str) -> bool:
        """Cut all connections and refuse new ones for so long."""
        self._tasks.append(asyncio.create_task(self._away(float(seconds))))
        return True

    async def _away(self, seconds: float) -> None:
        assert self._server is not None
        self._server.close()
        for connection in tuple(self._connections):
            connection.cut()
        await asyncio.sleep(seconds)
        await self.open()

    async def close(self) -> None:
        """End everything."""
        self.quiet()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            self._server.close()


def _event(number: bytes) -> bytes:
    """Return a reply with one event, whose call id is the time at which it is written."""
    body = (
        b'{"message":"","retcode":"0","event":{"eventType":"AgentEvent_Ringing","workNo":"%b","content":'
        b'{"callid":"%b","caller":"13800000000","called":"70092","callFeature":0}}}'
        % (number, b"%d" % time.monotonic_ns())
    )
    return _HEAD % len(body) + body


class Connection(asyncio.Protocol):
    """One connection; requests come one after the other, and each fits into one read."""

    __slots__ = ("_gateway", "_transport", "holds")

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._transport: asyncio.Transport | None = None
        self.holds = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by type
        self._gateway.came(self)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Let go of what was held."""
        self._gateway.went(self)

    def data_received(self, data: bytes) -> None:
        """Take a whole request."""
        line = data[: data.index(b" HTTP/")]
        if line.startswith(b"GET "):
            self._gateway.poll(line[line.rindex(b"/") + 1 :], self)
        else:
            self._gateway.commands += 1
            self.write(_NOTHING)

    def write(self, reply: bytes) -> None:
        """Send a reply."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(reply)

    def cut(self) -> None:
        """Break off at once."""
        if self._transport is not None:
            self._transport.abort()


async def run() -> None:
    """Serve until the parent closes the pipe."""
    gateway = Gateway(sys.argv[1], float(sys.argv[2]))
    await gateway.open()
    gateway.start()
    try:
        await answer(
            {
                "url": lambda: gateway.url,
                "counts": gateway.counts,
                "opened": gateway.opened,
                "tell": gateway.tell,
                "quiet": gateway.quiet,
                "go_away": gateway.go_away,
            }
        )
    finally:
        await gateway.close()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
