"""A TCP proxy before a server: it refuses, cuts, stalls and delays, and remembers what secrets crossed it."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct

_RESET = struct.pack("ii", 1, 0)


class Wire:
    """One proxy; every connection that it accepts goes to the same port."""

    _SECRETS = (
        re.compile(rb"(?i)\r\n(?:set-)?guid:\s*(?:JSESSIONID=)?([^\s;]+)"),
        re.compile(rb"(?i)\r\n(?:set-)?cookie:\s*[^=\r\n]+=([^\s;]+)"),
        re.compile(rb"[0-9a-f]{48}\.AgentGateway\d"),
    )

    def __init__(self):
        self._target = self._port = 0
        self._server = None
        self._tasks = set()
        self._writers = set()
        self._seen = []
        self._flows = asyncio.Event()
        self._flows.set()
        self._replies_only = False
        #: How long every piece of data is under way, in each direction.
        self.delay_seconds = 0.0

    @property
    def port(self):
        """Where it listens."""
        return self._port

    @property
    def url(self):
        """Where it listens, for HTTP."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def connections(self):
        """How many are open."""
        return len(self._tasks)

    @property
    def secrets(self):
        """Every GUID and cookie that crossed the wire, in either direction."""
        return {found.decode() for bytes_ in self._seen for one in self._SECRETS for found in one.findall(bytes_)}

    async def start(self, target):
        """Listen for connections to that port."""
        self._target = target
        await self.accept()

    async def accept(self):
        """Listen, on the same port as before if there was one."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def refuse(self):
        """Cut every connection and refuse new ones."""
        self._server.close()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def cut(self):
        """Cut every connection with a reset; new ones are welcome."""
        for writer in self._writers:
            _reset(writer)

    def stall(self, *, replies_only=False):
        """Keep all connections, also new ones, but let nothing through, or nothing that comes back."""
        self._replies_only = replies_only
        self._flows.clear()

    def flow(self):
        """Let through what `stall` kept back, and all that comes."""
        self._flows.set()

    async def _serve(self, reader, writer):
        task = asyncio.current_task()
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            with contextlib.suppress(ConnectionError):
                there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._target)
                self._writers.add(there_writer)
                await asyncio.gather(
                    self._pump(reader, there_writer, reply=False), self._pump(there_reader, writer, reply=True)
                )
                self._writers.discard(there_writer)
        finally:
            writer.close()
            self._writers.discard(writer)
            self._tasks.discard(task)

    async def _pump(self, reader, writer, *, reply):
        seen = bytearray()
        self._seen.append(seen)
        try:
            while data := await reader.read(1 << 16):
                seen += data
                await self._under_way(writer, reply=reply)
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            _reset(writer)
        finally:
            writer.close()

    async def _under_way(self, writer, *, reply):
        if self.delay_seconds:
            await asyncio.sleep(self.delay_seconds)
        while not self._flows.is_set() and (reply or not self._replies_only) and not writer.transport.is_closing():
            # Looks up now and then: a connection may be cut while it is stalled.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    await self._flows.wait()


def _reset(writer):
    """Close with a reset instead of a goodbye."""
    raw = writer.get_extra_info("socket")
    if not writer.transport.is_closing():
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
