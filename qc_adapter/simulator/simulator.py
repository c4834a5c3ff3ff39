"""The whole simulator in one object: builds the parts, opens the ports, closes them again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from aiohttp import web

from qc_adapter.simulator.certificates import self_signed, server_context
from qc_adapter.simulator.control_api import ControlApi
from qc_adapter.simulator.controls import Controls
from qc_adapter.simulator.gateway import Clocks, Gateway
from qc_adapter.simulator.settings import SimulatorSettings
from qc_adapter.simulator.wire import WireHandler

if TYPE_CHECKING:
    from types import TracebackType

STOP_SECONDS: Final = 2.0


class Simulator(Controls):
    """A CC-Gateway that anyone can run; also `async with Simulator(settings) as simulator`."""

    def __init__(self, settings: SimulatorSettings | None = None, clocks: Clocks | None = None) -> None:
        self.settings = settings or SimulatorSettings()
        super().__init__(Gateway(self.settings, clocks or Clocks()))
        self.certificate_pem: bytes | None = None
        self._port = 0
        self._tls_port: int | None = None
        self._runner: web.ServerRunner | None = None
        self._wire: WireHandler | None = None
        self._timetable: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where it listens without TLS."""
        return f"http://{self.settings.host}:{self._port}"

    @property
    def tls_url(self) -> str:
        """Where it listens with TLS."""
        if self._tls_port is None:
            raise LookupError("the simulator has no TLS port")
        return f"https://{self.settings.host}:{self._tls_port}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Open the ports and begin what runs by itself."""
        control = ControlApi(self).handle if self.settings.control_enabled else None
        self._wire = WireHandler(self.gateway, control)
        server = web.Server(self._wire.handle, access_log=None, keepalive_timeout=self.settings.idle_close_seconds)
        self._runner = web.ServerRunner(server, shutdown_timeout=STOP_SECONDS)
        await self._runner.setup()
        try:
            await self._open_ports(self._runner)
        except BaseException:
            await self._runner.cleanup()
            raise
        self.gateway.begin()
        self._timetable = asyncio.create_task(self.gateway.timetable.run(), name="simulator-timetable")

    async def _open_ports(self, runner: web.ServerRunner) -> None:
        site = web.TCPSite(runner, self.settings.host, self.settings.port, backlog=4096)
        await site.start()
        self._port = int(runner.addresses[0][1])
        if self.settings.tls_port is None:
            return
        if self.settings.tls_cert_file and self.settings.tls_key_file:
            certificate = await asyncio.to_thread(Path(self.settings.tls_cert_file).read_bytes)
            key = await asyncio.to_thread(Path(self.settings.tls_key_file).read_bytes)
        else:
            certificate, key = self_signed(self.settings.host)
        self.certificate_pem = certificate
        context = await asyncio.to_thread(server_context, certificate, key)
        tls_site = web.TCPSite(runner, self.settings.host, self.settings.tls_port, ssl_context=context, backlog=4096)
        await tls_site.start()
        self._tls_port = int(runner.addresses[-1][1])

    async def stop(self) -> None:
        """Close the ports; held polls get their answer first."""
        if self._timetable is not None:
            self._timetable.cancel()
            await asyncio.wait([self._timetable])
            self._timetable = None
        if self._wire is not None:
            await self._wire.stop(STOP_SECONDS)
            self._wire = None
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
