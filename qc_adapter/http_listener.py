"""How the HTTP servers of this process listen: the one for operators, and the one that gateways push to."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.http import HttpProcessingError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from qc_adapter.environment import Listen


class HttpListener:
    """
    One address with the pages of an application.

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
    ) -> None:
        self._listen = listen
        self._stop_seconds = stop_seconds
        self._tls = tls
        self._malformed = malformed
        self._runner: web.AppRunner | None = None

    @property
    def port(self) -> int:
        """The port that is listened on; known after `start`."""
        if self._runner is None or not self._runner.addresses:
            raise RuntimeError("the server is not started")
        return int(self._runner.addresses[0][1])

    async def start(self, app: web.Application) -> None:
        """Listen; raises `OSError` when the address cannot be had, or the certificate cannot be used."""
        # No line for each request: probes, scrapes and pushes come for ever.
        runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=self._stop_seconds, logger=_logger(self._malformed)
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, self._listen.host, self._listen.port, ssl_context=self._tls()).start()
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner

    async def stop(self) -> None:
        """Stop listening; requests under way get `stop_seconds` to end."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None


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
