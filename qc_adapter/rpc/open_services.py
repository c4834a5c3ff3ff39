"""Health and reflection, which are open to whoever connects: what they keep open may not take the place of calls."""

from __future__ import annotations

import inspect
from contextlib import aclosing
from typing import Any, Final

import grpc
from grpc import StatusCode

#: A client watches the health of each of our services; behind a proxy several share a connection. An answer that is
#: not read counts too.
_OF_A_CONNECTION: Final = 32
#: Streams: one for each connection that there may be.
MOST_OPEN: Final = 1000
_FULL: Final = "too many open calls of health and reflection: end those that are not needed"


class OpenServices:
    """Counts their calls, of each connection and the streams of all; nobody has said who he is."""

    def __init__(self) -> None:
        self._streams = 0
        self._by_connection: dict[str, int] = {}

    def wrap(self, handler: grpc.RpcMethodHandler[Any, Any]) -> grpc.RpcMethodHandler[Any, Any]:
        """Return the handler with its calls counted."""
        codec: dict[str, Any] = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        # The type stubs know the handlers of the synchronous server only.
        several: Any = handler.stream_stream
        one: Any = handler.unary_stream
        single: Any = handler.unary_unary
        if several:
            return grpc.stream_stream_rpc_method_handler(self._stream(several), **codec)
        if one:
            return grpc.unary_stream_rpc_method_handler(self._stream(one), **codec)
        return grpc.unary_unary_rpc_method_handler(self._unary(single), **codec)

    def _unary(self, handle: Any) -> Any:
        async def unary(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            await self._admit(context, 0)
            return await handle(request, context)

        return unary

    def _stream(self, handle: Any) -> Any:
        async def stream(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
            await self._admit(context, 1)
            answers = handle(request, context)
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
        if open_here >= _OF_A_CONNECTION or (streams and self._streams >= MOST_OPEN):
            await context.abort(StatusCode.RESOURCE_EXHAUSTED, _FULL)
        self._streams += streams
        self._by_connection[connection] = open_here + 1

        def give_back(_context: object) -> None:
            self._streams -= streams
            self._by_connection[connection] -= 1
            if not self._by_connection[connection]:
                del self._by_connection[connection]

        hear: Any = give_back  # to the type stubs it is a class of theirs
        context.add_done_callback(hear)
