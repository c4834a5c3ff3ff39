"""A gateway, a Redis or none, and adapters that share it, as processes: filled with sessions, watched, asked, ended."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

import grpc

from bench.children import Child
from bench.redis_server import RedisServer
from bench.speed.cpu import cpu_seconds
from qc_adapter.v1 import quality_control_pb2, quality_control_pb2_grpc, sessions_pb2, sessions_pb2_grpc

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Iterable
    from pathlib import Path

    from redis import Redis

FIRST: Final = 1000
_AGENT: Final = "59999"
_LOOK_SECONDS: Final = 0.05
_READY_SECONDS: Final = 90.0
_ADOPTED_AT_ONCE: Final = 64


@dataclass(frozen=True, slots=True)
class Spent:
    """What a site has used since it began."""

    #: CPU seconds of all adapters, and of Redis.
    adapters: float
    redis: float
    polls: int
    #: Calls of scripts, and of commands within and beside them.
    scripts: int
    commands: int
    #: Bytes from and to Redis.
    network: int
    #: CPU seconds of the scan for sessions that others wrote, of which one replica does all; by Redis's own clock.
    scans: float
    at: float

    def since(self, before: Spent) -> Spent:
        """Return the difference."""
        names = ("adapters", "redis", "polls", "scripts", "commands", "network", "scans", "at")
        return Spent(*(getattr(self, name) - getattr(before, name) for name in names))


@dataclass(slots=True)
class Site:
    """One of them; without a server the store is in memory."""

    folder: Path
    gateway: Child
    server: RedisServer | None
    stack: contextlib.AsyncExitStack
    client: Redis | None = None
    adapters: list[Child] = field(default_factory=list)
    channels: list[grpc.aio.Channel] = field(default_factory=list)

    @classmethod
    async def open(
        cls,
        name: str,
        folder: Path,
        stack: contextlib.AsyncExitStack,
        *,
        redis: bool = True,
        hold_seconds: float = 10.0,
    ) -> Self:
        """Start gateway and Redis; adapters are added."""
        place = folder / name
        place.mkdir()
        hold = ("--hold", str(hold_seconds))
        gateway = await Child.start("lean_gateway_child", *hold, errors=place / "gateway.err", environment={})
        stack.push_async_callback(gateway.stop)
        server = None
        site = cls(place, gateway, server, stack)
        if redis:
            site.server = server = RedisServer(place)
            server.start()
            stack.callback(server.stop)
            site.client = stack.enter_context(server.client())
        return site

    async def add(self, number: int = 1, **settings: str) -> None:
        """Start so many adapters more."""
        url = str(await self.gateway.ask("url"))
        begun = len(self.channels)
        children = []
        for place in range(begun, begun + number):
            log = self.folder / f"adapter-{place}.log"
            environment = {
                "QC_GATEWAY_URL": url,
                "QC_LISTEN": "127.0.0.1:0",
                "QC_OPS_LISTEN": "127.0.0.1:0",
                "QC_AUDIT_LOG": "off",
                "QC_STORE_URL": "memory://" if self.server is None else self.server.url,
                "LOAD_UVLOOP": "1",
                **settings,
            }
            child = await Child.start(
                "adapter_child", str(log), errors=log.with_suffix(".err"), environment=environment
            )
            self.stack.push_async_callback(self._end, child)
            children.append(child)
        for child in children:  # all of them begin at the same time
            self.adapters.append(child)
            port, _ = await child.ask("ports")
            channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
            self.channels.append(channel)
            self.stack.push_async_callback(channel.close)

    async def remove(self) -> None:
        """End the last adapter, without a drain."""
        await self._end(self.adapters[-1])

    async def _end(self, child: Child) -> None:
        if child in self.adapters:
            self.adapters.remove(child)
        await child.stop()

    def write_sessions(self, number: int) -> None:
        """Write sessions into Redis as another system would."""
        assert self.client is not None
        with self.client.pipeline(transaction=False) as pipeline:
            for agent_id in range(FIRST, FIRST + number):
                fields = {"version": "1", "agent_id": str(agent_id), "guid": f"{agent_id:048x}.AgentGateway0"}
                pipeline.hset(f"qc:session:{agent_id}", mapping=fields)
            pipeline.execute()

    async def adopt(self, number: int) -> None:
        """Hand sessions over to the first adapter."""
        stub = sessions_pb2_grpc.InspectorSessionsStub(self.channels[0])  # type: ignore[no-untyped-call]
        left = iter(range(FIRST, FIRST + number))

        async def some() -> None:
            for agent_id in left:
                guid = f"{agent_id:048x}.AgentGateway0"
                await stub.Adopt(sessions_pb2.AdoptRequest(agent_id=str(agent_id), guid=guid), timeout=30)

        await asyncio.gather(*(some() for _ in range(_ADOPTED_AT_ONCE)))

    async def held(self) -> list[int]:
        """Return how many inspectors each replica reads for, the most first; without Redis nobody knows."""
        assert self.client is not None
        counts: dict[bytes, int] = {}
        for holder in self.client.hvals("qc:holders"):
            replica = holder.partition(b":")[0]
            counts[replica] = counts.get(replica, 0) + 1
        return sorted(counts.values(), reverse=True)

    async def until_shared(self, number: int, replicas: int) -> float:
        """Wait until so many replicas read for all, none for more than a share and a bit; return how long it took."""
        began = time.monotonic()
        most = number / replicas * 1.02 + 1
        async with asyncio.timeout(_READY_SECONDS):
            while True:
                held = await self.held()
                if sum(held) >= number and len(held) == replicas and held[0] <= most:
                    return time.monotonic() - began
                await asyncio.sleep(_LOOK_SECONDS)

    async def until_polled(self, number: int) -> float:
        """Wait until the gateway has had so many polls; return how long it took."""
        began = time.monotonic()
        async with asyncio.timeout(_READY_SECONDS):
            while (await self.gateway.ask("counts"))["polls"] < number:  # noqa: ASYNC110 - in another process
                await asyncio.sleep(_LOOK_SECONDS)
        return time.monotonic() - began

    async def intercept(self, calls: int, at_once: int) -> None:
        """Run so many intercepts to their end, on the first adapter."""
        stub = quality_control_pb2_grpc.QualityControlStub(self.channels[0])  # type: ignore[no-untyped-call]
        left = iter(range(calls))

        async def some(agent_id: int) -> None:
            request = quality_control_pb2.InterceptRequest(agent_id=str(agent_id), work_no=_AGENT)
            for _ in left:
                async for _update in stub.Intercept(request, timeout=30):
                    pass

        await asyncio.gather(*(some(FIRST + number) for number in range(at_once)))

    async def spent(self) -> Spent:
        """Look at all counts and clocks."""
        polls = int((await self.gateway.ask("counts"))["polls"])
        ours = sum(cpu_seconds(child.pid) for child in self.adapters)
        if self.client is None:
            return Spent(ours, 0.0, polls, 0, 0, 0, 0.0, time.monotonic())
        info: dict[str, Any] = dict(self.client.info("all"))  # type: ignore[arg-type]
        calls = {name.removeprefix("cmdstat_"): told for name, told in info.items() if name.startswith("cmdstat_")}
        return Spent(
            ours,
            float(info["used_cpu_sys"]) + float(info["used_cpu_user"]),
            polls,
            _calls(calls, ("evalsha", "eval")),
            _calls(calls, calls),
            int(info["total_net_input_bytes"]) + int(info["total_net_output_bytes"]),
            float(calls.get("scan", {}).get("usec", 0)) / 1e6,
            time.monotonic(),
        )

    def used_memory(self) -> int:
        """Return the bytes that Redis uses."""
        assert self.client is not None
        return int(self.client.info("memory")["used_memory"])  # type: ignore[index]


def _calls(told: dict[str, Any], names: Iterable[str]) -> int:
    return sum(int(told[name]["calls"]) for name in names if name in told)
