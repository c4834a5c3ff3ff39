"""A limit of time that many keep at once: one timer for all of them, where each would have one of its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType


class TimeLimit:
    """
    `with limit:` raises `TimeoutError` when what is awaited in it takes longer than so many seconds.

    It does what `asyncio.timeout` does. A task enters it once at a time.
    """

    __slots__ = ("_entered", "_late", "_seconds", "_timer")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        #: When each task came in, and how often it was cancelled before; the first one first.
        self._entered: dict[asyncio.Task[object], tuple[float, int]] = {}
        self._late: dict[asyncio.Task[object], int] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        task = _this_task()
        loop = task.get_loop()
        self._entered[task] = loop.time(), task.cancelling()
        if self._timer is None:
            self._timer = loop.call_later(self._seconds, self._look, loop)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task = _this_task()
        if self._entered.pop(task, None) is None:
            before = self._late.pop(task)
            # Who else has cancelled it at the same time is obeyed.
            if task.uncancel() <= before and kind is asyncio.CancelledError:
                raise TimeoutError from error

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Cancel those whose time is over, and look again when that of the next one is."""
        self._timer = None
        for task, (since, cancelled) in list(self._entered.items()):
            due_at = since + self._seconds
            if due_at > loop.time():
                self._timer = loop.call_at(due_at, self._look, loop)
                return
            del self._entered[task]
            self._late[task] = cancelled
            task.cancel()


def _this_task() -> asyncio.Task[object]:
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("a time limit needs a task")
    return task
