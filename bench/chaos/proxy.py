"""Between an adapter and what it needs: a TCP proxy that can stall, delay, cut and refuse."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import random

_LINGER_ZERO: Final = struct.pack("ii", 1, 0)
_CHUNK: Final = 1 << 16
_LISTEN_TRIES: Final = 50
_LISTEN_PAUSE_SECONDS: Final = 0.1


class Proxy:
    """Forwards every connection to one port; what it does to them can be changed at any moment."""

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.port = 0
        #: Added to each direction.
        self.delay_seconds = 0.0
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._stopped = False

    @property
    def connections(self) -> int:
        """How many connections it forwards now."""
        return len(self._links)

    async def start(self) -> None:
        """Listen; after `refuse` on the same port as before, after `stop` not any more."""
        for attempt in range(0 if self._stopped or self._server is not None else _LISTEN_TRIES):
            try:
                self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, limit=_CHUNK)
            except OSError:
                # An outgoing connection of this machine may hold the port for a moment.
                if attempt == _LISTEN_TRIES - 1:
                    raise
                await asyncio.sleep(_LISTEN_PAUSE_SECONDS)
            else:
                self.port = int(self._server.sockets[0].getsockname()[1])
                return

    async def stop(self) -> None:
        """Close everything for good and wait for it."""
        self._stopped = True
        self.refuse()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def stall(self) -> None:
        """Keep connections, accept new ones, forward nothing."""
        self._flowing.clear()

    def flow(self) -> None:
        """Go on after `stall`; nothing that came meanwhile is lost."""
        self._flowing.set()

    def cut(self, share: float = 1.0, chance: random.Random | None = None) -> int:
        """Reset connections, all of them or a share by chance; return how many."""
        chosen = [link for link in tuple(self._links) if chance is None or chance.random() < share]
        for link in chosen:
            link.cut()
        return len(chosen)

    def refuse(self) -> None:
        """Reset all connections and refuse new ones, until `start`."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._forward(reader, writer), name="proxy")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target_port, limit=_CHUNK)
        except OSError:
            _reset(writer)
            return
        link = _Link(self, (reader, writer), (far_reader, far_writer))
        self._links.add(link)
        try:
            if self._server is not None:
                await link.run()
        finally:
            self._links.discard(link)
            link.cut()

    async def pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one direction until its end."""
        loop = asyncio.get_running_loop()
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def write() -> None:
            while True:
                due, chunk = await waiting.get()
                if due > loop.time():
                    await asyncio.sleep(due - loop.time())
                await self._flowing.wait()
                if not chunk:
                    return
                writer.write(chunk)
                await writer.drain()

        writing = asyncio.create_task(write(), name="proxy-write")
        try:
            while chunk := await reader.read(_CHUNK):
                waiting.put_nowait((loop.time() + self.delay_seconds, chunk))
            waiting.put_nowait((loop.time() + self.delay_seconds, b""))
            await writing
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)


class _Link:
    """One connection on its way through."""

    def __init__(
        self,
        proxy: Proxy,
        near: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        far: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self._proxy = proxy
        self._near = near
        self._far = far

    async def run(self) -> None:
        """Forward until one side ends: none of our protocols goes on with half a connection."""
        pumps = [
            asyncio.create_task(self._pump(self._near[0], self._far[1]), name="proxy-up"),
            asyncio.create_task(self._pump(self._far[0], self._near[1]), name="proxy-down"),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._proxy.pass_on(reader, writer)
        except OSError:
            return

    def cut(self) -> None:
        """Reset both sides, the far one first: it must know before the near side tries again."""
        _reset(self._far[1])
        _reset(self._near[1])


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock is not None and not writer.transport.is_closing():
        # With no time to linger the kernel sends a reset, not a polite end.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
    writer.transport.abort()
