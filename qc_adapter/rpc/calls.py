"""
Every gRPC call of ours, from its first byte to its last: known, logged, counted, and its errors answered.

`CallInterceptor` wraps each handler once. What is done before and after a call is a list of observers that `app` puts
together; they know neither unary nor streaming. Handlers raise errors of the domain; the answer is given here.
"""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

import grpc
import structlog

from qc_adapter.rpc.call import OURS, Call, enter
from qc_adapter.rpc.endings import judged
from qc_adapter.rpc.gate import Gate, Place
from qc_adapter.rpc.open_services import OpenServices
from qc_adapter.rpc.requests import Requests, decoded, texts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from google.rpc import status_pb2

    from qc_adapter.rpc.call import CallObserver

_DETAILS: Final = "grpc-status-details-bin"
#: For a request to come whole, once its call has begun.
_REQUEST_SECONDS: Final = 10.0


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
        self._requests = Requests(_REQUEST_SECONDS)
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
            metadata = texts(context.invocation_metadata() or ())
            return self._open_call(
                Call(rpc, service, method, streaming, context.peer(), metadata, context.auth_context)
            )

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
                place = await self._gate.enter(call)
                try:
                    asked = await self._asked(call, context, place, decode)
                    answer = await handle(asked, context)
                except BaseException:
                    place.leave()
                    raise
                # An answer that its caller does not read is kept here for as long.
                context.add_done_callback(_leaving(place))
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
        # No generator: a message would go through one more, and a call that is cancelled while it writes would be left
        # to the loop to be closed.
        async def stream(_requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
            call = begin(context)
            try:
                with await self._gate.enter(call) as place:

                    async def write(message: Any) -> None:
                        if call.witness is not None:
                            _tell(call.witness, message)
                        await context.write(message)
                        place.answered()
                        if call.listener is not None:
                            _hear(call, call.listener, message)

                    asked = await self._asked(call, context, place, decode)
                    # Closed here and now: cleanup must not wait for the garbage collector.
                    async with aclosing(handle(asked, context)) as messages:
                        await call.revocation.pass_on(messages, write)
            except Exception as failure:  # noqa: BLE001 - it is judged, and logged if it is a defect
                self._answer(call, context, failure)
            except BaseException as failure:
                await self._fail(call, context, failure)
                raise
            else:
                self._tell_end(call)
            finally:
                self._close()

        return stream

    async def _asked(self, call: Call, context: grpc.aio.ServicerContext[Any, Any], place: Place, decode: Any) -> Any:
        """Read what the call asks for, and let it pass."""
        request = await self._requests.read(context)
        place.fit(len(request))
        asked = decoded(decode, request)
        self._gate.allow(call, asked, place)
        self._tell_begin(call)
        return asked

    def _open_call(self, call: Call) -> Call:
        enter(call)
        self._open += 1
        self._none_open.clear()
        return call

    async def _fail(self, call: Call, context: grpc.aio.ServicerContext[Any, Any], failure: BaseException) -> None:
        """Answer what a unary call failed with: only so no message goes before it, and clients may try again."""
        status = self._judge(call, context, failure)
        if status is not None:
            await context.abort(call.code, status.message, trailing_metadata=_packed(status))

    def _answer(self, call: Call, context: grpc.aio.ServicerContext[Any, Any], failure: Exception) -> None:
        """
        Answer what a stream failed with.

        What `abort` raises gRPC keeps with the call, and with it all frames on the way, the request among them: that
        would wait for the garbage collector.
        """
        status = self._judge(call, context, failure)
        if status is not None:
            context.set_code(call.code)
            context.set_details(status.message)
            context.set_trailing_metadata(_packed(status))

    def _judge(
        self, call: Call, context: grpc.aio.ServicerContext[Any, Any], failure: BaseException
    ) -> status_pb2.Status | None:
        """Tell of the end first: when the caller has the status, log and metrics have it too."""
        status = judged(call, context, failure)
        if not call.begun and not call.limit:
            self._tell_begin(call)
        self._tell_end(call)
        return status

    def _tell_begin(self, call: Call) -> None:
        call.begun = True
        for observer in self._observers:
            _tell(observer.began, call)

    def _tell_end(self, call: Call) -> None:
        for observer in reversed(self._observers):
            _tell(observer.ended, call)
        call.listener = call.witness = None  # they hold the call: the pair would wait for the garbage collector

    def _close(self) -> None:
        self._open -= 1
        if not self._open:
            self._none_open.set()


def _packed(status: status_pb2.Status) -> tuple[tuple[str, bytes]]:
    return ((_DETAILS, status.SerializeToString()),)


def _leaving(place: Place) -> Any:  # to the type stubs it is a class of theirs
    return lambda _context: place.leave()


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
