"""Every way a call can end, over a real server and channel on loopback, with a servicer of a few lines."""

import asyncio
import gc
import json
import time
import weakref
from contextlib import aclosing, asynccontextmanager
from types import SimpleNamespace

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode
from structlog.testing import capture_logs

from qc_adapter.model.errors import GatewayRefused, NotSignedIn
from qc_adapter.rpc.call import current_call, deadline_of
from qc_adapter.rpc.calls import CallInterceptor
from qc_adapter.rpc.gate import Gate
from qc_adapter.rpc.room import LimitedRoom
from qc_adapter.settings import LimitSettings

SECRET = "c0ffee-planted-secret"


class Probe:
    """A servicer that does what the request says: `n` messages, then an end."""

    def __init__(self):
        self.cleaned = asyncio.Event()
        self.waiting = asyncio.Event()

    async def once(self, request, _context):
        wanted = json.loads(request)
        current_call().agent_id = wanted.get("agent_id", "")
        await self._end(wanted)
        await asyncio.sleep(0)
        return self._seen()

    async def many(self, request, _context):
        wanted = json.loads(request)
        current_call().agent_id = wanted.get("agent_id", "")
        try:
            for _ in range(wanted.get("messages", 0)):
                yield self._seen()
                await asyncio.sleep(0)
            await self._end(wanted)
        finally:
            self.cleaned.set()

    async def left(self, _request, context):
        return json.dumps(deadline_of(context).remaining_seconds).encode()

    async def _end(self, wanted):
        match wanted.get("end"):
            case "refused":
                raise GatewayRefused("intercept", "900-003", "wrong state")
            case "not_signed_in":
                raise NotSignedIn(wanted["agent_id"])
            case "defect":
                raise KeyError(SECRET)
            case "wait":
                self.waiting.set()
                await asyncio.Event().wait()

    @staticmethod
    def _seen():
        return json.dumps([current_call().agent_id]).encode()


class Observer:
    """Keeps what it was told, in one list with the others."""

    def __init__(self, name, told):
        self.name = name
        self.told = told

    def began(self, call):
        self.told.append(("began", self.name, call))

    def ended(self, call):
        self.told.append(("ended", self.name, call))


async def until(condition):
    """Wait until something is true."""
    ends = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < ends, "the condition never came true"
        await asyncio.sleep(0.001)


class Line:
    """A server with the interceptor, and a channel to it."""

    def __init__(self, **limits):
        self.probe = Probe()
        self.told = []
        self.looked_up = []
        self.room = LimitedRoom(LimitSettings(**{"streams": 150} | limits))
        self.interceptor = CallInterceptor(
            {"Many": "intercept"},
            [Observer("first", self.told), Observer("second", self.told)],
            Gate(room=self.room),
        )

    async def start(self):
        handlers = {
            "Once": grpc.unary_unary_rpc_method_handler(self.probe.once),
            "Many": grpc.unary_stream_rpc_method_handler(self.probe.many),
            "Left": grpc.unary_unary_rpc_method_handler(self.probe.left),
        }
        self.server = grpc.aio.server(interceptors=[self.interceptor])
        self.server.add_generic_rpc_handlers(
            [
                grpc.method_handlers_generic_handler("qc_adapter.v1.Probe", handlers),
                grpc.method_handlers_generic_handler("other.Probe", {"Once": handlers["Once"]}),
            ]
        )
        port = self.server.add_insecure_port("127.0.0.1:0")
        await self.server.start()
        self.address = f"127.0.0.1:{port}"
        self.channel = grpc.aio.insecure_channel(self.address)

    async def stop(self):
        await self.channel.close()
        await self.server.stop(None)

    def once(self, *, service="qc_adapter.v1.Probe", rpc="Once", timeout=None, **wanted):
        return self.channel.unary_unary(f"/{service}/{rpc}")(json.dumps(wanted).encode(), timeout=timeout)

    def many(self, *, timeout=None, **wanted):
        return self.channel.unary_stream("/qc_adapter.v1.Probe/Many")(json.dumps(wanted).encode(), timeout=timeout)

    async def the_end(self):
        """The call, once its observers know of the end."""
        await until(lambda: self.told and self.told[-1][:2] == ("ended", "first"))
        return self.told[-1][2]


@asynccontextmanager
async def opened(**limits):
    made = Line(**limits)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


@pytest.fixture
async def line():
    async with opened() as made:
        yield made


def info_of(error):
    """The ErrorInfo in an error's trailing metadata."""
    packed = dict(error.trailing_metadata())["grpc-status-details-bin"]
    status = status_pb2.Status.FromString(packed)
    assert status.code == error.code().value[0]
    assert status.message == error.details()
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info


async def read(stream):
    """All messages of a stream, and the error that it ended with, if any."""
    messages = []
    try:
        async with asyncio.timeout(5):
            async for message in stream:
                messages.append(message)  # noqa: PERF401 - what came before an error counts
    except grpc.aio.AioRpcError as error:
        return messages, error
    return messages, None


async def test_a_good_call_is_ok(line):
    """Both kinds of calls pass through whole and are recorded as OK."""
    assert json.loads(await line.once(agent_id="101"))[0] == "101"
    call = await line.the_end()
    assert (call.code, call.rpc, call.method, call.service) == (StatusCode.OK, "Once", "Once", "Probe")
    assert call.streaming is False
    line.told.clear()
    messages, error = await read(line.many(messages=3))
    call = await line.the_end()
    assert (len(messages), error) == (3, None)
    assert (call.code, call.method, call.streaming) == (StatusCode.OK, "intercept", True)


async def test_observers_end_in_reverse_order(line):
    """The chain is symmetric: who is told of the begin first hears of the end last, and of each once."""
    await line.once()
    await line.the_end()
    assert [told[:2] for told in line.told] == [
        ("began", "first"),
        ("began", "second"),
        ("ended", "second"),
        ("ended", "first"),
    ]
    assert len({id(call) for _, _, call in line.told}) == 1


class Listening:
    """An observer that hears the messages of a call, and so has a hold of it."""

    def __init__(self):
        self.heard = []
        self.ears = []

    def began(self, call):
        def hear(message):
            self.heard.append((call.rpc, message))

        call.witness = call.listener = hear
        self.ears.append(weakref.ref(hear))

    def ended(self, call):
        """Nothing is done then."""


@pytest.mark.parametrize("end", ["", "refused"])
async def test_who_hears_a_call_is_let_go_with_its_end(line, end):
    """A call and those who hear its messages hold each other: nothing of it may wait for the garbage collector."""
    listening = Listening()
    line.interceptor._observers.append(listening)
    gc.disable()
    try:
        await read(line.many(messages=2, end=end))
        await line.the_end()
        assert len(listening.heard) == 4  # twice each: before it is written, and after
        assert [ear() for ear in listening.ears] == [None]
    finally:
        gc.enable()


@pytest.mark.parametrize("before", [0, 2])
async def test_a_stream_that_failed_leaves_nothing(line, before):
    """What it failed with holds its frames, and they its request: it is gone without the garbage collector."""
    failures = []

    def seen(failure):
        failures.append(weakref.ref(failure))
        return failure

    async def fail(_wanted):
        raise seen(GatewayRefused("intercept", "900-003", "wrong state"))  # which no frame of ours holds

    line.probe._end = fail
    gc.disable()
    try:
        messages, error = await read(line.many(messages=before))
        assert (len(messages), error.code()) == (before, StatusCode.FAILED_PRECONDITION)
        await until(lambda: failures[0]() is None)
    finally:
        gc.enable()


@pytest.mark.parametrize("rpc", ["Once", "Many"])
async def test_a_client_may_try_again_by_its_own_policy(line, rpc):
    """Nothing goes before the status of a call that fails at once: with a message before it no client tries again."""
    policy = {"maxAttempts": 3, "initialBackoff": "0.01s", "maxBackoff": "0.01s", "backoffMultiplier": 1}
    policy["retryableStatusCodes"] = ["FAILED_PRECONDITION"]
    config = json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": policy}]})
    async with grpc.aio.insecure_channel(line.address, options=[("grpc.service_config", config)]) as channel:
        path, asked = f"/qc_adapter.v1.Probe/{rpc}", json.dumps({"end": "refused"}).encode()
        if rpc == "Once":
            with pytest.raises(grpc.aio.AioRpcError) as failure:
                await channel.unary_unary(path)(asked)
            error = failure.value
        else:
            _, error = await read(channel.unary_stream(path)(asked))
    assert info_of(error).reason == "WRONG_INSPECTION_STATE"
    assert [told[0] for told in line.told if told[1] == "first"] == ["began", "ended"] * 3


@pytest.mark.parametrize("before", [0, 1, 3])
async def test_an_error_of_the_domain_is_answered_at_any_message(line, before):
    """The messages before an error arrive, and the error has its status and details."""
    messages, error = await read(line.many(messages=before, end="refused"))
    assert len(messages) == before
    assert error.code() is StatusCode.FAILED_PRECONDITION
    info = info_of(error)
    assert (info.reason, info.metadata["retcode"]) == ("WRONG_INSPECTION_STATE", "900-003")
    call = await line.the_end()
    assert (call.code, call.reason, call.retcode) == (error.code(), "WRONG_INSPECTION_STATE", "900-003")
    assert line.probe.cleaned.is_set()


async def test_an_error_of_a_unary_call_is_answered(line):
    """A unary call is answered by the same table."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await line.once(agent_id="101", end="not_signed_in")
    assert info_of(error.value).reason == "INSPECTOR_NOT_SIGNED_IN"
    call = await line.the_end()
    assert (call.code, call.agent_id) == (StatusCode.FAILED_PRECONDITION, "101")


@pytest.mark.parametrize("before", [0, 2])
async def test_a_defect_is_internal_and_says_nothing(line, before):
    """An unforeseen exception is INTERNAL; its text goes to the log only."""
    messages, error = await read(line.many(messages=before, end="defect"))
    assert len(messages) == before
    assert error.code() is StatusCode.INTERNAL
    assert info_of(error).reason == "INTERNAL"
    assert SECRET not in error.details()
    assert SECRET not in str(error.trailing_metadata())
    assert (await line.the_end()).code is StatusCode.INTERNAL


async def test_a_defect_of_a_unary_call_is_internal(line):
    """The same holds for a unary call."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await line.once(end="defect")
    assert error.value.code() is StatusCode.INTERNAL
    assert SECRET not in error.value.details()
    assert (await line.the_end()).code is StatusCode.INTERNAL


@pytest.mark.parametrize("kind", ["once", "many"])
async def test_a_caller_that_goes_away_is_recorded_as_cancelled(line, kind):
    """Cancelling ends the handler, with its cleanup, and is counted as what it is."""
    call = getattr(line, kind)(end="wait")
    reading = asyncio.create_task(read(call) if kind == "many" else call.code())
    async with asyncio.timeout(5):
        await line.probe.waiting.wait()
    call.cancel()
    assert (await line.the_end()).code is StatusCode.CANCELLED
    await asyncio.gather(reading, return_exceptions=True)
    assert kind == "once" or line.probe.cleaned.is_set()


@pytest.mark.parametrize("kind", ["once", "many"])
async def test_a_deadline_is_recorded_as_such(line, kind):
    """A call that the caller's deadline ended is not counted as cancelled."""
    call = getattr(line, kind)(end="wait", timeout=0.1)
    assert await call.code() is StatusCode.DEADLINE_EXCEEDED
    assert (await line.the_end()).code is StatusCode.DEADLINE_EXCEEDED


async def test_our_answer_has_time_to_arrive(line):
    """A handler sees a little less than the caller's deadline, and no deadline where there is none."""
    for timeout in (1.0, 20.0, 100.0, 300.0):  # long ones are rounded up on the wire
        left = json.loads(await line.once(rpc="Left", timeout=timeout))
        assert 0.5 * timeout < left <= timeout - min(0.25, 0.1 * timeout)
    assert json.loads((await line.once(rpc="Left")).replace(b"Infinity", b"null")) is None


async def test_calls_do_not_mix(line):
    """Two hundred calls at once each see their own call, from the first message to the last."""

    async def one(number):
        if number % 2:
            return {json.loads(await line.once(agent_id=str(number)))[0]}
        messages, error = await read(line.many(agent_id=str(number), messages=5))
        assert error is None
        assert len(messages) == 5
        return {json.loads(message)[0] for message in messages}

    seen = await asyncio.gather(*(one(number) for number in range(200)))
    assert seen == [{str(number)} for number in range(200)]
    await until(lambda: len(line.told) == 800)  # two observers, two ends of each call


async def test_a_handler_is_wrapped_once(line):
    """Wrapping costs nothing after the first call of a method."""
    await line.once()
    wrapped = line.interceptor._wrapped["/qc_adapter.v1.Probe/Once"]
    await asyncio.gather(*(line.once() for _ in range(10)))
    assert line.interceptor._wrapped == {"/qc_adapter.v1.Probe/Once": wrapped}


async def test_other_services_and_unknown_methods_pass_as_they_are(line):
    """Health, reflection and paths that do not exist are not ours to record."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await line.once(rpc="Nothing")
    assert error.value.code() is StatusCode.UNIMPLEMENTED
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await line.once(service="other.Probe")
    assert error.value.code() is StatusCode.UNKNOWN  # its handler asks for the call that nobody recorded
    assert line.told == []
    assert list(line.interceptor._wrapped) == ["/other.Probe/Once"]  # and no name that somebody made up


async def test_a_stream_beyond_the_limit_is_refused_and_gives_its_place_back():
    """Too many open streams are refused with a reason; unary calls still pass, and an ended stream makes room."""
    async with opened(streams=1) as line:
        held = line.many(messages=1, end="wait")
        assert await held.read()
        _, error = await read(line.many(messages=1))
        assert error.code() is StatusCode.RESOURCE_EXHAUSTED
        assert info_of(error).reason == "TOO_MANY_STREAMS"
        await line.once()
        held.cancel()
        await until(lambda: line.room.unused)
        assert await read(line.many(messages=1)) == ([b'[""]'], None)


async def test_a_call_that_the_limits_refuse_has_an_end_only():
    """Observers hear of a refused call once, with the limit, and of no begin: nothing was done for it."""
    async with opened(streams=1) as line:
        held = line.many(messages=1, end="wait")
        assert await held.read()
        line.told.clear()
        await read(line.many(messages=1))
        assert [told[:2] for told in line.told] == [("ended", "second"), ("ended", "first")]
        assert {told[2].limit for told in line.told} == {"streams"}
        held.cancel()


async def test_a_stream_that_is_not_read_to_its_end_is_cleaned_up(line):
    """A caller may stop in the midst of a stream; the handler's cleanup runs."""
    call = line.many(messages=2, end="wait")
    async with aclosing(aiter(call)) as messages:
        await anext(messages)
    call.cancel()
    async with asyncio.timeout(5):
        await line.probe.cleaned.wait()
    assert (await line.the_end()).code is StatusCode.CANCELLED


async def test_a_caller_that_goes_away_without_reading_leaves_nothing_open(line):
    """A message that cannot be written does not keep the call: it is cleaned up, told of once, and counts no more."""
    call = line.many(messages=1000, agent_id="1" * 10_000)  # more than a connection takes in for who does not read
    await until(lambda: line.told and line.told[0][2].agent_id)
    await until(lambda: not line.told[0][2].revocation._waiting)
    call.cancel()
    assert (await line.the_end()).code is StatusCode.CANCELLED
    assert line.probe.cleaned.is_set()
    await until(lambda: line.room.unused and not line.interceptor._open)
    assert [told[0] for told in line.told] == ["began", "began", "ended", "ended"]


class Gone:
    """Stands for gRPC's context of a call whose caller has gone, before the call is cancelled."""

    invocation_metadata = auth_context = dict
    peer = str

    async def read(self):
        return json.dumps({"messages": 1}).encode()

    async def write(self, _message):
        raise grpc.aio.InternalError("Failed execute_batch")

    def time_remaining(self):
        return None


async def test_a_caller_that_cannot_be_written_to_is_no_defect(line):
    """A message that gRPC cannot write any more ends the call as cancelled; nobody is told anything, and no alarm."""
    handlers = grpc.unary_stream_rpc_method_handler(line.probe.many)

    async def found(_details):
        return handlers

    details = SimpleNamespace(method="/qc_adapter.v1.Probe/Many")
    handler = await line.interceptor.intercept_service(found, details)
    with capture_logs() as lines:
        await handler.stream_stream(None, Gone())
    assert (await line.the_end()).code is StatusCode.CANCELLED
    assert lines == []
    assert line.probe.cleaned.is_set()
    assert line.room.unused


class Broken:
    """An observer with a defect in all it does."""

    def __init__(self):
        self.heard = 0

    def began(self, call):
        call.listener = self._hear
        raise KeyError(SECRET)

    def ended(self, _call):
        raise KeyError(SECRET)

    def _hear(self, _message):
        self.heard += 1
        raise KeyError(SECRET)


async def test_an_observer_that_fails_costs_no_caller_anything(line):
    """Who only looks on cannot end a call, nor keep the others from hearing of it, nor the server from its rest."""
    broken = Broken()
    line.interceptor._observers = [broken, *line.interceptor._observers, broken]
    assert json.loads(await line.once(agent_id="101"))[0] == "101"
    assert (await line.the_end()).code is StatusCode.OK
    line.told.clear()
    messages, error = await read(line.many(messages=3, agent_id="101"))
    assert (len(messages), error) == (3, None)
    assert (await line.the_end()).code is StatusCode.OK
    assert broken.heard == 1  # and not again for each event of a stream of days
    await line.interceptor.idle(5)
    assert line.interceptor._open == 0
