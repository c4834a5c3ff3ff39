"""HTTP/2 as no client speaks it: single frames on a plain socket, and a count of what comes back."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, Self

from hpack import Encoder

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS = 0x1, 0x1, 0x4
INITIAL_WINDOW_SIZE: Final = 4
#: Names of the codes that a server gives as its reason.
CODES: Final = (
    "NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
    "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM",
)  # fmt: skip
_HEAD: Final = 9
_LARGEST: Final = 16_384
_END_SECONDS: Final = 2.0

Header = tuple[str, str | bytes]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"", *, says: int | None = None) -> bytes:
    """Return a frame; `says` is the length in its head when that is to be a lie."""
    length = len(payload) if says is None else says
    return struct.pack(">I", length)[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def message(body: bytes, *, says: int | None = None, packed: bool = False) -> bytes:
    """Return a message as gRPC frames it; `says` is the length in front of it when that is to be a lie."""
    return struct.pack(">BI", packed, len(body) if says is None else says) + body


def head_of(path: str, more: Iterable[Header] = ()) -> list[Header]:
    """Return the header list of a gRPC call."""
    return [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        *more,
    ]


class Wire:
    """One connection. Frames that come are counted and forgotten; nothing is answered but what is said to be."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool) -> None:
        self._reader = reader
        self._writer = writer
        self._answers = answers
        self._encoder = Encoder()
        self._next = 1
        #: Frames by type, RST_STREAM and GOAWAY by their reason too.
        self.seen: Counter[str] = Counter()
        self.closed = asyncio.Event()
        self._reading = asyncio.create_task(self._read(), name="abuse-read")

    @classmethod
    async def open(
        cls,
        host: str,
        port: int,
        *,
        settings: Sequence[tuple[int, int]] = (),
        answers: bool = True,
        greets: bool = True,
    ) -> Self:
        """Connect; `answers` acknowledges settings and pings, as every client has to."""
        reader, writer = await asyncio.open_connection(host, port)
        wire = cls(reader, writer, answers=answers)
        if greets:
            pairs = b"".join(struct.pack(">HI", name, value) for name, value in settings)
            await wire.send(PREFACE + frame(SETTINGS, 0, 0, pairs))
        return wire

    async def send(self, data: bytes) -> bool:
        """Write bytes as they are; say whether the connection still stands."""
        if self.closed.is_set():
            return False
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError:
            self.closed.set()
        return not self.closed.is_set()

    async def send_some(self, data: bytes, seconds: float) -> None:
        """Write as much as the server takes in that time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.send(data)

    def deafen(self) -> None:
        """Read nothing any more."""
        self._reading.cancel()
        self._writer.transport.pause_reading()  # type: ignore[attr-defined]

    def begin(self, headers: Iterable[Header], *, flags: int = END_HEADERS) -> tuple[int, bytes]:
        """Return the id of a new stream and its head, in as many frames as it takes."""
        stream, self._next = self._next, self._next + 2
        block = self._encoder.encode(list(headers), huffman=False)  # the other way takes an age for long values
        parts = [block[start : start + _LARGEST] for start in range(0, len(block), _LARGEST)] or [b""]
        frames = [
            frame(
                CONTINUATION if place else HEADERS,
                flags if place == len(parts) - 1 else flags & ~END_HEADERS,
                stream,
                part,
            )
            for place, part in enumerate(parts)
        ]
        return stream, b"".join(frames)

    def call(self, path: str, body: bytes = b"", more: Iterable[Header] = ()) -> bytes:
        """Return the frames of a whole request."""
        stream, head = self.begin(head_of(path, more))
        return head + frame(DATA, END_STREAM, stream, message(body))

    async def rest(self, seconds: float) -> None:
        """Wait for the server to close, at most that long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.closed.wait()

    async def close(self) -> None:
        """Leave."""
        self._reading.cancel()
        # What is still to be written is not waited for: whoever attacks just goes.
        self._writer.transport.abort()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_END_SECONDS):
                await self._writer.wait_closed()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self) -> None:
        try:
            while True:
                head = await self._reader.readexactly(_HEAD)
                kind, flags = head[3], head[4]
                payload = await self._reader.readexactly(int.from_bytes(head[:3], "big"))
                self._note(kind, flags, payload)
                if self._answers and kind in (SETTINGS, PING) and not flags & ACK:
                    self._writer.write(frame(kind, ACK, 0, payload if kind == PING else b""))
        except (OSError, asyncio.IncompleteReadError):
            self.closed.set()

    def _note(self, kind: int, flags: int, payload: bytes) -> None:
        if kind == GOAWAY:
            self.seen[f"GOAWAY {code_of(payload[4:8])}"] += 1
        elif kind == RST_STREAM:
            self.seen[f"RST_STREAM {code_of(payload)}"] += 1
        elif kind == HEADERS:
            self.seen["ended" if flags & END_STREAM else "answered"] += 1
        elif kind == PING and flags & ACK:
            self.seen["PING back"] += 1
        elif kind == SETTINGS and flags & ACK:
            self.seen["SETTINGS back"] += 1


def code_of(payload: bytes) -> str:
    """Return the name of a reason."""
    number = int.from_bytes(payload, "big")
    return CODES[number] if number < len(CODES) else str(number)


async def close_all(wires: Iterable[Any]) -> None:
    """Leave all of them."""
    await asyncio.gather(*(wire.close() for wire in wires), return_exceptions=True)
