"""Reads one reply out of the bytes of a connection, whatever pieces they come in."""

from __future__ import annotations

from typing import Final

import httptools

from qc_adapter.gateway.wire import RawReply, ReplyHeaders

#: A head may take so many bytes, those of interim replies before it included.
MOST_HEAD_BYTES: Final = 1 << 16
#: A chunk of one byte is framed by five more: so what frames a body may be longer than it, and not without end.
_MOST_FRAMING: Final = 8
_SWITCHED: Final = 101
#: The only lines that somebody looks at, the last two `check --connect`; the others are dropped as they come.
_LOOKED_AT: Final = frozenset({b"set-guid", b"set-cookie", b"content-type", b"location", b"date"})


class NotHttp(Exception):
    """What came is no reply as HTTP/1.1 has them, or what is not its body has no end."""


class ReplyReader:
    """
    Reads one reply, and then no more.

    It is made when the first byte comes: a poll that is held has none. After `close` it is of no use; without it, it
    and its parser would hold each other until the garbage collector comes.
    """

    __slots__ = (
        "_chunks",
        "_framed",
        "_interim",
        "_lines",
        "_most",
        "_parser",
        "_raw",
        "_size",
        "_status",
        "keep",
        "whole",
    )

    def __init__(self, most_body_bytes: int) -> None:
        self._most = most_body_bytes
        self._parser = httptools.HttpResponseParser(self)
        # Gateways in the field write odd values, and end lines with a lone LF; neither leads out of the reply.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self._lines: list[tuple[bytes, bytes]] = []
        self._chunks: list[bytes] = []
        #: Bytes read, and those among them that are of the body.
        self._raw = self._size = 0
        #: Of the head that counts, 0 until it is all there.
        self._status = 0
        #: Whether the head says where the body ends.
        self._framed = self._interim = False
        #: Whether all is there that will be read of the reply, and whether another one may follow on the connection.
        self.whole = self.keep = False

    def feed(self, data: bytes) -> bool:
        """
        Read on; returns whether the reply is whole, which it also is once its body is longer than it may be.

        Raises `NotHttp`.
        """
        self._raw += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            if not self.whole:
                raise NotHttp from None
            self.keep = False  # something follows the reply that nobody asked for
        if not self.whole and self._size > self._most:
            self.whole = True
        if not self.whole and self._raw > MOST_HEAD_BYTES + (1 + _MOST_FRAMING) * self._size:
            raise NotHttp
        return self.whole

    def end(self) -> bool:
        """Note that the connection has ended properly; returns whether the reply is whole by that."""
        self.whole = self.whole or (bool(self._status) and not self._framed)
        self.keep = False
        return self.whole

    @property
    def headers(self) -> ReplyHeaders | None:
        """The lines of the head, once it is all there."""
        return ReplyHeaders(tuple(self._lines)) if self._status else None

    def reply(self) -> RawReply:
        """Return the reply that is whole."""
        chunks = self._chunks
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        return RawReply(self._status, ReplyHeaders(tuple(self._lines)), body)

    def close(self) -> None:
        """Let go of the parser."""
        del self._parser

    # What the parser calls. What these raise ends its work.

    def on_message_begin(self) -> None:
        """Refuse what follows the reply."""
        if self.whole:
            raise NotHttp

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep what somebody looks at; what comes after the body is none of it."""
        if self._status:
            return
        name = name.lower()
        if name in _LOOKED_AT:
            self._lines.append((name, value))
        elif name == b"content-length" or (name == b"transfer-encoding" and b"chunked" in value.lower()):
            self._framed = True

    def on_headers_complete(self) -> None:
        """Tell an interim reply from the one that counts."""
        status = self._parser.get_status_code()
        if status >= 200:
            self._status = status
        elif 100 <= status != _SWITCHED:
            self._interim, self._framed = True, False
            self._lines.clear()
        else:
            raise NotHttp

    def on_body(self, data: bytes) -> None:
        """Keep a piece."""
        self._chunks.append(data)
        self._size += len(data)

    def on_message_complete(self) -> None:
        """Note the end."""
        if self._interim:
            self._interim = False
        else:
            self.whole, self.keep = True, self._parser.should_keep_alive()
