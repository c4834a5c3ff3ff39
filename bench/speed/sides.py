"""The servers that are compared with each other: each a process, all before the same stub of a gateway."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import grpc

from bench.children import Child
from bench.lean_gateway import QUIET_FROM
from bench.redis_server import RedisServer
from bench.speed import envoy
from bench.speed.cpu import cpu_seconds
from qc_adapter.v1 import sessions_pb2, sessions_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

FIRST_AGENT: Final = 1000
AGENTS_OF_A_SIDE: Final = 1000
_ADOPT_SECONDS: Final = 30.0
_EVENTS_PER_SECOND: Final = 800
_SETTLE_SECONDS: Final = 0.1


@dataclass(slots=True)
class Side:
    """A server under load. Its inspectors are its own: the stub of the gateway is one for all."""

    name: str
    pid: int
    port: int
    first_agent: int
    #: Answers questions; none of the servers that are not ours does.
    child: Child | None = None
    #: What it has instead of a kind of calls.
    instead: Mapping[str, str] = field(default_factory=dict)
    #: Inspectors that take turns in each place of a call: more than one where an inspector has to rest.
    turns: int = 1
    adopted: int = 0

    @property
    def first_quiet(self) -> int:
        """The first of its inspectors that get no events and are not polled for."""
        return QUIET_FROM + self.first_agent

    async def adopt(self, at_once: int) -> None:
        """Give it sessions for so many calls at once, of either sort of inspectors, as far as it has none."""
        inspectors = at_once * self.turns
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            stub = sessions_pb2_grpc.InspectorSessionsStub(channel)
            for number in range(self.adopted, inspectors):
                for first, source in (
                    (self.first_agent, sessions_pb2.EVENT_SOURCE_POLL),
                    (self.first_quiet, sessions_pb2.EVENT_SOURCE_NONE),
                ):
                    agent_id = first + number
                    request = sessions_pb2.AdoptRequest(
                        agent_id=str(agent_id), guid=f"{agent_id:048x}.AgentGateway0", event_source=source
                    )
                    await stub.Adopt(request, timeout=_ADOPT_SECONDS)
        self.adopted = max(self.adopted, inspectors)


class Site:
    """The stub of a gateway, and the servers before it."""

    def __init__(self, gateway: Child, url: str, folder: Path, stack: contextlib.AsyncExitStack) -> None:
        self.gateway = gateway
        self.url = url
        self.folder = folder
        self._stack = stack
        self._first_agent = FIRST_AGENT

    async def adapter(self, name: str, settings: Mapping[str, str]) -> Side:
        """Start this adapter with these settings on top of those that no one can do without."""
        environment = {
            "QC_GATEWAY_URL": self.url,
            "QC_LISTEN": "127.0.0.1:0",
            "QC_OPS_LISTEN": "127.0.0.1:0",
            "LOAD_UVLOOP": "1",
            **settings,
        }
        return await self._start(name, "adapter_child", (str(self.folder / f"{name}.log"),), environment)

    async def floor(self) -> Side:
        """Start the empty server."""
        side = await self._start("floor", "speed.floor_child", (), {})
        side.adopted = AGENTS_OF_A_SIDE
        return side

    async def naive(self, redis_url: str) -> Side:
        """Start the adapter as a team writes it in a day."""
        return await self._start("naive", "naive", (self.url, redis_url), {})

    async def envoy(self) -> Side | None:
        """Start the peer, if its package is installed."""
        program = envoy.binary()
        if program is None:
            return None
        pid, port = await self._stack.enter_async_context(envoy.running(program, self.url, self.folder))
        side = Side("envoy", pid, port, self._first_agent, instead={"accept": "receipt"}, adopted=AGENTS_OF_A_SIDE)
        self._first_agent += AGENTS_OF_A_SIDE
        return side

    def redis(self, name: str) -> str:
        """Start a Redis of its own for somebody; return its address."""
        folder = self.folder / f"{name}.redis"
        folder.mkdir()
        server = RedisServer(folder)
        server.start()
        self._stack.callback(server.stop)
        return server.url

    async def event_us(self, side: Side, inspectors: int, seconds: float) -> float:
        """Return what a server pays for an event that a poll brings, when nobody calls it."""
        await side.adopt(inspectors)
        first, polls = str(side.first_agent), (await self.gateway.ask("counts"))["polls"]
        before = cpu_seconds(side.pid)
        await self.gateway.ask("tell", "AgentEvent_Talking", str(_EVENTS_PER_SECOND), first, str(inspectors))
        await asyncio.sleep(seconds)
        await self.gateway.ask("quiet")
        await asyncio.sleep(_SETTLE_SECONDS)
        spent = cpu_seconds(side.pid) - before
        return spent / ((await self.gateway.ask("counts"))["polls"] - polls) * 1e6

    async def _start(self, name: str, module: str, arguments: tuple[str, ...], environment: dict[str, str]) -> Side:
        child = await Child.start(module, *arguments, errors=self.folder / f"{name}.err", environment=environment)
        self._stack.push_async_callback(child.stop)
        port, _ = await child.ask("ports")
        side = Side(name, child.pid, int(port), self._first_agent, child)
        self._first_agent += AGENTS_OF_A_SIDE
        return side


@contextlib.asynccontextmanager
async def site(folder: Path) -> AsyncIterator[Site]:
    """Run the stub of a gateway, and end all that was started before it."""
    async with contextlib.AsyncExitStack() as stack:
        gateway = await Child.start("lean_gateway_child", errors=folder / "gateway.err", environment={})
        stack.push_async_callback(gateway.stop)
        yield Site(gateway, str(await gateway.ask("url")), folder, stack)


def pod_settings(redis_url: str) -> dict[str, str]:
    """Return what a pod has in production: everything by default, sealed in Redis, on record with a key."""
    return {
        "QC_STORE_URL": redis_url,
        "QC_SEAL_KEYS": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "QC_AUDIT_KEY": secrets.token_hex(32),
    }
