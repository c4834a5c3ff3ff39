"""Ends a stream from outside: its caller may no longer read it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from qc_adapter.model.errors import AdapterError

T = TypeVar("T")


class Revocation:
    """Of one stream: `revoke` makes it end with an error, at the next message if one is just being written."""

    def __init__(self) -> None:
        self._error: AdapterError | None = None
        self._waiting: asyncio.Task[object] | None = None

    def revoke(self, error: AdapterError) -> None:
        """End the stream with this error; the first one counts."""
        if self._error is None:
            self._error = error
            if self._waiting is not None:
                self._waiting.cancel()

    async def over(self, messages: AsyncGenerator[T, None]) -> AsyncIterator[T]:
        """Pass the messages on until the stream is revoked."""
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
