"""Limits of several callers over a real server on loopback: who is refused, what is told, what comes back."""

import asyncio
import random
import time
from contextlib import asynccontextmanager, suppress

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode
from prometheus_client import CollectorRegistry

from qc_adapter.access.caller import Caller
from qc_adapter.access.limit_values import NO_LIMITS, Limits
from qc_adapter.rpc import calls
from qc_adapter.rpc.calls import CallInterceptor
from qc_adapter.rpc.gate import AllRights, Gate
from qc_adapter.rpc.observers import CallLog, CallMetrics, Refusals
from qc_adapter.rpc.room import LimitedRoom
from qc_adapter.settings import LimitSettings
from qc_adapter.telemetry.labels import label_sets
from qc_adapter.telemetry.metrics import Metrics
from qc_adapter.v1 import events_pb2
from tests.support.watching import recorded, until


class Named:
    """Callers are who they say they are."""

    async def identify(self, call):
        return Caller((f"dns:{call.metadata['who']}",))


class Everything(AllRights):
    """Callers may do everything, and their names are those of the policy."""

    def name_of(self, caller):
        return caller.name.removeprefix("dns:")


class Probe:
    """Handlers that wait, fail or answer, as the cursor of the request says."""

    def __init__(self):
        self.waiting = 0

    async def once(self, request, _context):
        await self._do(request.cursor)
        return events_pb2.FeedResponse()

    async def many(self, request, _context):
        if "silent" not in request.cursor:
            yield events_pb2.WatchResponse(cursor="1")
        await self._do(request.cursor)

    async def _do(self, wish):
        if "defect" in wish:
            raise KeyError(wish)
        if "wait" in wish:
            self.waiting += 1
            try:
                await asyncio.Event().wait()
            finally:
                self.waiting -= 1


class Line:
    """A server with limits by caller, and calls to it."""

    def __init__(self, overall=None, **by_caller):
        self.probe = Probe()
        self.registry = CollectorRegistry()
        metrics = Metrics(self.registry, label_sets({"default"}, {"Once", "Many"}, {"0"}, set()))
        metrics.callers(by_caller)
        self.room = LimitedRoom(
            overall or LimitSettings(), lambda caller: by_caller.get(caller.name.removeprefix("dns:"), NO_LIMITS)
        )
        self._interceptor = CallInterceptor(
            {}, [CallMetrics(metrics), CallLog()], Gate(Named(), self.room, Everything())
        )

    async def start(self):
        read, write = events_pb2.WatchRequest.FromString, type(events_pb2.WatchResponse()).SerializeToString
        fed = events_pb2.FeedResponse.SerializeToString
        handlers = {
            "Once": grpc.unary_unary_rpc_method_handler(self.probe.once, read, fed),
            "Many": grpc.unary_stream_rpc_method_handler(self.probe.many, read, write),
        }
        self._server = grpc.aio.server(interceptors=[self._interceptor])
        self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("qc_adapter.v1.Probe", handlers)])
        port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")

    async def stop(self):
        await self.channel.close()
        await self._server.stop(None)

    def once(self, who, wish="", agent_id="101", timeout=5):
        request = events_pb2.WatchRequest(agent_id=agent_id, cursor=wish).SerializeToString()
        return self.channel.unary_unary("/qc_adapter.v1.Probe/Once")(request, timeout=timeout, metadata=(("who", who),))

    def many(self, who, wish="", agent_id="101", timeout=5):
        request = events_pb2.WatchRequest(agent_id=agent_id, cursor=wish).SerializeToString()
        return self.channel.unary_stream("/qc_adapter.v1.Probe/Many")(
            request, timeout=timeout, metadata=(("who", who),)
        )

    def half(self, who):
        """A call whose request does not come."""
        return self.channel.stream_unary("/qc_adapter.v1.Probe/Once")(timeout=5, metadata=(("who", who),))

    def refusals(self, who, limit):
        return self.registry.get_sample_value("qc_calls_refused_total", {"caller": who, "why": limit})


@asynccontextmanager
async def opened(overall=None, **by_caller):
    line = Line(overall, **by_caller)
    await line.start()
    try:
        yield line
    finally:
        await line.stop()


@asynccontextmanager
async def recorded_line(**by_caller):
    """The same, with its log out of the way."""
    with recorded():
        async with opened(**by_caller) as line:
            yield line


async def _read(call):
    async for _ in call:
        pass


async def refusal(call):
    """The reason, the limit and the seconds of RetryInfo, None without one, that a call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await (_read(call) if isinstance(call, grpc.aio.UnaryStreamCall) else call)
    error = failed.value
    assert error.code() is StatusCode.RESOURCE_EXHAUSTED, error
    details = status_pb2.Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"]).details
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert details[0].Unpack(info)
    seconds = None
    if len(details) > 1 and details[1].Unpack(retry):
        seconds = retry.retry_delay.ToTimedelta().total_seconds()
    return info.reason, info.metadata["limit"], seconds


async def test_each_limit_of_a_caller_is_reached_told_and_counted():
    """The answer names the limit and when to come again, the metric the caller and the limit."""
    limits = {
        "slow": Limits(calls_per_second=1),
        "few": Limits(calls=1),
        "short": Limits(message_bytes=30),
        "streams": Limits(streams=1),
        "inspectors": Limits(streams_per_inspector=1),
    }
    async with opened(**limits) as line:
        await line.once("slow")
        reason, limit, seconds = await refusal(line.once("slow"))
        assert (reason, limit) == ("LIMIT_REACHED", "calls_per_second")
        assert 0 < seconds <= 1
        held = line.once("few", "wait")
        await until(lambda: line.probe.waiting == 1)
        assert await refusal(line.once("few")) == ("LIMIT_REACHED", "calls", 1.0)
        held.cancel()
        assert await refusal(line.once("short", "x" * 60)) == ("LIMIT_REACHED", "message_bytes", None)
        for who, limit in (("streams", "streams"), ("inspectors", "streams_per_inspector")):
            held = line.many(who, "wait")
            assert await held.read()
            assert await refusal(line.many(who, "wait")) == ("LIMIT_REACHED", limit, 1.0)
            if who == "inspectors":
                other = line.many(who, "wait", agent_id="102")
                assert await other.read()
                other.cancel()
            held.cancel()
            await until(lambda: line.room.unused)
            assert await line.many(who).read()
        counted = {who: line.refusals(who, limit) for who, limit in (
            ("slow", "calls_per_second"), ("few", "calls"), ("short", "message_bytes"), ("streams", "streams"),
            ("inspectors", "streams_per_inspector"))}  # fmt: skip
        assert counted == dict.fromkeys(limits, 1.0)


async def test_the_limits_of_all_callers_are_told_as_such():
    """What all use together is limited for each of them, with the old reason for streams."""
    async with opened(LimitSettings(calls=2, streams=1, message_bytes=100)) as line:
        held = line.many("one", "wait")
        assert await held.read()
        assert await refusal(line.many("two")) == ("TOO_MANY_STREAMS", "streams", 1.0)
        assert await refusal(line.once("two", "x" * 200)) == ("LIMIT_REACHED", "message_bytes", None)
        waiting = [line.once("one", "wait"), line.once("two", "wait")]
        await until(lambda: line.probe.waiting == 3)
        assert await refusal(line.once("three")) == ("LIMIT_REACHED", "calls", 1.0)
        for call in (held, *waiting):
            call.cancel()


async def test_a_caller_at_its_limit_does_not_touch_another():
    """While one caller is refused at every call, another gets all of its own."""
    async with opened(flood=Limits(calls_per_second=1, calls=1, streams=1)) as line:

        async def flood():
            for _ in range(100):
                with suppress(grpc.aio.AioRpcError):
                    await line.once("flood")

        async def desk():
            for _ in range(20):
                await line.once("desk")
                assert len([one async for one in line.many("desk")]) == 1

        await asyncio.gather(flood(), flood(), desk())
        assert line.refusals("flood", "calls_per_second") + line.refusals("flood", "calls") >= 190


async def test_a_stream_that_is_answered_is_no_call_under_way():
    """Open streams that have been answered leave all calls to their caller; one that is not answered yet takes one."""
    async with opened(desk=Limits(calls=1, streams=10)) as line:
        held = [line.many("desk", "wait")]
        assert await held[0].read()
        held.append(line.many("desk", "wait"))
        assert await held[1].read()
        silent = line.many("desk", "wait silent")
        await until(lambda: line.probe.waiting == 3)
        assert await refusal(line.once("desk")) == ("LIMIT_REACHED", "calls", 1.0)
        for call in (*held, silent):
            call.cancel()


async def test_a_call_whose_request_does_not_come_ends_and_gives_its_place_back(monkeypatch):
    """Half a call counts to its caller, and not for longer than a request may take."""
    monkeypatch.setattr(calls, "_REQUEST_SECONDS", 0.3)
    async with opened(desk=Limits(calls=1)) as line:
        half = line.half("desk")
        await until(lambda: not line.room.unused)
        assert await refusal(line.once("desk")) == ("LIMIT_REACHED", "calls", 1.0)
        with pytest.raises(grpc.aio.AioRpcError, match="did not come within") as failed:
            await half
        assert failed.value.code() is StatusCode.INVALID_ARGUMENT
        await line.once("desk")


async def test_calls_that_end_in_any_way_leave_no_place_taken():
    """Cancelled, late, failed, refused and half-sent calls of two callers: afterwards nothing is held."""
    chance = random.Random(6)  # noqa: S311 - to be repeated
    few = Limits(calls=8, streams=6, streams_per_inspector=3)
    async with recorded_line(one=few, two=few) as line:

        async def one():
            who, agent_id = chance.choice(["one", "two"]), chance.choice(["101", "102", ""])
            wish = chance.choice(["", "", "wait", "defect", "silent", "wait silent"])
            timeout = chance.choice([5, 0.02]) if "wait" in wish else 5
            kind = chance.choice(["once", "many", "many", "half"])
            call = line.half(who) if kind == "half" else getattr(line, kind)(who, wish, agent_id, timeout)
            if kind == "half" or (timeout == 5 and "wait" in wish):
                await asyncio.sleep(chance.random() / 50)
                call.cancel()
            with suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
                if kind == "many":
                    async for _ in call:
                        pass
                else:
                    await call

        for _ in range(6):
            await asyncio.gather(*(one() for _ in range(30)))
        await until(lambda: line.room.unused and not line.probe.waiting)


async def test_a_flood_is_one_line_a_second_and_no_more():
    """Refused calls of a caller are counted in the lines about them; what others do is told call by call."""
    with recorded() as tape:
        async with opened(flood=Limits(calls_per_second=1)) as line:
            began = time.monotonic()
            for _ in range(200):
                with suppress(grpc.aio.AioRpcError):
                    await line.once("flood")
            await line.once("desk")
            seconds = time.monotonic() - began
            refused = [one for one in tape.lines if one.get("limit") == "calls_per_second"]
            assert 1 <= len(refused) <= 1 + seconds
            assert refused[0]["count"] == 1
            assert refused[0]["grpc_code"] == "RESOURCE_EXHAUSTED"
            assert sum(one["count"] for one in refused) <= line.refusals("flood", "calls_per_second")
            assert [one["grpc_code"] for one in tape.lines if one["event"] == "call_finished"].count("OK") >= 2


def test_refusals_are_told_again_after_a_second_with_their_number():
    """The first is told at once, the next line a second later has all since; callers of long ago are forgotten."""
    refusals = Refusals()
    assert [refusals.due("desk", 10.0 + tenth / 10) for tenth in range(11)] == [1] + [0] * 9 + [10]
    assert refusals.due("other", 11.0) == 1
    for number in range(1000):
        refusals.due(str(number), 100.0 + number)
    assert len(refusals) <= 11
