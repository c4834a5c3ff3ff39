"""How the HTTP servers of this process listen: the one for operators, and the one that gateways push to."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import TYPE_CHECKING, Any, Final, cast

from aiohttp import web
from aiohttp.http import HttpProcessingError

from qc_adapter.http_connections import Connections

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from qc_adapter.environment import Listen

#: Gateways keep a connection or a few each; probes and scrapes are fewer.
MOST_CONNECTIONS: Final = 200
#: From the begin of a connection, or its last answer, until the next request's head has come whole.
HEAD_SECONDS: Final = 30.0
#: For a peer to read its answer.
STALLED_SECONDS: Final = 20.0
#: Connections that the kernel keeps until we take them.
_BACKLOG: Final = 128
_AGAIN_SECONDS: Final = 0.2
_LONGEST_LINE: Final = 4096
_MOST_LINES: Final = 64
#: For the rest of a request that was answered before it had come whole.
_LINGERING_SECONDS: Final = 2.0


class HttpListener:
    """
    One address with the pages of an application.

    There are at most `connections` at a time, one more takes the place of the oldest that is not known; and a time for
    everything: TLS, a request's head, an idle connection, an answer that is not read.

    `malformed` is called for each request that is no HTTP. The library would log those as errors and quote them, with
    whatever token stands in them.
    """

    def __init__(
        self,
        listen: Listen,
        *,
        stop_seconds: float,
        tls: Callable[[], ssl.SSLContext | None] = lambda: None,
        malformed: Callable[[], None] = lambda: None,
        connections: int = MOST_CONNECTIONS,
        head_seconds: float = HEAD_SECONDS,
        stalled_seconds: float = STALLED_SECONDS,
    ) -> None:
        self._listen = listen
        self._stop_seconds = stop_seconds
        self._tls = tls
        self._malformed = malformed
        self._most = connections
        self._head_seconds = head_seconds
        self._stalled_seconds = stalled_seconds
        self._runner: web.AppRunner | None = None
        self._connections: Connections | None = None
        self._sockets: list[socket.socket] = []
        self._accepting: list[asyncio.Task[None]] = []

    @property
    def port(self) -> int:
        """The port that is listened on; known after `start`."""
        if not self._sockets:
            raise RuntimeError("the server is not started")
        return int(self._sockets[0].getsockname()[1])

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return 0 if self._connections is None else len(self._connections)

    def know(self, request: web.Request) -> None:
        """Note that whoever sent the request has shown who it is: its connection makes room for nobody."""
        if self._connections is not None:
            self._connections.know(request.transport)

    async def start(self, app: web.Application) -> None:
        """Listen; raises `OSError` when the address cannot be had, or the certificate cannot be used."""
        # No line for each request: probes, scrapes and pushes come for ever.
        self._runner = web.AppRunner(
            app,
            access_log=None,
            shutdown_timeout=self._stop_seconds,
            logger=_logger(self._malformed),
            # Not put off by bytes of a head that is not whole.
            keepalive_timeout=self._head_seconds,
            lingering_time=_LINGERING_SECONDS,
            max_line_size=_LONGEST_LINE,
            max_field_size=_LONGEST_LINE,
            max_headers=_MOST_LINES,
        )
        await self._runner.setup()
        try:
            self._connections = connections = Connections(
                cast("web.Server", self._runner.server),
                self._tls(),
                most=self._most,
                stalled_seconds=self._stalled_seconds,
                has_enough=_has_refused,
            )
            await self._open_sockets()
            self._accepting = [
                asyncio.create_task(_accept(one, connections), name="http accept") for one in self._sockets
            ]
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop listening; requests under way get `stop_seconds` to end."""
        for task in self._accepting:
            task.cancel()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        self._accepting = []
        for one in self._sockets:
            one.close()
        self._sockets = []
        if self._connections is not None:
            await self._connections.end()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _open_sockets(self) -> None:
        """Listen on each address that the host's name has."""
        host, port = self._listen.host, self._listen.port
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for family, kind, protocol, _, address in dict.fromkeys(found):
            one = socket.socket(family, kind, protocol)
            self._sockets.append(one)
            one.setblocking(False)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                one.bind(address)
            except OSError as error:
                why = (error.strerror or "it cannot be had").lower()
                raise OSError(error.errno, f"cannot listen on {self._listen}: {why}") from error
            one.listen(_BACKLOG)


async def _accept(listening: socket.socket, connections: Connections) -> None:
    """Take connections for ever."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            accepted, _ = await loop.sock_accept(listening)
        except OSError:
            # Gone again, or no descriptor is left: then others have to end first.
            await asyncio.sleep(_AGAIN_SECONDS)
        else:
            connections.accept(accepted)


def _has_refused(serving: asyncio.Protocol) -> bool:
    """
    Say whether the library refuses what it was given last.

    It answers that a turn of the event loop later, and would try to read, and keep, all that comes until then. Only its
    queue tells; a test notices when that has another name.
    """
    waiting: Any = getattr(serving, "_messages", ())
    error = getattr(waiting[-1][0], "exc", None) if waiting else None
    if error is None:
        return False
    # Its frames hold what was read, and refer to the error: only the garbage collector would end that.
    error.__traceback__ = error.__context__ = error.__cause__ = None
    return True


class _DefectsOnly(logging.Filter):
    """Lets through what is no fault of whoever sent the request."""

    def __init__(self, malformed: Callable[[], None]) -> None:
        super().__init__()
        self._malformed = malformed

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether to log the record."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            self._malformed()
            return False
        # A body that breaks off or cannot be unpacked: whoever read it knows.
        return not isinstance(error, web.RequestPayloadError)


def _logger(malformed: Callable[[], None]) -> logging.Logger:
    """Return a logger of this listener alone, whose lines go where all others go."""
    logger = logging.Logger("aiohttp.server")  # noqa: LOG001 - the registered one is shared by all listeners
    logger.parent = logging.getLogger()
    logger.addFilter(_DefectsOnly(malformed))
    return logger
