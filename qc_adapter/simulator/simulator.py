"""The whole simulator in one object: builds the parts, opens the ports, closes them again."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Self

from aiohttp import web

from qc_adapter.simulator.control_api import ControlApi
from qc_adapter.simulator.controls import Controls
from qc_adapter.simulator.courier import Courier
from qc_adapter.simulator.gateway import Clocks, Gateway
from qc_adapter.simulator.listeners import STOP_SECONDS, Listeners
from qc_adapter.simulator.settings import SimulatorSettings
from qc_adapter.simulator.wire import WireHandler

if TYPE_CHECKING:
    from types import TracebackType

_log = logging.getLogger(__name__)


class Simulator(Controls):
    """A CC-Gateway that anyone can run; also `async with Simulator(settings) as simulator`."""

    def __init__(self, settings: SimulatorSettings | None = None, clocks: Clocks | None = None) -> None:
        self.settings = settings or SimulatorSettings()
        super().__init__(Gateway(self.settings, clocks or Clocks()))
        self._listeners = Listeners(self.settings)
        self._courier = Courier(self.settings, self.gateway.pushing)
        self._wire: WireHandler | None = None
        self._timetable: asyncio.Task[None] | None = None
        self._outage: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where it listens without TLS."""
        return f"http://{self.settings.host}:{self._listeners.port}"

    @property
    def tls_url(self) -> str:
        """Where it listens with TLS."""
        if self._listeners.tls_port is None:
            raise LookupError("the simulator has no TLS port")
        return f"https://{self.settings.host}:{self._listeners.tls_port}"

    @property
    def certificate_pem(self) -> bytes | None:
        """The certificate of the TLS port."""
        return self._listeners.certificate_pem

    @property
    def is_up(self) -> bool:
        """Whether it takes connections."""
        return self._listeners.is_open

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
        await self._courier.start()
        try:
            await self._listeners.start(server)
        except BaseException:
            await self._courier.stop()
            raise
        self.gateway.begin()
        self._timetable = asyncio.create_task(self.gateway.timetable.run(), name="simulator-timetable")

    def restart(self, down_seconds: float = 0.0) -> int:
        """Lose all sign-ins, and refuse connections for some seconds."""
        if down_seconds > 0 and self._wire is not None and (self._outage is None or self._outage.done()):
            self._wire.go_down()
            self._outage = asyncio.create_task(self._be_down(self._wire, down_seconds), name="simulator-outage")
        return super().restart(down_seconds)

    async def _be_down(self, wire: WireHandler, seconds: float) -> None:
        await self._listeners.close()
        try:
            await asyncio.sleep(seconds)
        finally:
            wire.come_back()
        try:
            await self._listeners.open()
        except OSError:
            _log.exception("the simulator cannot listen again")

    async def stop(self) -> None:
        """Close the ports; held polls get their answer first."""
        for task in (self._timetable, self._outage):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        self._timetable = self._outage = None
        if self._wire is not None:
            await self._wire.stop(STOP_SECONDS)
            self._wire = None
        await self._courier.stop()
        await self._listeners.stop()
