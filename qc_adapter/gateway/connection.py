"""One connection to a gateway: one request at a time, and what becomes of it."""

from __future__ import annotations

import asyncio
import select
from typing import TYPE_CHECKING, Protocol

from qc_adapter.gateway.reply_reader import NotHttp, ReplyReader
from qc_adapter.gateway.trust import refusal_of
from qc_adapter.gateway.wire import NotSent, NotSentWhy, RawReply, ReplyLost

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable


class Keeper(Protocol):
    """Who has the connections."""

    def made(self, connection: Connection) -> None:
        """Note one that stands."""

    def lost(self, connection: Connection) -> None:
        """Note one that is gone."""


class Connection(asyncio.Protocol):
    """
    Carries the requests of one inspector, one after the other.

    What comes while no request is under way was not asked for: it ends the connection, and is nobody's reply. A request
    that does not end with a whole reply ends the connection too.
    """

    __slots__ = (
        "_error",
        "_keeper",
        "_most_body",
        "_reader",
        "_transport",
        "_unasked",
        "_usable",
        "_waiter",
        "idle_since",
        "inspector",
        "trust",
    )
    _transport: asyncio.Transport

    def __init__(self, keeper: Keeper, inspector: str, trust: ssl.SSLContext | None, most_body_bytes: int) -> None:
        self._keeper = keeper
        self._most_body = most_body_bytes
        self._waiter: asyncio.Future[RawReply] | None = None
        self._reader: ReplyReader | None = None
        self._usable = self._unasked = False
        self._error: Exception | None = None
        self.inspector = inspector
        self.trust = trust
        #: 0 until it has carried a whole exchange.
        self.idle_since = 0.0

    @property
    def usable(self) -> bool:
        """Whether a request may go out on it."""
        return self._usable and not self._transport.is_closing()

    @property
    def quiet(self) -> bool:
        """Whether nothing has come that a busy event loop has not seen yet: neither its end nor an unasked reply."""
        unread = select.poll()
        unread.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        return not unread.poll(0)

    def begin(self, request: bytes, on_send: Callable[[], None]) -> asyncio.Future[RawReply]:
        """Send a request; returns what its reply comes in, or `NotSent`, or `ReplyLost`."""
        on_send()
        self._waiter = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._waiter

    def unsent(self) -> NotSent:
        """Say why no request can go out on it."""
        if self._unasked:
            return NotSent("the gateway sends replies that nobody asked for", NotSentWhy.CONNECT)
        refusal = None if self._error is None else refusal_of(self._error)
        if refusal is not None:
            return NotSent(refusal, NotSentWhy.TRUST)
        return NotSent("no connection to the gateway", NotSentWhy.CONNECT)

    def abandon(self) -> None:
        """Note that it was given up before anybody had it; whoever makes the transport closes that."""
        self._usable = False
        self._keeper.lost(self)

    def time_is_over(self) -> None:
        """End the request under way."""
        self._fail("no reply in time", timed_out=True)

    def close(self) -> None:
        """End a connection that nothing is under way on."""
        self._usable = False
        self._transport.close()

    def abort(self) -> None:
        """End it at once; a request under way is lost."""
        self._fail("the connection was closed without a reply")

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport  # type: ignore[assignment]
        self._usable = True
        self._keeper.made(self)

    def data_received(self, data: bytes) -> None:
        """Read on in the reply."""
        if self._waiter is None:
            self._unasked = True
            self.abort()
            return
        if self._reader is None:
            self._reader = ReplyReader(self._most_body)
        try:
            whole = self._reader.feed(data)
        except NotHttp:
            self._fail("the reply is not HTTP")
            return
        if whole:
            self._finish(self._waiter, self._reader)

    def eof_received(self) -> None:
        """End what is under way: nothing more comes. The transport closes itself."""
        self._usable = False
        if self._waiter is None:
            return
        if self._reader is not None and self._reader.end():
            self._finish(self._waiter, self._reader)
        else:
            self._fail("the connection was closed without a reply")

    def connection_lost(self, error: Exception | None) -> None:
        """End what is under way."""
        self._error = error
        if error is None:
            self.eof_received()  # with TLS nobody may have said so
        else:
            self._fail("the connection was reset before a reply", self._late_refusal(error))
        self._keeper.lost(self)

    def _late_refusal(self, error: Exception) -> str | None:
        """
        Say that our certificate is refused, if that proves that the request was not read.

        With TLS 1.3 the other side judges it after we have begun to write: before it reads a request, so nothing was
        sent, although it was told that something may have been. Any other error of TLS leaves the outcome open, and so
        does this one where a reply came before.
        """
        if self._reader is not None or self.idle_since or "ALERT" not in (getattr(error, "reason", None) or ""):
            return None
        return refusal_of(error)

    def _finish(self, waiter: asyncio.Future[RawReply], reader: ReplyReader) -> None:
        """Hand the reply over; the connection may go on only if nothing is left on it, of neither side."""
        self._waiter = self._reader = None
        if not waiter.done():
            waiter.set_result(reader.reply())
        if not reader.keep or self._transport.get_write_buffer_size():
            self._usable = False
            self._transport.abort()  # not properly: what is left of the request would go out first
        reader.close()

    def _fail(self, text: str, refusal: str | None = None, *, timed_out: bool = False) -> None:
        """End the connection, and the request under way if there is one."""
        waiter, reader = self._waiter, self._reader
        self._waiter = self._reader = None
        self._usable = False
        self._transport.abort()
        if reader is not None:
            reader.close()
        if waiter is None or waiter.done():
            return
        headers = None if reader is None else reader.headers
        if refusal is not None:
            waiter.set_exception(NotSent(refusal, NotSentWhy.TRUST))
        elif headers is not None:
            waiter.set_exception(ReplyLost("the reply broke off in its body", timed_out=timed_out, headers=headers))
        else:
            waiter.set_exception(ReplyLost(text, timed_out=timed_out))
