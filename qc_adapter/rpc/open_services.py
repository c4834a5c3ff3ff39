"""Health and reflection, which are open to whoever connects: what they keep open may not take the place of calls."""

from __future__ import annotations

import inspect
from contextlib import aclosing
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError
from grpc import StatusCode

from qc_adapter.model.errors import InvalidRequest
from qc_adapter.rpc.requests import Requests

#: A client watches the health of each of our services; behind a proxy several share a connection. An answer that is
#: not read counts too.
_OF_A_CONNECTION: Final = 32
#: Streams, and as many calls that end by themselves.
MOST_OPEN: Final = 1000
#: Probes send their request with the head of the call.
_REQUEST_SECONDS: Final = 2.0
_FULL: Final = "too many open calls of health and reflection: end those that are not needed"


class OpenServices:
    """Counts their calls, of each connection and the streams of all; nobody has said who he is."""

    def __init__(self) -> None:
        self._streams = self._single = 0
        self._by_connection: dict[str, int] = {}
        self._requests = Requests(_REQUEST_SECONDS)

    def wrap(self, handler: grpc.RpcMethodHandler[Any, Any]) -> grpc.RpcMethodHandler[Any, Any]:
        """Return the handler with its calls counted."""
        codec: dict[str, Any] = {"response_serializer": handler.response_serializer}
        # The type stubs know the handlers of the synchronous server only.
        several: Any = handler.stream_stream
        one: Any = handler.unary_stream
        single: Any = handler.unary_unary
        decode: Any = handler.request_deserializer
        if several:
            codec["request_deserializer"] = decode
            return grpc.stream_stream_rpc_method_handler(self._stream(several, None), **codec)
        # To grpc the request is a stream, so that a call counts before it has come, and does not wait for it for ever.
        if one:
            return grpc.stream_stream_rpc_method_handler(self._stream(one, decode), **codec)
        return grpc.stream_unary_rpc_method_handler(self._unary(single, decode), **codec)

    def _unary(self, handle: Any, decode: Any) -> Any:
        async def unary(_requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            await self._admit(context, 0)
            return await handle(await self._asked(decode, context), context)

        return unary

    def _stream(self, handle: Any, decode: Any) -> Any:
        async def stream(requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
            await self._admit(context, 1)
            answers = handle(requests if decode is None else await self._asked(decode, context), context)
            if inspect.isawaitable(answers):
                await answers
                return
            async with aclosing(answers) as messages:
                async for message in messages:
                    await context.write(message)

        return stream

    async def _admit(self, context: grpc.aio.ServicerContext[Any, Any], streams: int) -> None:
        """Count the call until all of it has gone out, or refuse it."""
        connection = context.peer()
        open_here = self._by_connection.get(connection, 0)
        taken = self._streams if streams else self._single
        if open_here >= _OF_A_CONNECTION or taken >= MOST_OPEN:
            await context.abort(StatusCode.RESOURCE_EXHAUSTED, _FULL)
        self._streams += streams
        self._single += 1 - streams
        self._by_connection[connection] = open_here + 1

        def give_back(_context: object) -> None:
            self._streams -= streams
            self._single -= 1 - streams
            self._by_connection[connection] -= 1
            if not self._by_connection[connection]:
                del self._by_connection[connection]

        hear: Any = give_back  # to the type stubs it is a class of theirs
        context.add_done_callback(hear)

    async def _asked(self, decode: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            request = await self._requests.read(context)
            return request if decode is None else decode(request)
        except InvalidRequest as invalid:
            return await context.abort(StatusCode.INVALID_ARGUMENT, invalid.message)
        except DecodeError:
            return await context.abort(StatusCode.INVALID_ARGUMENT, "the request is no message of this method's type")
