"""An inspector's events over as many streams as it takes: resumed right after the last message that was given."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Self

from grpc import StatusCode

from qc_adapter.client.failure import STREAM_ENDED, CallFailed
from qc_adapter.client.stream import OpenStream, Streams
from qc_adapter.v1 import events_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from qc_adapter.client.timing import Timing

OLDEST: Final = "oldest"
#: The attempt at the end of the patience gets as much, or it would be none.
_LAST_ATTEMPT_SECONDS: Final = 2.0
#: A cursor that says where to begin, not where one stands.
_BEGINNINGS: Final = frozenset({"", OLDEST})


def never(_failure: CallFailed) -> bool:
    """Stand in where there are no tokens."""
    return False


class OnExpired(StrEnum):
    """What to do when the events after the cursor are no longer kept."""

    GAP = "gap"
    FAIL = "fail"


_ON_EXPIRED: Final = {OnExpired.GAP: pb.ON_EXPIRED_GAP, OnExpired.FAIL: pb.ON_EXPIRED_FAIL}


@dataclass(frozen=True, slots=True)
class Broken:
    """A stream ended and the watch goes on at `cursor` after `pause_seconds`."""

    failure: CallFailed
    cursor: str
    pause_seconds: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What a watch shows, how long it tries, and whether a failure is over because there is a new token."""

    patience_seconds: float
    bookmarks: bool = False
    subscribed: bool = False
    retry_first_failure: bool = True
    on_broken: Callable[[Broken], None] | None = None
    renewed: Callable[[CallFailed], bool] = never


class Watch(Streams[pb.WatchResponse]):
    """
    The events and gaps of one inspector, as an async iterator, for one reader at a time.

    A wait that is cancelled loses nothing: the next one goes on at `cursor`. So does another `Watch` with that cursor,
    on any replica. With an empty cursor the watch begins where the first stream says that it stands (`subscribed`).
    Ends with `CallFailed` when resuming cannot help, or has not helped for `patience_seconds`.
    """

    def __init__(
        self,
        start: Callable[[pb.WatchRequest], Any],
        *,
        agent_id: str,
        cursor: str,
        on_expired: OnExpired,
        plan: Plan,
        timing: Timing,
        jitter: Callable[[], float],
    ) -> None:
        self.agent_id = agent_id
        self.cursor = cursor
        self.gaps = 0
        self._start = start
        self._on_expired = _ON_EXPIRED[on_expired]
        self._plan = plan
        self._timing = timing
        self._jitter = jitter
        super().__init__()
        self._answered = False
        self._stood = False
        self._failures = 0
        self._trouble_since: float | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> pb.WatchResponse:
        """Return the next message that is shown."""
        while not self._ended:
            try:
                message = await self._read()
            except CallFailed as failure:
                await self._close_stream()
                await self._get_over(failure)
                continue
            except BaseException:
                await self._close_stream()
                raise
            if self._shows(message):
                return message
        raise StopAsyncIteration

    async def _read(self) -> pb.WatchResponse:
        if self._stream is None:
            request = pb.WatchRequest(agent_id=self.agent_id, cursor=self.cursor, on_expired=self._on_expired)
            self._stream = OpenStream.begin(lambda: self._start(request))
            self._answered = False
        message = await self._stream.next(self._wait_seconds())
        if message is None:
            raise CallFailed(StatusCode.UNAVAILABLE, "the stream ended without a status of its own", STREAM_ENDED)
        self._answered = self._stood = True
        self._trouble_since = None
        if not message.HasField("subscribed"):  # a replica that greets and goes is not asked faster for it
            self._failures = 0
        return message

    def _wait_seconds(self) -> float:
        if self._answered:
            return self._timing.silence_seconds
        if self._trouble_since is None:
            return self._timing.answer_seconds
        return min(self._timing.answer_seconds, max(self._patience_left_seconds(), _LAST_ATTEMPT_SECONDS))

    def _shows(self, message: pb.WatchResponse) -> bool:
        """Note where the watch stands after a message; returns whether its reader wants to see it."""
        kind = message.WhichOneof("update")
        # Behind `subscribed` a gap may follow that leads to its cursor. To stand there already would hide the gap when
        # the stream breaks between the two.
        if kind != "subscribed" or self.cursor in _BEGINNINGS:
            self.cursor = message.cursor or self.cursor
        match kind:
            case "gap":
                self.gaps += 1
                return True
            case "bookmark":
                return self._plan.bookmarks
            case "subscribed":
                return self._plan.subscribed
            case _:
                return True

    async def _get_over(self, failure: CallFailed) -> None:
        """Wait before the next stream; raises the failure when there is to be none."""
        if not self.cursor:
            self.cursor = failure.cursor
        if self._trouble_since is None:
            self._trouble_since = time.monotonic()
        left_seconds = self._patience_left_seconds()
        first = not self._stood and not self._plan.retry_first_failure
        if not (failure.passing or self._plan.renewed(failure)) or first or left_seconds <= 0:
            self._ended = True
            raise failure.located(self.cursor) from failure.__cause__
        pause_seconds = self._timing.pause_seconds(self._failures, self._jitter())
        self._failures += 1
        # The last attempt is at the end of the patience.
        pause_seconds = max(min(pause_seconds, left_seconds), failure.retry_after_seconds or 0.0)
        if self._plan.on_broken is not None:
            self._plan.on_broken(Broken(failure, self.cursor, pause_seconds))
        await asyncio.sleep(pause_seconds)

    def _patience_left_seconds(self) -> float:
        since = time.monotonic() if self._trouble_since is None else self._trouble_since
        return since + self._plan.patience_seconds - time.monotonic()
