"""One connection of the load generator, and calls that follow each other on it without a pause."""

from __future__ import annotations

import asyncio
import itertools
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from bench.speed import frames
from bench.speed.frames import Calls, Messages, Status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.speed.kinds import Kind

_START_SECONDS: Final = 10.0


class CallFailedError(Exception):
    """A call did not end as it had to: the measurement is worth nothing."""


@dataclass(slots=True)
class Work:
    """Calls that are left to make, and what came of those that were made."""

    left: Iterator[int]
    kind: Kind
    slots: int
    done: asyncio.Future[None]
    seconds: list[float] = field(default_factory=list)
    answer_bytes: int = 0
    #: Payloads of all answers, when they are wanted.
    kept: list[bytes] | None = None


@dataclass(slots=True)
class Slot:
    """Calls that follow each other, for one inspector or for some that take turns."""

    requests: Iterator[bytes]
    work: Work
    began: float = 0.0
    answer: Messages = field(default_factory=Messages)


class Connection(asyncio.Protocol):
    """Speaks the part of HTTP/2 that calls of one method need."""

    def __init__(self, authority: str, path: str) -> None:
        self._calls = Calls(authority, path)
        self._status = Status()
        self._transport: Any = None
        self._unread = b""
        self._out: list[bytes] = []
        self._next_stream = 1
        self._window = frames.FIRST_WINDOW
        self._slots: dict[int, Slot] = {}
        self._agreed = asyncio.get_running_loop().create_future()
        self._failed: Exception | None = None
        self._last_good = b""

    @classmethod
    async def open(cls, host: str, port: int, path: str) -> Connection:
        """Connect, and wait until the server has agreed to our settings."""
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: cls(f"{host}:{port}", path), host, port)
        await connection.agreed()
        return connection

    async def agreed(self) -> None:
        """Wait for the server's word."""
        async with asyncio.timeout(_START_SECONDS):
            await self._agreed

    def close(self) -> None:
        """Close it."""
        self._transport.close()

    def start(self, slot: Slot) -> None:
        """Begin the calls of a slot."""
        self._call(slot)
        self._flush()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        self._transport = transport
        self._transport.write(frames.greeting())

    def connection_lost(self, cause: Exception | None) -> None:
        """End all calls."""
        self._fail(f"the connection was lost: {cause}")

    def data_received(self, data: bytes) -> None:
        """Read the heads of all whole frames."""
        if self._unread:
            data = self._unread + data
        at, end = 0, len(data)
        while end - at >= frames.HEAD_BYTES:
            begin = at + frames.HEAD_BYTES
            beyond = begin + int.from_bytes(data[at : at + 3], "big")
            if beyond > end:
                break
            stream = int.from_bytes(data[at + 5 : begin], "big")
            self._frame(data[at + 3], data[at + 4], stream, data[begin:beyond])
            at = beyond
        self._unread = data[at:]
        self._flush()

    def _frame(self, kind: int, flags: int, stream: int, content: bytes) -> None:
        if kind == frames.DATA:
            slot = self._slots.get(stream)
            if slot is None:  # all calls have failed
                return
            slot.answer.take(content)
            if slot.work.kept is not None:
                slot.work.kept.append(content)
        elif kind == frames.HEADERS:
            if flags & frames.END_STREAM and stream in self._slots:
                self._ended(self._slots.pop(stream), content)
        elif stream or kind == frames.GOAWAY:
            self._of_stream(kind, stream, content)
        elif kind == frames.SETTINGS:
            self._settings(flags)
        elif kind == frames.PING and not flags & frames.ACK:
            self._out.append(frames.frame(frames.PING, frames.ACK, 0, content))
        elif kind == frames.WINDOW_UPDATE:
            self._window += int.from_bytes(content, "big")

    def _settings(self, flags: int) -> None:
        if not flags & frames.ACK:
            self._out.append(frames.frame(frames.SETTINGS, frames.ACK, 0))
        elif not self._agreed.done():
            self._agreed.set_result(None)

    def _of_stream(self, kind: int, stream: int, content: bytes) -> None:
        if kind == frames.RST_STREAM and stream in self._slots:
            self._fail(f"a call was reset with code {int.from_bytes(content, 'big')}")
        elif kind == frames.GOAWAY and self._slots:
            self._fail(f"the server goes away: {content[8:]!r}")

    def _ended(self, slot: Slot, trailers: bytes) -> None:
        work, answer = slot.work, slot.answer
        if trailers != self._last_good:
            if not self._status.good(trailers):
                self._fail(f"a call ended with {self._status.headers(trailers)}", slot)
                return
            self._last_good = trailers
        if answer.count != work.kind.messages or answer.rest or work.kind.proof not in answer.last:
            self._fail(f"an answer had {answer.count} messages, the last one {answer.last!r}", slot)
            return
        work.seconds.append(time.perf_counter() - slot.began)
        work.answer_bytes += answer.bytes
        self._call(slot)

    def _call(self, slot: Slot) -> None:
        work = slot.work
        if next(work.left, None) is None:
            work.slots -= 1
            if not work.slots and not work.done.done():
                work.done.set_result(None)
            return
        request = next(slot.requests)
        self._window -= len(request) - frames.HEAD_BYTES
        if self._window < 0:
            self._fail("the server takes no more", slot)
            return
        slot.answer = Messages()
        slot.began = time.perf_counter()
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        self._slots[stream] = slot
        self._out.append(self._calls.call(stream, request))

    def _flush(self) -> None:
        if self._out:
            self._transport.write(b"".join(self._out))
            self._out.clear()

    def _fail(self, why: str, *slots: Slot) -> None:
        """End all calls that are under way, and those of the slots that have none now."""
        failed = [*slots, *self._slots.values()]
        self._slots = {}
        if not self._agreed.done():
            self._agreed.set_exception(CallFailedError(why))
        for slot in failed:
            if not slot.work.done.done():
                slot.work.done.set_exception(CallFailedError(why))


async def make_calls(
    connections: list[Connection], kind: Kind, agents: list[str], at_once: int, calls: int, *, keep: bool = False
) -> Work:
    """
    Make that many calls, so many at once; with more inspectors than that they take turns.

    Raises CallFailedError if one does not succeed.
    """
    work = Work(iter(range(calls)), kind, at_once, asyncio.get_running_loop().create_future())
    work.kept = [] if keep else None
    for number in range(at_once):
        requests = itertools.cycle([frames.payload(kind.request(agent)) for agent in agents[number::at_once]])
        connections[number % len(connections)].start(Slot(requests, work))
    await work.done
    return work
