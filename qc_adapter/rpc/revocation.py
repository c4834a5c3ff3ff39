"""Ends a stream from outside: its caller may no longer read it, or what it has proven has ended."""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from qc_adapter.model.errors import AdapterError

T = TypeVar("T")

#: Between two looks: the clock may be set while a stream is open, and a key withdrawn.
_LOOK_SECONDS: Final = 30.0
#: For a message to be written after that. A caller that does not read would keep its stream open for ever.
_LAST_WRITE_SECONDS: Final = 20.0


class Revocation:
    """
    Of one stream: `revoke` makes it end with an error, at the next message if one is just being written.

    One whose caller does not take that message is cut off after a while; `cut` is then the error that it ended with.
    """

    __slots__ = ("_due_at", "_ends", "_error", "_last_write", "_task", "_timer", "_waiting", "cut")

    def __init__(self) -> None:
        self._error: AdapterError | None = None
        #: Only then may it be cancelled: a write that is would be taken for a caller that went away.
        self._waiting = False
        self._task: asyncio.Task[object] | None = None
        self._last_write: asyncio.TimerHandle | None = None
        self.cut: AdapterError | None = None
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
            if self._task is not None:
                if self._waiting:
                    self._task.cancel()
                self._last_write = self._task.get_loop().call_later(_LAST_WRITE_SECONDS, self._cut_off)

    async def pass_on(self, messages: AsyncGenerator[T, None], write: Callable[[T], Awaitable[None]]) -> None:
        """Write the messages until there are no more, or the stream is revoked; then raises that error."""
        self._task = asyncio.current_task()
        self._look()
        try:
            while self._error is None:
                self._waiting = True
                try:
                    message = await anext(messages)
                except StopAsyncIteration:
                    return
                except asyncio.CancelledError:
                    # Ours, and nobody else's at the same time.
                    if self._error is None or self._task is None or self._task.uncancel() > 0:
                        raise
                    break
                finally:
                    self._waiting = False
                await write(message)
            if self._error is not None:
                raise self._error.afresh()
        finally:
            self._task = None
            for timer in (self._timer, self._last_write):
                if timer is not None:
                    timer.cancel()
            self._timer = self._last_write = None

    def _cut_off(self) -> None:
        if self._task is not None:
            self.cut = self._error
            self._task.cancel()

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
