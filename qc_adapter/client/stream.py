"""One stream of one call: read message by message in bounded time, its end taken apart, closed without a trace."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import grpc
from grpc import StatusCode

from qc_adapter.client.failure import CLIENT_CLOSED, STREAM_SILENT, CallFailed, take_apart

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

M = TypeVar("M")


class OpenStream(Generic[M]):
    """A server stream that is being read; whoever opens it closes it."""

    def __init__(self, call: grpc.aio.UnaryStreamCall[Any, M]) -> None:
        self._call = call
        # Iterated, not `read()`: that one overlooks what has come when the status is there already.
        self._messages: Any = aiter(call)

    def __del__(self) -> None:
        # A reader that leaves its loop closes nothing. The call and its iterator hold each other: without this, the
        # stream would stay open until the garbage collector finds them.
        with contextlib.suppress(RuntimeError):  # the event loop is closed, and the call with it
            self._call.cancel()

    @classmethod
    def begin(cls, start: Callable[[], Any]) -> OpenStream[M]:
        """Begin the call; raises `CallFailed` when the client is closed."""
        try:
            return cls(start())
        except grpc.aio.UsageError:
            raise _closed() from None

    async def next(self, timeout_seconds: float | None) -> M | None:
        """Return the next message, None at the end; raises `CallFailed`."""
        try:
            async with asyncio.timeout(timeout_seconds):
                message: M = await anext(self._messages)
        except StopAsyncIteration:
            return None
        except TimeoutError:
            what = f"nothing came for {timeout_seconds:g} s: the replica may be frozen"
            raise CallFailed(StatusCode.UNAVAILABLE, what, STREAM_SILENT) from None
        except grpc.aio.AioRpcError as error:
            raise take_apart(error) from error
        except grpc.aio.UsageError:
            raise _closed() from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and not task.cancelling():
                # Not this task was cancelled but the call, by whoever closed the client.
                raise _closed() from None
            raise
        return message

    async def close(self) -> None:
        """Give the call up, unless it has ended."""
        self._call.cancel()
        if not self._messages.ag_running:
            await self._messages.aclose()


class Streams(Generic[M]):
    """What goes on over several streams, one at a time: it ends once, and leaves none open."""

    def __init__(self) -> None:
        self._stream: OpenStream[M] | None = None
        self._ended = False

    async def aclose(self) -> None:
        """Stop following; what was sent is not undone."""
        self._ended = True
        await self._close_stream()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _close_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.close()


def _closed() -> CallFailed:
    return CallFailed(StatusCode.CANCELLED, "the client was closed", CLIENT_CLOSED)
