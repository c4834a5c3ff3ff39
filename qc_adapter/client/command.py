"""A command over as many streams as it takes: joined by its request id, never run twice, each update given once."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Self

from grpc import StatusCode

from qc_adapter.client.failure import OUTCOME_UNKNOWN, CallFailed
from qc_adapter.client.novelty import Novelty
from qc_adapter.client.stream import OpenStream, Streams
from qc_adapter.client.watch import never
from qc_adapter.v1 import quality_control_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable

    from qc_adapter.client.timing import Timing
    from qc_adapter.v1 import events_pb2

CONFIRM_SECONDS: Final = 10.0
#: The contract sends the agents of Monitor and StopMonitoring to the gateway in requests of so many.
BATCH: Final = 500
#: For everything around the confirmation: the gateway's reply, the way there and back.
_MARGIN_SECONDS: Final = 20.0
#: Answers about the request itself: whichever stream brings one, no stream has sent the command. Who may call is not
#: among them: a token ends, and a policy changes, while a command is under way.
_NEVER_RUN: Final = frozenset(
    {
        StatusCode.INVALID_ARGUMENT,
        StatusCode.UNIMPLEMENTED,
        StatusCode.ALREADY_EXISTS,
    }
)


class Follow(StrEnum):
    """When the stream of a command ends."""

    CONFIRMED = "confirmed"
    NONE = "none"
    RELEASED = "released"


class Mode(StrEnum):
    """How an inspector takes part in a call."""

    LISTEN = "listen"
    INSERT = "insert"
    WHISPER = "whisper"


FOLLOW: Final = {
    Follow.CONFIRMED: pb.FOLLOW_UNTIL_CONFIRMED,
    Follow.NONE: pb.FOLLOW_NONE,
    Follow.RELEASED: pb.FOLLOW_UNTIL_RELEASED,
}
MODE: Final = {
    Mode.LISTEN: pb.MODE_LISTEN,
    Mode.INSERT: pb.MODE_INSERT,
    Mode.WHISPER: pb.MODE_WHISPER,
}


@dataclass(frozen=True, slots=True)
class CommandResult:
    """
    What became of a command. `cursor` is where the inspector's events go on.

    `accepted` is the last receipt: one that went out in batches has one for each.
    """

    request_id: str
    cursor: str
    accepted: pb.CommandAccepted | None
    outcome: pb.CommandOutcome | None
    events: tuple[events_pb2.AgentEvent, ...]
    gaps: tuple[events_pb2.Gap, ...]

    @property
    def confirmed(self) -> bool:
        """Whether the gateway's events prove the effect."""
        return self.outcome is not None and self.outcome.state == pb.CommandOutcome.CONFIRMED


def fitting_timeout_seconds(options: pb.CommandOptions) -> float | None:
    """Return a deadline long enough for the confirmation; none for a command that is followed to the call's end."""
    if options.follow == pb.FOLLOW_UNTIL_RELEASED:
        return None
    within = options.confirm_within.ToNanoseconds() / 1e9 if options.HasField("confirm_within") else CONFIRM_SECONDS
    return float(within + _MARGIN_SECONDS)


class CommandUpdates(Streams[pb.CommandUpdate]):
    """
    The updates of one command, as an async iterator, for one reader at a time.

    After a broken stream the call is repeated with the same request id, which joins the first run. Ends with
    `CallFailed`, and with `OutcomeUnknown` when the command may have been executed and nobody can tell.
    """

    def __init__(
        self,
        start: Callable[[Any, float | None], Any],
        request: Any,
        *,
        timeout_seconds: float | None,
        retry_first_failure: bool,
        timing: Timing,
        jitter: Callable[[], float],
        renewed: Callable[[CallFailed], bool] = never,
    ) -> None:
        self.request_id: str = request.options.request_id
        self._start = start
        self._request = request
        self._timeout_seconds = timeout_seconds
        self._retry_first_failure = retry_first_failure
        self._timing = timing
        self._jitter = jitter
        self._renewed = renewed
        self._told = Novelty()
        self._batches = max(1, -(-len(getattr(request, "work_nos", ())) // BATCH))
        super().__init__()
        self._began_at: float | None = None
        self._failures = 0
        self._may_have_run = False

    @property
    def cursor(self) -> str:
        """Where the inspector's events go on after the last update."""
        return self._told.cursor

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> pb.CommandUpdate:
        """Return the next update that was not given before."""
        while not self._ended:
            try:
                update = await self._read()
            except CallFailed as failure:
                await self._close_stream()
                await self._get_over(failure)
                continue
            except BaseException:
                self._may_have_run = True
                await self._close_stream()
                raise
            if update is None:
                break
            self._may_have_run = True
            if self._told.admits(update):
                self._failures = 0
                return update
        await self.aclose()
        raise StopAsyncIteration

    async def _read(self) -> pb.CommandUpdate | None:
        if self._began_at is None:
            self._began_at = time.monotonic()
        if self._stream is None:
            if self._repeatable_seconds() <= 0:
                raise CallFailed(StatusCode.DEADLINE_EXCEEDED, "too late to join the command again")
            self._stream = OpenStream.begin(lambda: self._start(self._request, self._left_seconds()))
        # Once the outcome is told, a call may go on in silence for long; its end is noticed by keepalive.
        silence_seconds = self._timing.command_silence_seconds if self._told.outcome is None else None
        return await self._stream.next(silence_seconds)

    async def _get_over(self, failure: CallFailed) -> None:
        """Wait before the call is repeated; raises what it ended with when it is not to be."""
        if self._complete:
            self._ended = True
            return
        self._may_have_run = self._may_have_run or failure.may_have_run
        pause_seconds = max(
            self._timing.pause_seconds(self._failures, self._jitter()), failure.retry_after_seconds or 0.0
        )
        self._failures += 1
        if not self._may_be_repeated(failure) or pause_seconds >= self._repeatable_seconds():
            self._ended = True
            raise self._last_word(failure) from failure.__cause__
        await asyncio.sleep(pause_seconds)

    @property
    def _complete(self) -> bool:
        """Whether all was told and only the status is missing."""
        outcome = self._told.outcome
        match self._request.options.follow:
            case pb.FOLLOW_NONE:
                return self._told.receipts >= self._batches or outcome is not None
            case pb.FOLLOW_UNTIL_RELEASED:
                return outcome is not None and outcome.state == pb.CommandOutcome.UNCONFIRMED
            case _:
                return outcome is not None

    def _may_be_repeated(self, failure: CallFailed) -> bool:
        # A refusal of the gateway is kept under the request id: repeating it would only bring it again.
        if not (failure.passing or self._renewed(failure)) or failure.retcode:
            return False
        return self._retry_first_failure or self._may_have_run

    def _left_seconds(self) -> float | None:
        if self._timeout_seconds is None or self._began_at is None:
            return self._timeout_seconds
        return self._began_at + self._timeout_seconds - time.monotonic()

    def _repeatable_seconds(self) -> float:
        """How long the call may still be repeated: until the deadline, and while its request id is known."""
        began_at = time.monotonic() if self._began_at is None else self._began_at
        known_seconds = began_at + self._timing.joinable_seconds - time.monotonic()
        left_seconds = self._left_seconds()
        return known_seconds if left_seconds is None else min(known_seconds, left_seconds)

    def _last_word(self, failure: CallFailed) -> CallFailed:
        """Return the failure with what is known of the command after all its streams."""
        outcome = failure.outcome
        settled = failure.ours and (failure.retcode or failure.code in _NEVER_RUN)
        if self._told.outcome is not None and self._told.outcome.state == pb.CommandOutcome.CONFIRMED:
            outcome = "confirmed"
        elif failure.reason == OUTCOME_UNKNOWN or outcome == "accepted":
            outcome = "unknown"
        elif self._may_have_run and not settled and outcome != "confirmed":
            # A later stream may speak of a run of its own: what an earlier one has done stays open.
            outcome = "unknown"
        return failure.located(self.cursor, self.request_id, outcome)
