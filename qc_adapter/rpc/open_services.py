"""Health and reflection, which are open to whoever connects: their streams may not take the place of calls."""

from __future__ import annotations

import inspect
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

import grpc
from grpc import StatusCode

if TYPE_CHECKING:
    from collections.abc import Callable

#: A client watches the health of each of our services; behind a proxy several share a connection.
_OF_A_CONNECTION: Final = 32
#: One for each connection that there may be.
MOST_OPEN: Final = 1000
_FULL: Final = "too many open streams of health and reflection: end those that are not needed"


class OpenServices:
    """Counts their open streams, of each connection and of all; nobody has said who he is."""

    def __init__(self) -> None:
        self._streams = 0
        self._by_connection: dict[str, int] = {}

    def wrap(self, handler: grpc.RpcMethodHandler[Any, Any]) -> grpc.RpcMethodHandler[Any, Any]:
        """Return the handler with its streams counted; one with a single answer as it is."""
        if not handler.response_streaming:
            return handler
        codec: dict[str, Any] = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        # The type stubs know the handlers of the synchronous server only.
        if handler.request_streaming:
            many: Any = handler.stream_stream
            return grpc.stream_stream_rpc_method_handler(self._counted(many), **codec)
        one: Any = handler.unary_stream
        return grpc.unary_stream_rpc_method_handler(self._counted(one), **codec)

    def _counted(self, handle: Any) -> Callable[[Any, grpc.aio.ServicerContext[Any, Any]], Any]:
        async def stream(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
            connection = context.peer()
            open_here = self._by_connection.get(connection, 0)
            if open_here >= _OF_A_CONNECTION or self._streams >= MOST_OPEN:
                await context.abort(StatusCode.RESOURCE_EXHAUSTED, _FULL)
            self._streams += 1
            self._by_connection[connection] = open_here + 1
            try:
                answers = handle(request, context)
                if inspect.isawaitable(answers):
                    await answers
                else:
                    async with aclosing(answers) as messages:
                        async for message in messages:
                            await context.write(message)
            finally:
                self._streams -= 1
                self._by_connection[connection] -= 1
                if not self._by_connection[connection]:
                    del self._by_connection[connection]

        return stream
