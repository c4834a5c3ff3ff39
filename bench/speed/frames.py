"""
The few frames of HTTP/2 that a gRPC call takes, made once and sent many times; and those of the answer, hardly read.

A client library costs more than the server that it calls. Here a call is two frames of known bytes. Of an answer only
the frames' heads and the length of each message are looked at, and its last frame has to be one that was read with
care before: the server keeps no header table for us, so that the same status always has the same bytes.
"""

from __future__ import annotations

import struct
from typing import Final

from hpack import Decoder, Encoder

DATA: Final = 0
HEADERS: Final = 1
RST_STREAM: Final = 3
SETTINGS: Final = 4
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
ACK: Final = 1
END_STREAM: Final = 1
END_HEADERS: Final = 4
HEAD_BYTES: Final = 9
#: Before the server tells us another one.
FIRST_WINDOW: Final = 65_535
_LARGEST_WINDOW: Final = (1 << 31) - 1
_HEADER_TABLE_SIZE: Final = 1
_ENABLE_PUSH: Final = 2
_INITIAL_WINDOW_SIZE: Final = 4
#: What a client's library makes of a timeout of a minute.
_TIMEOUT: Final = "60S"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a whole frame."""
    return len(payload).to_bytes(3, "big") + struct.pack(">BBL", kind, flags, stream) + payload


def greeting() -> bytes:
    """Return what a client says first: no header table for the answers, and windows that never close."""
    wishes = ((_HEADER_TABLE_SIZE, 0), (_ENABLE_PUSH, 0), (_INITIAL_WINDOW_SIZE, _LARGEST_WINDOW))
    settings = b"".join(struct.pack(">HL", number, value) for number, value in wishes)
    more = (_LARGEST_WINDOW - FIRST_WINDOW).to_bytes(4, "big")
    return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, settings) + frame(WINDOW_UPDATE, 0, 0, more)


class Calls:
    """Calls to one method on one connection: the first fills the server's header table, the others refer to it."""

    def __init__(self, authority: str, path: str) -> None:
        encoder = Encoder()
        headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", authority),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", "grpc-bench"),
            ("grpc-timeout", _TIMEOUT),
        ]
        self._first: bytes | None = encoder.encode(headers)
        self._later = encoder.encode(headers)
        self._head = _head_of(self._later)

    def call(self, stream: int, message: bytes) -> bytes:
        """Return the frames of a call; `message` is one that `payload` made."""
        number = stream.to_bytes(4, "big")
        if self._first is not None:
            head, self._first = frame(HEADERS, END_HEADERS, stream, self._first), None
            return head + message[:5] + number + message[HEAD_BYTES:]
        return self._head + number + self._later + message[:5] + number + message[HEAD_BYTES:]


def _head_of(block: bytes) -> bytes:
    return len(block).to_bytes(3, "big") + bytes((HEADERS, END_HEADERS))


def payload(message: bytes) -> bytes:
    """Return a message as the DATA frame that ends a request, of stream 0 so far."""
    return frame(DATA, END_STREAM, 0, b"\0" + len(message).to_bytes(4, "big") + message)


class Status:
    """Knows by their bytes the trailers that mean success."""

    def __init__(self) -> None:
        self._good: set[bytes] = set()
        self._decoder = Decoder()

    def good(self, block: bytes) -> bool:
        """Whether these trailers say OK."""
        return block in self._good or self._read(block) == "0"

    def _read(self, block: bytes) -> str:
        found = self.headers(block)
        if found.get("grpc-status") == "0":
            self._good.add(block)
        return found.get("grpc-status", "none")

    def headers(self, block: bytes) -> dict[str, str]:
        """Return all headers of a block."""
        return {_text(name): _text(value) for name, value in self._decoder.decode(block, raw=True)}


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")


class Messages:
    """Counts the messages of one answer, whatever frames they are cut into."""

    __slots__ = ("bytes", "count", "last", "rest")

    def __init__(self) -> None:
        self.count = 0
        self.bytes = 0
        #: Of a message that is not whole yet.
        self.rest = b""
        #: The last payload, to see in it how the call ended.
        self.last = b""

    def take(self, data: bytes) -> None:
        """Take the payload of a DATA frame."""
        self.bytes += len(data)
        if self.rest:
            data = self.rest + data
        at, end = 0, len(data)
        while end - at >= 5:
            beyond = at + 5 + int.from_bytes(data[at + 1 : at + 5], "big")
            if beyond > end:
                break
            self.count += 1
            at = beyond
        self.rest = data[at:]
        self.last = data
