"""An adapter and the gateways that it polls, as processes: started, filled with sessions, watched, asked, ended."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import grpc

from bench.children import Child
from bench.lean_gateway import STAMP
from qc_adapter.model.inspector import inspector_id
from qc_adapter.v1 import events_pb2, events_pb2_grpc, quality_control_pb2, quality_control_pb2_grpc

if TYPE_CHECKING:
    import contextlib
    from pathlib import Path

    from qc_adapter.v1.quality_control_pb2 import CommandOptions

#: Each gateway has a name and a loopback address of its own: one process has not enough descriptors for all polls.
GATEWAYS: Final = (("default", "127.0.0.2"), ("north", "127.0.0.3"))
FIRST: Final = 1000
_LOOK_SECONDS: Final = 0.1
_READY_SECONDS: Final = 120.0


class Gateways:
    """The stub gateways of all adapters of a run."""

    def __init__(self, children: list[Child], urls: list[str]) -> None:
        self.children = children
        self.urls = urls

    @classmethod
    async def start(cls, folder: Path, stack: contextlib.AsyncExitStack, hold_seconds: float) -> Self:
        """Start one for each name."""
        children = []
        for name, address in GATEWAYS:
            child = await Child.start(
                "lean_gateway_child",
                address,
                *("--hold", str(hold_seconds), "--quiet-from", "0"),
                errors=folder / f"gateway-{name}.err",
                environment={},
            )
            stack.push_async_callback(child.stop)
            children.append(child)
        return cls(children, [str(await child.ask("url")) for child in children])

    async def count(self, what: str) -> int:
        """Add up one of the counts."""
        return sum([(await child.ask("counts"))[what] for child in self.children])

    async def opened(self) -> list[float]:
        """When connections were opened since this was asked last."""
        return sorted([moment for child in self.children for moment in await child.ask("opened")])

    def cpu_seconds(self) -> float:
        """CPU of all of them together."""
        return sum(child.footprint().cpu_seconds for child in self.children)

    async def all(self, *question: str) -> None:
        """Ask each of them the same."""
        for child in self.children:
            await child.ask(*question)


@dataclass(frozen=True, slots=True)
class Adapter:
    """One adapter process and a channel to it."""

    child: Child
    channel: grpc.aio.Channel
    ops_port: int
    log: Path

    @classmethod
    async def start(cls, name: str, folder: Path, gateways: Gateways, stack: contextlib.AsyncExitStack) -> Self:
        """Start it without sessions."""
        log = folder / f"{name}.log"
        environment = {
            "QC_GATEWAY_URL": gateways.urls[0],
            "QC_GATEWAYS": "north",
            "QC_GATEWAY_NORTH_URL": gateways.urls[1],
            "QC_LISTEN": "127.0.0.1:0",
            "QC_OPS_LISTEN": "127.0.0.1:0",
            "QC_AUDIT_LOG": str(folder / f"{name}.audit"),
        }
        errors = folder / f"{name}.err"
        child = await Child.start("speed.poll_adapter_child", str(log), errors=errors, environment=environment)
        stack.push_async_callback(child.stop)
        port, ops_port = await child.ask("ports")
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{port}"))
        return cls(child, channel, ops_port, log)

    async def sign_in(self, count: int, source: str = "poll", first: int = FIRST) -> None:
        """Put that many sessions into its store, half of them of each gateway."""
        for number, (name, _) in enumerate(GATEWAYS):
            await self.child.ask("put", name, str(first), str((count + 1 - number) // 2), source)

    def lines(self) -> int:
        """Count the lines that it has logged."""
        return self.log.read_bytes().count(b"\n")

    async def longest_collection_ms(self) -> float:
        """Return the CPU time of its longest look for garbage since this was asked last."""
        found: dict[str, tuple[int, float, float]] = await self.child.ask("collections")
        return 1000 * max((longest for _, _, longest in found.values()), default=0.0)

    async def states(self) -> dict[str, int]:
        """Count those that are read by state."""
        found: dict[str, int] = await self.child.ask("states")
        return found


async def until_held(gateways: Gateways, count: int) -> float:
    """Wait until nearly so many polls are held: a few are always between two polls; returns the seconds."""
    began = time.monotonic()
    async with asyncio.timeout(_READY_SECONDS):
        while await gateways.count("held") < count * 0.97:  # noqa: ASYNC110 - in another process
            await asyncio.sleep(_LOOK_SECONDS)
    return time.monotonic() - began


class Streams:
    """`Watch` streams that note how long each event took from the gateway's write to here."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._subscribed = 0

    async def open(self, adapter: Adapter, count: int, first: int = FIRST) -> None:
        """Watch so many inspectors of each gateway."""
        stub = events_pb2_grpc.InspectorEventsStub(adapter.channel)
        for name, _ in GATEWAYS:
            for number in range(first, first + count):
                self._tasks.append(asyncio.create_task(self._read(stub, inspector_id(name, str(number)))))
        async with asyncio.timeout(_READY_SECONDS):
            while self._subscribed < len(self._tasks):  # noqa: ASYNC110 - a count that many tasks raise
                await asyncio.sleep(_LOOK_SECONDS)

    async def _read(self, stub: events_pb2_grpc.InspectorEventsStub, agent_id: str) -> None:
        request = events_pb2.WatchRequest(agent_id=agent_id)
        async for update in stub.Watch(request):
            if update.WhichOneof("update") == "event":
                written = int(update.event.call.call_id.removeprefix(STAMP.decode()))
                self.seconds.append((time.monotonic_ns() - written) / 1e9)
            elif update.WhichOneof("update") == "subscribed":
                self._subscribed += 1

    async def close(self) -> None:
        """End them."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class Commands:
    """Sends commands that are answered with the gateway's receipt, and notes how long each took."""

    def __init__(self, adapter: Adapter, inspectors: int, first: int = FIRST) -> None:
        self._intercept = quality_control_pb2_grpc.QualityControlStub(adapter.channel).Intercept
        self._inspectors = inspectors
        self._first = first
        self._turn = 0

    async def burst(self, count: int, at_once: int) -> list[float]:
        """Send that many, so many at a time; return the seconds of each."""
        left = iter(range(count))
        found: list[float] = []
        await asyncio.gather(*(self._one_by_one(left, found) for _ in range(at_once)))
        return found

    async def _one_by_one(self, left: object, found: list[float]) -> None:
        for _ in left:  # type: ignore[attr-defined]
            began = time.monotonic()
            async for _update in self._intercept(self._next(), timeout=30):
                pass
            found.append(time.monotonic() - began)

    def _next(self) -> quality_control_pb2.InterceptRequest:
        self._turn += 1
        options: CommandOptions = quality_control_pb2.CommandOptions(follow=quality_control_pb2.FOLLOW_NONE)
        agent_id = str(self._first + self._turn % self._inspectors)
        return quality_control_pb2.InterceptRequest(agent_id=agent_id, work_no="292", options=options)
