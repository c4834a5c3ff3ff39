"""A caller in good faith: some calls a second, a stream that stays open, a command now and then. None may fail."""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

import grpc

from bench.driver import Callers, Order
from qc_adapter.v1 import events_pb2, events_pb2_grpc, sessions_pb2, sessions_pb2_grpc

if TYPE_CHECKING:
    import aiohttp

PAUSE_SECONDS: Final = 0.02
CALL_SECONDS: Final = 10.0
NEWCOMER_SECONDS: Final = 3.0
INSPECTOR: Final = "101"
AGENT: Final = "292"
#: The one whom attackers watch; another system reads for it and feeds its events in.
FED: Final = "102"
_EVENTS: Final = b'{"retcode":"0","event":{"eventType":"AgentState_Busy","content":"' + b"x" * 2000 + b'"}}'
_EVENT_EVERY: Final = 5


@dataclass(slots=True)
class Met:
    """What the caller met with: the seconds that its calls took, and those that failed."""

    seconds: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    #: Callers who came meanwhile, with a connection of their own, and how many of them were served.
    newcomers: int = 0
    served: int = 0

    def cut(self, part: int) -> float:
        """Return the time within which that many of a hundred calls ended."""
        if len(self.seconds) < 2:
            return float("nan")
        return statistics.quantiles(self.seconds, n=100)[part - 1]


class Caller:
    """Calls over one channel, as a service does; each call begins at its time, whatever the last one does."""

    def __init__(self, target: str, gateway_url: str, http: aiohttp.ClientSession) -> None:
        self._target = target
        self._channel = grpc.aio.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1)])
        self._sessions = sessions_pb2_grpc.InspectorSessionsStub(self._channel)
        self._events = events_pb2_grpc.InspectorEventsStub(self._channel)
        self._commands = Callers(self._channel)
        self._gateway_url, self._http = gateway_url, http
        self._met = Met()
        self._running: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self.problems: list[str] = []
        self.heard = 0
        #: Descriptors of the adapter with this caller alone.
        self.fds = 0

    async def __aenter__(self) -> Self:
        await self._commands.sign_in([INSPECTOR])
        adopted = sessions_pb2.AdoptRequest(agent_id=FED, guid="fed", event_source=sessions_pb2.EVENT_SOURCE_NONE)
        await self._sessions.Adopt(adopted, timeout=CALL_SECONDS)
        self._watching = asyncio.create_task(self._watch(), name="watch")
        async with self._http.post(f"{self._gateway_url}/simulator/calls", json={"agent_id": AGENT}) as reply:
            reply.raise_for_status()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await self._channel.close()

    def begin(self) -> None:
        """Call from now on."""
        self._met = Met()
        self._running = asyncio.create_task(self._call_on(), name="calls")

    async def end(self) -> Met:
        """Stop calling, wait for what is under way, and return what was met."""
        assert self._running is not None
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        return self._met

    async def measured(self, seconds: float) -> Met:
        """Call for that long."""
        self.begin()
        await asyncio.sleep(seconds)
        return await self.end()

    async def command(self) -> str:
        """Listen to the agent's call and stop; return how that ended."""
        for rpc in ("Listen", "StopInspecting"):
            result = await self._commands.run(Order(rpc, INSPECTOR, AGENT))
            if result.ending != "confirmed":
                return f"{rpc} {result.ending} {result.detail}"
        return "confirmed"

    async def _come_new(self) -> None:
        """Come as another caller does, once a second, on a new connection."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        while True:
            met = self._met
            try:
                async with grpc.aio.insecure_channel(self._target, options=options) as channel:
                    stub = sessions_pb2_grpc.InspectorSessionsStub(channel)
                    await stub.Get(sessions_pb2.GetRequest(agent_id=INSPECTOR), timeout=NEWCOMER_SECONDS)
            except grpc.aio.AioRpcError:
                met.newcomers += 1
            else:
                met.newcomers += 1
                met.served += 1
            await asyncio.sleep(1.0)

    async def _call_on(self) -> None:
        newcomers = asyncio.create_task(self._come_new(), name="newcomers")
        calls: set[asyncio.Task[None]] = set()
        number = 0
        try:
            while True:
                call = asyncio.create_task(self._one(number), name="call")
                calls.add(call)
                call.add_done_callback(calls.discard)
                number += 1
                await asyncio.sleep(PAUSE_SECONDS)
        finally:
            await asyncio.gather(*calls, return_exceptions=True)
            newcomers.cancel()
            await asyncio.gather(newcomers, return_exceptions=True)

    async def _one(self, number: int) -> None:
        began = time.monotonic()
        try:
            if number % _EVENT_EVERY:
                await self._sessions.Get(sessions_pb2.GetRequest(agent_id=INSPECTOR), timeout=CALL_SECONDS)
            else:
                fed = events_pb2.FeedRequest(agent_id=FED, body=_EVENTS, batch_id=f"{began}")
                await self._events.Feed(fed, timeout=CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            rpc = "Get" if number % _EVENT_EVERY else "Feed"
            self._met.failed.append(
                f"{rpc} after {time.monotonic() - began:.1f} s: {error.code().name} {error.details()}"
            )
        else:
            self._met.seconds.append(time.monotonic() - began)

    async def _watch(self) -> None:
        call: Any = self._events.Watch(events_pb2.WatchRequest(agent_id=FED))
        try:
            async for _ in call:
                self.heard += 1
        except grpc.aio.AioRpcError as error:
            self.problems.append(f"the open stream ended: {error.code().name}: {error.details()}")
        else:
            self.problems.append("the open stream ended")
