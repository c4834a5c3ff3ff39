"""A gateway of scripted bytes on a real socket: it can misbehave in every way that a network allows."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections import deque
from dataclasses import dataclass, field

OK = b'{"message":"","retcode":"0"}'


@dataclass(frozen=True)
class Heard:
    """A request as its bytes came in."""

    verb: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name):
        """The only value of a header, in the letter case of the wire; None when it is missing."""
        values = [value for line, value in self.headers if line == name]
        assert len(values) < 2
        return values[0] if values else None


def reply(body=OK, *, status="200 OK", headers=(), length=None, kind="application/json; charset=UTF-8"):
    """The bytes of a reply; `length` claims another body length than the true one."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}"]
    if kind:
        lines.append(f"Content-Type: {kind}")
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def refusal(code, message=""):
    """A refusal as the gateway writes it."""
    return reply(f'{{"message":"{message}","result":"","retcode":"{code}"}}'.encode())


@dataclass
class ScriptedGateway:
    """Answers requests in the order of its script, and with a plain "0" after its end."""

    # Steps of a script besides bytes and events to wait for; a tuple of steps treats one request.
    RESET = "reset"
    CLOSE = "close"
    STALL = "stall"
    reply = staticmethod(reply)
    refusal = staticmethod(refusal)

    tls: ssl.SSLContext | None = None
    script: deque = field(default_factory=deque)
    heard: list[Heard] = field(default_factory=list)
    connections: int = 0
    open_connections: int = 0
    reset_new_connections: bool = False

    async def start(self):
        """Listen on a free port."""
        self._news = asyncio.Condition()
        self._tasks = set()
        self._release = asyncio.Event()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self):
        """Close everything."""
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def url(self):
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    async def until(self, condition):
        """Wait until something about this gateway is true."""
        async with self._news:
            await self._news.wait_for(lambda: condition(self))

    def resume(self):
        """Let stalled requests go on; they end without another byte."""
        self._release.set()

    async def _tell(self):
        async with self._news:
            self._news.notify_all()

    async def _serve(self, reader, writer):
        task = asyncio.current_task()
        self._tasks.add(task)
        self.connections += 1
        self.open_connections += 1
        try:
            if self.reset_new_connections:
                _reset(writer)
                return
            while (heard := await _read_request(reader)) is not None:
                self.heard.append(heard)
                await self._tell()
                if not await self._answer(await self._next(heard), reader, writer):
                    return
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        except asyncio.CancelledError:
            # After `stop` it ends as if by itself: asyncio's own callback cannot bear a cancelled task before 3.12.
            if self._server.is_serving():
                raise
        finally:
            self.open_connections -= 1
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()
            await self._tell()

    async def _next(self, _heard):
        """Return what the request is answered with."""
        return self.script.popleft() if self.script else reply()

    async def _answer(self, answer, reader, writer):
        for step in answer if isinstance(answer, tuple) else (answer,):
            if isinstance(step, bytes):
                writer.write(step)
                await writer.drain()
            elif isinstance(step, asyncio.Event):
                await step.wait()
            elif step is self.RESET:
                _reset(writer)
                return False
            elif step is self.CLOSE:
                return False
            elif step is self.STALL:
                gone = asyncio.ensure_future(reader.read(1))
                released = asyncio.ensure_future(self._release.wait())
                await asyncio.wait({gone, released}, return_when=asyncio.FIRST_COMPLETED)
                for waiting in (gone, released):
                    waiting.cancel()
                await asyncio.gather(gone, released, return_exceptions=True)
                return False
        return True


def _reset(writer):
    """Close with a reset instead of a goodbye."""
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _read_request(reader):
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = await reader.readline()
        if not line:
            return None
        head += line
    first, *lines = head.decode("latin-1").split("\r\n")
    verb, target, _ = first.split(" ")
    headers = [tuple(line.split(": ", 1)) for line in lines if line]
    length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
    return Heard(verb, target, headers, await reader.readexactly(length))
