"""Ends a stream from outside: its caller may no longer read it, or what it has proven has ended."""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from qc_adapter.model.errors import AdapterError

T = TypeVar("T")

#: Between two looks: the clock may be set while a stream is open, and a key withdrawn.
_LOOK_SECONDS: Final = 30.0


class Revocation:
    """Of one stream: `revoke` makes it end with an error, at the next message if one is just being written."""

    __slots__ = ("_due_at", "_ends", "_error", "_timer", "_waiting")

    def __init__(self) -> None:
        self._error: AdapterError | None = None
        self._waiting: asyncio.Task[object] | None = None
        self._due_at = math.inf
        self._ends: Callable[[], AdapterError | None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, ends: Callable[[], AdapterError | None], due_at: float) -> None:
        """
        Have the stream end with what `ends` returns; it is asked at that Unix time, and every half minute before.

        The timer runs only while messages are passed on.
        """
        self._ends, self._due_at = ends, due_at

    def revoke(self, error: AdapterError) -> None:
        """End the stream with this error; the first one counts."""
        if self._error is None:
            self._error = error
            if self._waiting is not None:
                self._waiting.cancel()

    async def over(self, messages: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
        """Pass the messages on until the stream is revoked."""
        self._look()
        try:
            while self._error is None:
                # Only while we wait: a cancelled write would be taken for a caller that went away.
                self._waiting = asyncio.current_task()
                try:
                    message = await anext(messages)
                except StopAsyncIteration:
                    return
                except asyncio.CancelledError:
                    task, self._waiting = self._waiting, None
                    # Ours, and nobody else's at the same time.
                    if self._error is None or task is None or task.uncancel() > 0:
                        raise
                    break
                finally:
                    self._waiting = None
                yield message
            if self._error is not None:
                raise self._error.afresh()
        finally:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def _look(self) -> None:
        """End the stream, or set the timer for the next look."""
        if self._ends is None:
            return
        error = self._ends()
        if error is not None:
            self.revoke(error)
            return
        left = max(self._due_at - time.time(), 0.0)
        self._timer = asyncio.get_running_loop().call_later(min(left, _LOOK_SECONDS), self._look)
