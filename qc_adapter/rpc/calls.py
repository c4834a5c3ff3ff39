"""
Every gRPC call of ours, from its first byte to its last: known, logged, counted, and its errors answered.

`CallInterceptor` wraps each handler once. What is done before and after a call is a list of observers that `app` puts
together; they know neither unary nor streaming. Handlers raise errors of the domain; the answer is given here.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from contextlib import ExitStack, aclosing
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

import grpc
import structlog
from google.protobuf.message import DecodeError
from grpc import StatusCode

from qc_adapter.access.caller import ANONYMOUS
from qc_adapter.model.deadline import Deadline
from qc_adapter.model.errors import AdapterError, InternalFault, InvalidRequest
from qc_adapter.model.inspector import gateway_of
from qc_adapter.rpc.errors import outcome_of, to_status
from qc_adapter.rpc.gate import Gate, Place
from qc_adapter.rpc.open_services import OpenServices
from qc_adapter.rpc.requests import request_of
from qc_adapter.rpc.revocation import Revocation

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence

    from google.rpc import status_pb2

    from qc_adapter.access.caller import Caller
    from qc_adapter.rpc.audit import Noted
    from qc_adapter.telemetry.tracing import CallTrace

OURS: Final = "/qc_adapter.v1."
_DETAILS: Final = "grpc-status-details-bin"
#: Kept of the caller's time so that our status arrives before the caller gives up by itself.
_RESERVE_PART: Final = 0.1
_RESERVE_SECONDS: Final = 0.25
_LONGEST_SHOWN: Final = 20
#: For a request to come whole, once its call has begun.
_REQUEST_SECONDS: Final = 10.0
#: Clients round a timeout up by as much on the wire: 100 s arrive as 101 s.
_ROUNDED_PART: Final = 0.01


def _may_see_all(_agent_id: str) -> bool:
    return True


@dataclass(slots=True)
class Call:
    """
    What is known of one call.

    `method` is the gateway's name of the operation, the rpc's own name where there is none. `caller_name` is the
    caller's name in the policy, `limit` the limit that refused the call, `passed` says that the gate let it through.
    `code` is final when the observers are told of the end. An observer may set a `listener`, which is then given each
    message of the stream once that is written, or a `witness`, which is given it before.
    """

    rpc: str
    service: str
    method: str
    streaming: bool
    peer: str
    metadata: Mapping[str, str]
    #: What the connection has proven, as gRPC tells it: names and values of its certificate.
    proofs: Mapping[str, Iterable[bytes]] = field(default_factory=dict)
    caller: Caller = ANONYMOUS
    #: The caller's name in the policy; empty if it has none.
    caller_name: str = ""
    #: Whether a list may show an inspector to the caller.
    may_see: Callable[[str], bool] = _may_see_all
    #: The limit that refused the call.
    limit: str = ""
    #: Whether observers were told of its begin.
    begun: bool = False
    started_at: float = field(default_factory=time.monotonic)
    code: StatusCode = StatusCode.OK
    reason: str = ""
    retcode: str = ""
    detail: str = ""
    agent_id: str = ""
    work_no: str = ""
    request_id: str = ""
    trace_id: str = ""
    outcome: str = ""
    gateway: str = ""
    trace: CallTrace | None = None
    listener: Callable[[Any], None] | None = None
    witness: Callable[[Any], None] | None = None
    passed: bool = False
    noted: Noted | None = field(default=None, repr=False)
    revocation: Revocation = field(default_factory=Revocation)

    def about(self, agent_id: str, work_no: str = "") -> None:
        """Note whom the call is about, as the caller wrote it, in a form that is safe and short enough for a log."""
        self.agent_id, self.work_no = shown(agent_id), shown(work_no)
        self.gateway = gateway_of(agent_id)

    @property
    def seconds(self) -> float:
        """How long the call has taken so far."""
        return time.monotonic() - self.started_at


class CallObserver(Protocol):
    """
    Is told of the begin and the end of each call.

    One that the limits refuse has no begin, only an end: nothing was done for it, and there may be very many.
    """

    def began(self, call: Call) -> None: ...

    def ended(self, call: Call) -> None: ...


def shown(text: str) -> str:
    """Return a text of the caller as it may stand in a log or a message."""
    if len(text) <= _LONGEST_SHOWN and text.isascii() and text.isprintable():
        return text
    return ascii(text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}...")


_current: ContextVar[Call] = ContextVar("qc_adapter_call")


def current_call() -> Call:
    """Return the call that is being handled, for a handler to note what it is about."""
    return _current.get()


def deadline_of(context: grpc.aio.ServicerContext[Any, Any]) -> Deadline:
    """Return the caller's deadline, less what our answer needs to arrive in time."""
    remaining = context.time_remaining()
    if remaining is None:
        return Deadline.never()
    reserve = min(_RESERVE_SECONDS, _RESERVE_PART * remaining) + _ROUNDED_PART * remaining
    return Deadline.after(remaining - reserve)


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps the handlers of our services; of health and reflection only open streams are counted."""

    def __init__(
        self,
        methods: Mapping[str, str],
        observers: Sequence[CallObserver],
        gate: Gate | None = None,
    ) -> None:
        """Take the gateway's name of the operation by rpc name, the observers in their order, and what calls pass."""
        self._methods = methods
        self._observers = observers
        self._gate = gate or Gate()
        self._open_to_all = OpenServices()
        self._open = 0
        self._none_open = asyncio.Event()
        self._none_open.set()
        self._wrapped: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    async def idle(self, timeout_seconds: float) -> None:
        """Wait until no call of ours is open, at most that long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self._none_open.wait()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Return the wrapped handler; wrapped once for each method."""
        path = handler_call_details.method
        known = self._wrapped.get(path)
        if known is not None:
            return known
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        wrapped = self._wrap(path, handler) if path.startswith(OURS) else self._open_to_all.wrap(handler)
        self._wrapped[path] = wrapped
        return wrapped

    def _wrap(self, path: str, handler: grpc.RpcMethodHandler[Any, Any]) -> grpc.RpcMethodHandler[Any, Any]:
        service, rpc = path.rsplit(".", 1)[1].split("/")
        method, streaming = self._methods.get(rpc, rpc), handler.response_streaming

        def begin(context: grpc.aio.ServicerContext[Any, Any]) -> Call:
            metadata = _texts(context.invocation_metadata() or ())
            proofs = context.auth_context()
            return self._open_call(Call(rpc, service, method, streaming, context.peer(), metadata, proofs))

        # To grpc the request is a stream, so that it is us who read it: once it is known who calls and that there is
        # room, for so long, and decoded with an answer of ours.
        decode: Any = handler.request_deserializer
        codec: dict[str, Any] = {"request_deserializer": None, "response_serializer": handler.response_serializer}
        # The type stubs know the handlers of the synchronous server only.
        handle: Any = handler.unary_stream if streaming else handler.unary_unary
        if streaming:
            return grpc.stream_stream_rpc_method_handler(self._stream(begin, decode, handle), **codec)
        return grpc.stream_unary_rpc_method_handler(self._unary(begin, decode, handle), **codec)

    def _unary(self, begin: Callable[[Any], Call], decode: Any, handle: Any) -> Any:
        async def unary(_requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            call = begin(context)
            try:
                with ExitStack() as held:
                    place = held.enter_context(await self._gate.enter(call))
                    asked = _decoded(decode, await _read(context, place))
                    self._gate.allow(call, asked, place)
                    self._tell_begin(call)
                    answer = await handle(asked, context)
                    # An answer that its caller does not read is kept here for as long.
                    context.add_done_callback(_giving_back(held.pop_all()))
            except BaseException as failure:
                await self._fail(call, context, failure)
                raise
            else:
                self._tell_end(call)
                return answer
            finally:
                self._close()

        return unary

    def _stream(self, begin: Callable[[Any], Call], decode: Any, handle: Any) -> Any:
        async def stream(_requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
            call = begin(context)
            try:
                with await self._gate.enter(call) as place:
                    asked = _decoded(decode, await _read(context, place))
                    self._gate.allow(call, asked, place)
                    self._tell_begin(call)
                    # Closed here and now: cleanup must not wait for the garbage collector.
                    async with (
                        aclosing(handle(asked, context)) as messages,
                        aclosing(call.revocation.over(messages)) as passed,
                    ):
                        async for message in passed:
                            if call.witness is not None:
                                _tell(call.witness, message)
                            yield message
                            place.answered()
                            if call.listener is not None:
                                _hear(call, call.listener, message)
            except BaseException as failure:
                await self._fail(call, context, failure)
                raise
            else:
                self._tell_end(call)
            finally:
                self._close()

        return stream

    def _open_call(self, call: Call) -> Call:
        _current.set(call)
        self._open += 1
        self._none_open.clear()
        return call

    async def _fail(self, call: Call, context: grpc.aio.ServicerContext[Any, Any], failure: BaseException) -> None:
        """Tell of the end first: when the caller has the status, log and metrics have it too."""
        status = _judge(call, context, failure)
        if not call.begun and not call.limit:
            self._tell_begin(call)
        self._tell_end(call)
        if status is not None:
            details = ((_DETAILS, status.SerializeToString()),)
            # A stream that was cut off is closed by the loop itself, which has nobody to tell of the end.
            with contextlib.suppress(grpc.aio.AbortError) if call.revocation.cut else contextlib.nullcontext():
                await context.abort(call.code, status.message, trailing_metadata=details)

    def _tell_begin(self, call: Call) -> None:
        call.begun = True
        for observer in self._observers:
            _tell(observer.began, call)

    def _tell_end(self, call: Call) -> None:
        for observer in reversed(self._observers):
            _tell(observer.ended, call)

    def _close(self) -> None:
        self._open -= 1
        if not self._open:
            self._none_open.set()


def _giving_back(held: ExitStack) -> Any:  # to the type stubs it is a class of theirs
    return lambda _context: held.close()


def _texts(shown: Iterable[tuple[str, str | bytes]]) -> dict[str, str]:
    """Return the headers that are text; one that comes several times is told as HTTP has it, so that none gets lost."""
    found: dict[str, str] = {}
    for key, value in shown:
        if isinstance(value, str):
            found[key] = f"{found[key]}, {value}" if key in found else value
    return found


def _tell(hear: Callable[[Any], None], what: Any) -> bool:
    """Tell somebody who only looks on. A defect of theirs is logged; no caller pays for it, and no stream ends."""
    try:
        hear(what)
    except Exception as defect:  # noqa: BLE001 - it is logged here
        structlog.get_logger().error("observer_failed", exc_info=defect)
        return False
    return True


def _hear(call: Call, listener: Callable[[Any], None], message: Any) -> None:
    """Tell of a message; a listener that fails once hears no more."""
    if not _tell(listener, message):
        call.listener = None


async def _read(context: grpc.aio.ServicerContext[Any, Any], place: Place) -> bytes:
    """Return the request's bytes."""
    found = await request_of(context, _REQUEST_SECONDS)
    place.fit(len(found))
    return found


def _decoded(decode: Any, request: bytes) -> Any:
    try:
        return request if decode is None else decode(request)
    except DecodeError:
        raise InvalidRequest([("request", "is no message of this method's type: use the same proto file")]) from None


def _judge(call: Call, context: grpc.aio.ServicerContext[Any, Any], failure: BaseException) -> status_pb2.Status | None:
    """Note how the call failed; return the answer, None if nobody is there to read one."""
    gone = isinstance(failure, (asyncio.CancelledError, GeneratorExit))
    if gone and call.revocation.cut is not None:
        return _note(call, call.revocation.cut)
    if gone:
        remaining = context.time_remaining()
        late = remaining is not None and remaining <= 0
        call.code = StatusCode.DEADLINE_EXCEEDED if late else StatusCode.CANCELLED
        return None
    if not isinstance(failure, Exception):
        return None
    if isinstance(failure, AdapterError):
        error = failure
    else:
        error = InternalFault()
        structlog.get_logger().error("call_failed", rpc=call.rpc, agent_id=call.agent_id, exc_info=failure)
    return _note(call, error)


def _note(call: Call, error: AdapterError) -> status_pb2.Status:
    answer, status = to_status(error, "" if call.method == call.rpc else call.method)
    call.code, call.reason, call.detail = answer.code, answer.reason, error.message
    call.retcode = getattr(error, "retcode", "") or call.retcode
    call.limit = getattr(error, "limit", "")
    call.outcome = outcome_of(error) or call.outcome
    return status
