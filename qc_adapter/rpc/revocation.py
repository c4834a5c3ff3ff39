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

#: The clock may be set while a stream is open, so a timer looks at it now and then.
_LONGEST_TIMER_SECONDS: Final = 600.0


class Revocation:
    """Of one stream: `revoke` makes it end with an error, at the next message if one is just being written."""

    __slots__ = ("_due_at", "_error", "_reason", "_timer", "_waiting")

    def __init__(self) -> None:
        self._error: AdapterError | None = None
        self._waiting: asyncio.Task[object] | None = None
        self._due_at = math.inf
        self._reason: Callable[[], AdapterError] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def due(self, at: float, reason: Callable[[], AdapterError]) -> None:
        """Have the stream end at that Unix time; the timer runs only while its messages are passed on."""
        self._due_at, self._reason = at, reason

    def revoke(self, error: AdapterError) -> None:
        """End the stream with this error; the first one counts."""
        if self._error is None:
            self._error = error
            if self._waiting is not None:
                self._waiting.cancel()

    async def over(self, messages: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
        """Pass the messages on until the stream is revoked."""
        self._set_timer()
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

    def _set_timer(self) -> None:
        """Set the timer, or end the stream: called when it begins and whenever the timer ran."""
        if self._reason is None or self._due_at == math.inf:
            return
        left = self._due_at - time.time()
        if left <= 0:
            self.revoke(self._reason())
        else:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(min(left, _LONGEST_TIMER_SECONDS), self._set_timer)
