"""What a connection to one of our HTTP servers may take: one of so many places, and so long for each step."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

#: For TLS to come about.
_HANDSHAKE_SECONDS: Final = 10.0
#: Read at a time; asyncio would read 256 KiB, and all of it is kept for a while where the library refuses it.
_READ_BYTES: Final = 16 * 1024


class Connections:
    """
    Those of one server, at most so many: one more takes the place of the oldest that is not known.

    So whoever holds many connections cannot keep others out, and not cut those that have shown who they are. `behind`
    makes the protocol that serves one, and `has_enough` tells that it will read no more. A peer that has not read what
    it asked for, but for what a buffer holds, is cut after `stalled_seconds`.
    """

    def __init__(
        self,
        behind: Callable[[], asyncio.Protocol],
        tls: ssl.SSLContext | None,
        *,
        most: int,
        stalled_seconds: float,
        has_enough: Callable[[asyncio.Protocol], bool] = lambda _: False,
    ) -> None:
        self.behind = behind
        self.has_enough = has_enough
        self.tls = tls
        self.stalled_seconds = stalled_seconds
        self._most = most
        self._open: dict[Connection, bool] = {}
        self._opening: set[asyncio.Task[None]] = set()
        self._of: dict[asyncio.BaseTransport, Connection] = {}
        #: One for all: it is emptied before anybody else can read.
        self.buffer = bytearray(_READ_BYTES)

    def __len__(self) -> int:
        return len(self._open)

    def accept(self, accepted: socket.socket) -> None:
        """Serve a connection that was just accepted, or close it where there is no room."""
        connection = Connection(self)
        if not self._enter(connection):
            accepted.close()
            return
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.opening = asyncio.create_task(connection.open(accepted, self.tls), name="http connection")
        self._opening.add(connection.opening)
        connection.opening.add_done_callback(self._opening.discard)

    def _enter(self, connection: Connection) -> bool:
        """Count the connection; False if there are too many, all of them known."""
        if len(self._open) >= self._most:
            oldest = next((one for one, known in self._open.items() if not known), None)
            if oldest is None:
                return False
            oldest.cut()
            self.leave(oldest)
        self._open[connection] = False
        return True

    def serves(self, transport: asyncio.BaseTransport, connection: Connection) -> None:
        """Note by what transport requests of the connection come."""
        self._of[transport] = connection

    def know(self, transport: asyncio.BaseTransport | None) -> None:
        """Note that whoever is behind it has shown who it is."""
        connection = None if transport is None else self._of.get(transport)
        if connection in self._open:
            self._open[connection] = True

    def leave(self, connection: Connection) -> None:
        """Give its place back."""
        self._open.pop(connection, None)
        if connection.transport is not None:
            self._of.pop(connection.transport, None)

    async def end(self) -> None:
        """End those whose TLS has not come about; the others are ended by what serves them."""
        opening = list(self._opening)
        for task in opening:
            task.cancel()
        await asyncio.gather(*opening, return_exceptions=True)


class Connection(asyncio.BufferedProtocol):
    """
    One connection, counted from when it was accepted: a handshake that does not end takes a place too.

    All that comes is passed on to the protocol behind.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._behind: asyncio.Protocol | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self.transport: asyncio.Transport | None = None
        self.opening: asyncio.Task[None] | None = None

    async def open(self, accepted: socket.socket, tls: ssl.SSLContext | None) -> None:
        """Begin TLS, if there is to be any, and serve."""
        seconds = None if tls is None else _HANDSHAKE_SECONDS
        try:
            # Not start_tls on a connection that is served already: uvloop gives away the first bytes before that.
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: self, accepted, ssl=tls, ssl_handshake_timeout=seconds
            )
        except OSError:
            pass  # a peer that speaks no TLS, does not trust us, takes too long or is gone
        finally:
            self.opening = None
            if self.transport is None:
                self._connections.leave(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Serve: TLS, if any, has come about."""
        self.transport = cast("asyncio.Transport", transport)
        self._connections.serves(transport, self)
        self._behind = self._connections.behind()
        self._behind.connection_made(transport)

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002 - as the event loop calls it
        """Return where to read to."""
        return self._connections.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Pass it on."""
        behind, transport = self._behind, self.transport
        if behind is not None and transport is not None:
            behind.data_received(bytes(self._connections.buffer[:nbytes]))
            if self._connections.has_enough(behind):
                transport.pause_reading()  # for good: it is answered and closed

    def cut(self) -> None:
        """End the connection at once."""
        if self.transport is not None:
            self.transport.abort()
        elif self.opening is not None:
            self.opening.cancel()

    def eof_received(self) -> bool | None:
        """Pass it on."""
        return None if self._behind is None else self._behind.eof_received()

    def pause_writing(self) -> None:
        """Pass it on, and give the peer some time to read."""
        if self._behind is not None and self.transport is not None:
            self._behind.pause_writing()
            loop = asyncio.get_running_loop()
            self._stalled = loop.call_later(self._connections.stalled_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Pass it on."""
        self._calm()
        if self._behind is not None:
            self._behind.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass it on, and give the place back."""
        self._calm()
        self._connections.leave(self)
        if self._behind is not None:
            self._behind.connection_lost(exc)

    def _calm(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
