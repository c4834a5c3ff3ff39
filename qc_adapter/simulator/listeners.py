"""Around the wire: the ports of the simulator; they open, close, and come back where they were."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aiohttp import web

from qc_adapter.simulator.certificates import self_signed, server_context

if TYPE_CHECKING:
    import ssl

    from qc_adapter.simulator.settings import SimulatorSettings

STOP_SECONDS: Final = 2.0
_BACKLOG: Final = 4096


class Listeners:
    """The plain port, and beside it one with TLS if the settings ask for it."""

    def __init__(self, settings: SimulatorSettings) -> None:
        self._settings = settings
        self._runner: web.ServerRunner | None = None
        self._sites: list[web.TCPSite] = []
        self._tls: ssl.SSLContext | None = None
        self.port = settings.port
        self.tls_port = settings.tls_port
        self.certificate_pem: bytes | None = None

    @property
    def is_open(self) -> bool:
        """Whether the ports take connections."""
        return bool(self._sites)

    async def start(self, server: web.Server) -> None:
        """Open the ports; a port of 0 is a free one from now on, and kept."""
        if self._settings.tls_port is not None:
            self._tls = await self._context()
        self._runner = web.ServerRunner(server, shutdown_timeout=STOP_SECONDS)
        await self._runner.setup()
        try:
            await self.open()
        except BaseException:
            await self.stop()
            raise

    async def open(self) -> None:
        """Listen."""
        self.port = await self._listen(self.port, None)
        if self.tls_port is not None:
            self.tls_port = await self._listen(self.tls_port, self._tls)

    async def close(self) -> None:
        """Refuse connections from now on."""
        sites, self._sites = self._sites, []
        for site in sites:
            await site.stop()

    async def stop(self) -> None:
        """Close the ports and all connections."""
        self._sites.clear()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _listen(self, port: int, context: ssl.SSLContext | None) -> int:
        if self._runner is None:
            raise RuntimeError("the ports are opened before the server runs")
        site = web.TCPSite(
            self._runner, self._settings.host, port, ssl_context=context, backlog=_BACKLOG, reuse_address=True
        )
        await site.start()
        self._sites.append(site)
        return int(self._runner.addresses[-1][1])

    async def _context(self) -> ssl.SSLContext:
        settings = self._settings
        if settings.tls_cert_file and settings.tls_key_file:
            certificate = await asyncio.to_thread(Path(settings.tls_cert_file).read_bytes)
            key = await asyncio.to_thread(Path(settings.tls_key_file).read_bytes)
        else:
            certificate, key = self_signed(settings.host)
        self.certificate_pem = certificate
        return await asyncio.to_thread(server_context, certificate, key)
