"""The processes of the streams part: gateway, adapter, floor and readers, and what is asked of them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import grpc
from prometheus_client.parser import text_string_to_metric_families

from bench.children import Child
from bench.lean_gateway import STAMP, STAMP_DIGITS
from bench.speed.cpu import cpu_seconds
from qc_adapter.v1 import events_pb2, events_pb2_grpc, sessions_pb2, sessions_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

    from bench.children import Footprint

_LOOK_SECONDS: Final = 0.02
_PATIENCE_SECONDS: Final = 60.0
_ADOPT_SECONDS: Final = 20.0
_AT_ONCE: Final = 32
_DELIVERY: Final = "qc_event_delivery_seconds"


@dataclass(frozen=True, slots=True)
class Server:
    """A server whose streams are read."""

    name: str
    child: Child
    port: int

    def footprint(self) -> Footprint:
        """What it holds."""
        return self.child.footprint()

    def cpu_seconds(self) -> float:
        """What it has used."""
        return cpu_seconds(self.child.pid)


@dataclass(frozen=True, slots=True)
class StreamSite:
    """All of them."""

    gateway: Child
    readers: Child
    adapter: Server
    floor: Server
    channel: grpc.aio.Channel
    http: aiohttp.ClientSession
    metrics_url: str

    async def adopt(self, agents: Iterable[int], *, polled: bool) -> None:
        """Give the adapter sessions, with a poll each or without."""
        stub: Any = sessions_pb2_grpc.InspectorSessionsStub(self.channel)
        source = sessions_pb2.EVENT_SOURCE_POLL if polled else sessions_pb2.EVENT_SOURCE_NONE
        left = iter(agents)

        async def some() -> None:
            for agent_id in left:
                request = sessions_pb2.AdoptRequest(
                    agent_id=str(agent_id), guid=f"{agent_id:048x}.AgentGateway0", event_source=source
                )
                await stub.Adopt(request, timeout=_ADOPT_SECONDS)

        await asyncio.gather(*(some() for _ in range(_AT_ONCE)))

    async def feed(self, agent_id: int, body: bytes) -> None:
        """Bring in events from elsewhere."""
        stub: Any = events_pb2_grpc.InspectorEventsStub(self.channel)
        await stub.Feed(events_pb2.FeedRequest(agent_id=str(agent_id), body=body), timeout=_ADOPT_SECONDS)

    async def open(self, group: str, server: Server, count: int, inspectors: range, window: int = 0) -> None:
        """Open so many streams, and wait until each has its first message."""
        agents = f"{inspectors[0]}-{inspectors[-1]}"
        await self.readers.ask("open", group, str(server.port), str(count), agents, str(window))
        await self.until(group, "standing", count)

    async def until(self, group: str, what: str, count: int) -> dict[str, Any]:
        """Wait until a group has so many of these; return how it stands. Raises RuntimeError if streams end instead."""
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while True:
                state: dict[str, Any] = await self.readers.ask("state", group)
                if state[what] >= count:
                    return state
                if state["ended"] and what != "ended":
                    raise RuntimeError(f"streams of {group} ended: {state['ends']}")
                await asyncio.sleep(_LOOK_SECONDS)

    async def tell(self, agent_id: int) -> None:
        """Have the gateway tell an event as soon as it holds a poll."""
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while not await self.gateway.ask("tell_one", str(agent_id)):  # noqa: ASYNC110 - it is in another process
                await asyncio.sleep(_LOOK_SECONDS)

    async def held(self, count: int) -> None:
        """Wait until the gateway holds so many polls."""
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while (await self.gateway.ask("counts"))["held"] < count:  # noqa: ASYNC110 - it is in another process
                await asyncio.sleep(_LOOK_SECONDS)

    async def delivered(self) -> dict[float, float]:
        """Return how many events took at most so many seconds from their reading to their writing."""
        async with self.http.get(self.metrics_url) as answer:
            page = await answer.text()
        return {
            float(sample.labels["le"]): sample.value
            for family in text_string_to_metric_families(page)
            if family.name == _DELIVERY
            for sample in family.samples
            if sample.name == f"{_DELIVERY}_bucket"
        }


@contextlib.asynccontextmanager
async def stream_site(folder: Path, bookmark_seconds: float) -> AsyncIterator[StreamSite]:
    """Start them, and end them."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(name: str, module: str, *arguments: str, **environment: str) -> Child:
            child = await Child.start(module, *arguments, errors=folder / f"{name}.err", environment=environment)
            stack.push_async_callback(child.stop)
            return child

        readers = await start("readers", "speed.stream_reader")
        gateway = await start("gateway", "lean_gateway_child")
        floor = await start("floor", "speed.stream_floor", event().hex(), str(bookmark_seconds))
        adapter = await start(
            "adapter",
            "speed.poll_adapter_child",  # which runs as `serve` does, with its rules for garbage
            str(folder / "adapter.log"),
            QC_GATEWAY_URL=await gateway.ask("url"),
            QC_LISTEN="127.0.0.1:0",
            QC_OPS_LISTEN="127.0.0.1:0",
            QC_AUDIT_LOG="off",
            QC_STREAMS_MAX="20000",
            QC_BOOKMARK_SECONDS=str(bookmark_seconds),
        )
        port, ops_port = await adapter.ask("ports")
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{port}"))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        yield StreamSite(
            gateway,
            readers,
            Server("adapter", adapter, int(port)),
            Server("floor", floor, int((await floor.ask("ports"))[0])),
            channel,
            http,
            f"http://127.0.0.1:{ops_port}/metrics",
        )


def event() -> bytes:
    """Return a message of the floor that is as long as that of an event of the adapter."""
    call_id = STAMP.decode() + "0" * STAMP_DIGITS
    called = events_pb2.Call(call_id=call_id, caller="13800000000", called="70092", feature="0")
    told = events_pb2.AgentEvent(
        cursor="0123456789ab-12", event_type="AgentEvent_Talking", work_no="1000", talking=called
    )
    told.received_time.FromNanoseconds(time.time_ns())
    content = {"callid": call_id, "caller": "13800000000", "called": "70092", "callFeature": 0}
    told.content.struct_value.update(content)
    return events_pb2.WatchResponse(cursor="0123456789ab-12", event=told).SerializeToString()
