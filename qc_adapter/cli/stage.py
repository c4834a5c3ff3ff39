"""What the demo plays on: a simulated gateway and an adapter in this process, and a client to call it."""

from __future__ import annotations

import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import aiohttp
import grpc

from qc_adapter.app import Adapter
from qc_adapter.settings import Settings, read_settings
from qc_adapter.simulator import Simulator, SimulatorSettings
from qc_adapter.v1 import quality_control_pb2_grpc, sessions_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

HOST: Final = "127.0.0.1"
_HTTP_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Ports:
    """Where everything listens; 0 takes a free port."""

    simulator: int = 0
    grpc: int = 0
    ops: int = 0

    @classmethod
    def usual(cls) -> Ports:
        """Return the default ports, a free one in place of each that is taken."""
        return cls(*(port if _is_free(port) else 0 for port in (8043, 50051, 8080)))

    def chosen(self) -> Ports:
        """Return the same with a free port in place of each 0."""
        return Ports(*(port or _free() for port in (self.simulator, self.grpc, self.ops)))


def _free() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def settings_for(simulator: Simulator, ports: Ports, environment: Mapping[str, str]) -> Settings:
    """Return settings for an adapter in front of the simulator; what `environment` sets comes first."""
    defaults = {
        "QC_LISTEN": f"{HOST}:{ports.grpc}",
        "QC_OPS_LISTEN": f"{HOST}:{ports.ops}",
        "QC_DRAIN_SECONDS": "0",  # nobody balances load here
        "QC_GRACE_SECONDS": "2",
        "QC_AUDIT_LOG": "off",  # nobody reads them, and they would stand between what is shown
    }
    return read_settings({**defaults, **environment, "QC_GATEWAY_URL": simulator.url})


class Stage:
    """Simulator, adapter, and stubs to call it."""

    def __init__(self, simulator: Simulator, adapter: Adapter, channel: grpc.aio.Channel) -> None:
        self.simulator = simulator
        self.adapter = adapter
        self.sessions = sessions_pb2_grpc.InspectorSessionsStub(channel)
        self.quality_control = quality_control_pb2_grpc.QualityControlStub(channel)

    @property
    def target(self) -> str:
        """The adapter's gRPC address."""
        return f"{HOST}:{self.adapter.port}"

    @property
    def ops_url(self) -> str:
        """The adapter's ops address."""
        return f"http://{HOST}:{self.adapter.ops_port}"

    async def metrics(self) -> list[str]:
        """Return the lines of /metrics."""
        limit = aiohttp.ClientTimeout(total=_HTTP_SECONDS)
        async with aiohttp.ClientSession(timeout=limit) as http, http.get(f"{self.ops_url}/metrics") as reply:
            return (await reply.text()).splitlines()


@asynccontextmanager
async def stage(ports: Ports) -> AsyncIterator[Stage]:
    """Build it up, and take it down."""
    async with (
        Simulator(SimulatorSettings(host=HOST, port=ports.simulator)) as simulator,
        Adapter(settings_for(simulator, ports, {})) as adapter,
        grpc.aio.insecure_channel(f"{HOST}:{adapter.port}") as channel,
    ):
        yield Stage(simulator, adapter, channel)
