"""
The floor of the streams part: an empty grpc.aio server whose handler only writes bytes.

Each of its `Watch` streams gets one message, a message that was made before whenever `tell` is asked, and a bookmark
when there was nothing else for a while.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import grpc
import uvloop

from bench.answers import answer
from bench.limits import raise_descriptors
from bench.speed.stream_reader import WATCH
from qc_adapter.v1 import events_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_SUBSCRIBED: Final = pb.WatchResponse(cursor="0123456789ab-0", subscribed=pb.Subscribed()).SerializeToString()
_BOOKMARK: Final = pb.WatchResponse(cursor="0123456789ab-0", bookmark=pb.Bookmark()).SerializeToString()


class Floor(grpc.GenericRpcHandler):
    """Streams that wait for one future."""

    def __init__(self, told: bytes, bookmark_seconds: float) -> None:
        self._told = told
        self._bookmark_seconds = bookmark_seconds
        self._waiting: set[asyncio.Future[bytes]] = set()
        self._times = 0

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Return the handler; messages are bytes."""
        return grpc.unary_stream_rpc_method_handler(self._watch) if handler_call_details.method == WATCH else None

    def tell(self) -> int:
        """Write to all streams; return the monotonic nanoseconds of the begin."""
        began = time.monotonic_ns()
        self._times += 1
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(self._told)
        self._waiting.clear()
        return began

    async def _watch(self, _request: bytes, _context: Any) -> AsyncIterator[bytes]:
        yield _SUBSCRIBED
        loop = asyncio.get_running_loop()
        times = self._times
        while True:
            if times != self._times:  # it was just writing then
                times += 1
                yield self._told
                continue
            waiting: asyncio.Future[bytes] = loop.create_future()
            self._waiting.add(waiting)
            timer = loop.call_later(self._bookmark_seconds, _give_up, waiting)
            try:
                message = await waiting
            finally:
                timer.cancel()
                self._waiting.discard(waiting)
            if message is self._told:
                times += 1
            yield message


def _give_up(waiting: asyncio.Future[bytes]) -> None:
    if not waiting.done():
        waiting.set_result(_BOOKMARK)


async def run(told: bytes, bookmark_seconds: float) -> None:
    """Serve until the parent closes the pipe."""
    raise_descriptors()
    server = grpc.aio.server()
    floor = Floor(told, bookmark_seconds)
    server.add_generic_rpc_handlers((floor,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    gc.freeze()
    await answer({"ports": lambda: [port, 0], "tell": floor.tell})
    await server.stop(0)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(bytes.fromhex(sys.argv[1]), float(sys.argv[2])))
