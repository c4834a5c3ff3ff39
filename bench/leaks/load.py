"""The mixed load of `make leaks`: commands, half of them cancelled, streams that break off, resets, rotations."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import grpc

from bench.abuse.wire import Wire
from bench.driver import Callers, Leaving, Order, Result
from qc_adapter.v1 import events_pb2, events_pb2_grpc, sessions_pb2, sessions_pb2_grpc
from qc_adapter.v1 import quality_control_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from bench.children import Bench
    from bench.redis_server import RedisServer

#: The last inspectors, who take turns in signing out, command nothing: what they are told would prove nothing.
LEAVERS: Final = 5
_FIRST_AGENT: Final = 3000
_AGENTS: Final = 50_000
_WATCH: Final = "/qc_adapter.v1.InspectorEvents/Watch"
_DEADLINE_SECONDS: Final = 30.0
_RESETS: Final = ("reset_before", "reset_after", "cut_json", "empty200")
_RESET_OPERATIONS: Final = ("getAgentEvent", "intercept", "addSupervise")
_STREAMS_CUT: Final = 8
#: What may become of a call when replies are lost, callers leave and Redis drops connections; all else is a defect.
_FORESEEN: Final = frozenset({
    "confirmed", "unconfirmed", "cancelled", "refused", "OUTCOME_UNKNOWN", "GATEWAY_UNAVAILABLE", "STORE_UNAVAILABLE",
    "DEADLINE_EXCEEDED", "INSPECTOR_NOT_SIGNED_IN", "INSPECTOR_SESSION_LOST", "INVALID_AGENT_ID", "SELF_INSPECTION",
    "CURSOR_EXPIRED", "OK", "CANCELLED", "FAILED_PRECONDITION",
})  # fmt: skip


class Load:
    """Keeps everything going until it is stopped."""

    def __init__(self, bench: Bench, channel: grpc.aio.Channel, redis: RedisServer, inspectors: Sequence[str]) -> None:
        self._bench = bench
        self._redis = redis
        self._callers = Callers(channel)
        self._sessions = sessions_pb2_grpc.InspectorSessionsStub(channel)
        self._events = events_pb2_grpc.InspectorEventsStub(channel)
        self._random = random.Random(7)  # noqa: S311 - a repeatable choice, nothing secret
        self._agents = itertools.cycle(range(_FIRST_AGENT, _FIRST_AGENT + _AGENTS))
        self._inspectors = list(inspectors)
        self._numbers = itertools.count(1)
        self._free: asyncio.Queue[str] = asyncio.Queue()
        #: What came of everything, by kind.
        self.endings: Counter[str] = Counter()

    @property
    def defects(self) -> list[str]:
        """Endings that nothing in this load explains."""
        return sorted(what for what in self.endings if what.partition(" ")[2] not in _FORESEEN)

    async def sign_in(self) -> None:
        """Sign all inspectors in, with credentials that are kept: a gateway that forgets them costs nothing."""
        await self._callers.sign_in(self._inspectors, again=True)

    async def run(self, seconds: float, workers: int, pace_seconds: float) -> None:
        """Keep that many workers at it, each beginning a cycle of commands every so often."""
        until = time.monotonic() + seconds
        for inspector in self._inspectors[:-LEAVERS]:
            self._free.put_nowait(inspector)
        kinds: list[tuple[Callable[[], Awaitable[None]], float]] = [
            *[(self._cycle, pace_seconds)] * workers,
            *[(self._watch, 0.1)] * workers,
            (self._ask, 0.1),
            (self._ask_wrongly, 0.5),
            (self._leave_hard, 2.0),
            (self._reset, 5.0),
            (self._sign_out_and_in, 10.0),
            (self._cut_redis, 60.0),
        ]
        async with asyncio.TaskGroup() as group:
            for what, pause in kinds:
                group.create_task(self._again(what, pause, until))

    async def _again(self, what: Callable[[], Awaitable[None]], pause: float, until: float) -> None:
        await asyncio.sleep(self._random.uniform(0, pause))
        while (began := time.monotonic()) < until:
            await what()
            await asyncio.sleep(max(0.0, pause - (time.monotonic() - began)))

    async def _cycle(self) -> None:
        """Listen to a call and take it over; half of the commands are given up on the way."""
        inspector, agent = await self._free.get(), str(next(self._agents))
        try:
            call_id = await self._bench.begin_call(agent)
            for rpc in self._random.choice((("Listen", "Intercept"), ("Listen", "StopInspecting"))):
                request_id = f"leaks-{next(self._numbers)}" if self._random.random() < 0.3 else ""
                order = Order(rpc, inspector, agent, request_id)
                self._note(rpc, await self._callers.run(order, self._leaving()))
            await self._bench.end_call(call_id)
        finally:
            self._free.put_nowait(inspector)

    def _leaving(self) -> Leaving:
        if self._random.random() < 0.5:
            return Leaving()
        if self._random.random() < 0.5:
            return Leaving(after_seconds=self._random.uniform(0, 0.3))
        return Leaving(after_messages=self._random.randint(1, 3))

    def _note(self, what: str, result: Result) -> None:
        """Count a result by its ending, a failed one by its reason."""
        ending = result.ending
        if ending == "failed":
            code, _, reason = result.detail.partition(":")[0].partition(" ")
            ending = reason or code
        self.endings[f"{what} {ending}"] += 1

    async def _watch(self) -> None:
        """Watch somebody for a while, from some place, and go."""
        start = self._random.choice(("", "oldest"))
        call = self._events.Watch(
            events_pb2.WatchRequest(agent_id=self._random.choice(self._inspectors), cursor=start),
            timeout=self._random.uniform(0.05, _DEADLINE_SECONDS),
        )
        messages = self._random.randint(1, 40)
        with contextlib.suppress(grpc.aio.AioRpcError):
            async for _told in call:
                messages -= 1
                if not messages:
                    call.cancel()
                    break
        self.endings[f"Watch {'CANCELLED' if call.cancelled() else (await call.code()).name}"] += 1

    async def _ask(self) -> None:
        agent_id = self._random.choice(self._inspectors)
        await self._unary("Get", self._sessions.Get(sessions_pb2.GetRequest(agent_id=agent_id), timeout=5))
        if self._random.random() < 0.1:
            await self._unary("List", self._sessions.List(sessions_pb2.ListRequest(page_size=10), timeout=5))

    async def _ask_wrongly(self) -> None:
        for inspector, agent in (("0", "292"), (self._inspectors[0], self._inspectors[0]), ("59000", "292")):
            self._note("Wrong", await self._callers.run(Order("Intercept", inspector, agent)))

    async def _sign_out_and_in(self) -> None:
        agent_id = self._random.choice(self._inspectors[-LEAVERS:])
        request = sessions_pb2.SignOutRequest(agent_id=agent_id, force=True)
        await self._unary("SignOut", self._sessions.SignOut(request, timeout=20))
        again = sessions_pb2.SignInRequest(
            agent_id=agent_id,
            password="",
            phone_number=f"4{agent_id}",
            force=True,
            re_sign_in=sessions_pb2.RE_SIGN_IN_SAME_CREDENTIALS,
        )
        await self._unary("SignIn", self._sessions.SignIn(again, timeout=20))

    async def _unary(self, what: str, call: Any) -> None:
        try:
            await call
        except grpc.aio.AioRpcError as error:
            # The reason stands in the status details; these calls fail for one that the code tells.
            code = error.code().name
            self.endings[f"{what} {'STORE_UNAVAILABLE' if code == 'UNAVAILABLE' else code}"] += 1
        else:
            self.endings[f"{what} OK"] += 1

    async def _leave_hard(self) -> None:
        """Open streams and an intercept on a connection, and cut it."""
        host, _, port = self._bench.target.partition(":")
        wire = await Wire.open(host, int(port))
        try:
            for agent_id in self._random.sample(self._inspectors, _STREAMS_CUT):
                await wire.send(wire.call(_WATCH, events_pb2.WatchRequest(agent_id=agent_id).SerializeToString()))
            options = pb.CommandOptions(request_id=f"cut-{next(self._numbers)}")
            request = pb.InterceptRequest(agent_id=self._inspectors[0], work_no="292", options=options)
            path = "/qc_adapter.v1.QualityControl/Intercept"
            await wire.send(wire.call(path, request.SerializeToString()))
            await asyncio.sleep(self._random.uniform(0, 0.5))
        finally:
            await wire.close()
        self.endings["Connection CANCELLED"] += 1

    async def _reset(self) -> None:
        """Let the gateway lose the next reply of a kind."""
        fault = {
            "match": {"operation": self._random.choice(_RESET_OPERATIONS)},
            "action": self._random.choice(_RESETS),
        }
        async with self._bench.http.post(f"{self._bench.simulator_url}/simulator/faults", json=fault) as reply:
            reply.raise_for_status()
        self.endings["Reset OK"] += 1

    async def _cut_redis(self) -> None:
        def cut() -> None:
            with self._redis.client() as client:
                client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

        await asyncio.to_thread(cut)
        self.endings["Redis CANCELLED"] += 1
