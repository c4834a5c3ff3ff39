"""The watch command: an inspector's events, resumed by itself when the stream breaks."""

import asyncio
import random
import time
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final

import grpc
import typer

from qc_adapter.cli.client import ClientOptions, connect
from qc_adapter.cli.exits import CommandFailed, Exit
from qc_adapter.cli.options import with_options
from qc_adapter.cli.output import DIM, DOUBT, Output
from qc_adapter.cli.refusals import Failure, take_apart, to_failed
from qc_adapter.cli.updates import watch_parts
from qc_adapter.v1 import events_pb2 as pb
from qc_adapter.v1 import events_pb2_grpc as pb_grpc

_FIRST_PAUSE_SECONDS: Final = 0.5
_LONGEST_PAUSE_SECONDS: Final = 15.0
_PATIENCE_SECONDS: Final = 300.0
_RESUMABLE: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED})


class OnExpired(StrEnum):
    """What to do when the events after the cursor are no longer kept."""

    GAP = "gap"
    FAIL = "fail"


@with_options
def watch(
    agent_id: Annotated[str, typer.Argument(metavar="AGENT_ID", help="The inspector.", show_default=False)],
    cursor: Annotated[str, typer.Option(help="Begin right after it.", show_default="now")] = "",
    oldest: Annotated[bool, typer.Option("--oldest", help="Begin at the oldest event kept.")] = False,
    on_expired: Annotated[
        OnExpired, typer.Option(help="When the events after the cursor are gone: say so and go on, or fail.")
    ] = OnExpired.GAP,
    once: Annotated[int, typer.Option(min=0, metavar="N", help="End after N events; 0 = never.")] = 0,
    *,
    patience: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="How long to try to resume before it gives up.")
    ] = _PATIENCE_SECONDS,
    options: ClientOptions,
) -> None:
    """Show an inspector's events as they come. Resumes by itself when the adapter goes away."""
    if cursor and oldest:
        raise CommandFailed(Exit.USAGE, "--cursor and --oldest exclude each other")
    request = pb.WatchRequest(
        agent_id=agent_id,
        cursor="oldest" if oldest else cursor,
        on_expired=pb.ON_EXPIRED_GAP if on_expired is OnExpired.GAP else pb.ON_EXPIRED_FAIL,
    )
    watching = Watching(request, options.output(), once, patience)
    try:
        asyncio.run(_until_done(watching, options))
    except TimeoutError:
        raise CommandFailed(
            Exit.UNKNOWN, f"--timeout is over; {watching.events} events came", advice=watching.resume_text()
        ) from None


class Watching:
    """One watch over all its streams: where it stands and how much it has seen."""

    def __init__(self, request: pb.WatchRequest, output: Output, once: int, patience_seconds: float) -> None:
        self.request = request
        self.output = output
        self.events = 0
        self.stood = False
        self._once = once
        self._failures = 0
        self._patience_seconds = patience_seconds
        self._heard_at = time.monotonic()

    @property
    def exhausted(self) -> bool:
        """Whether nothing was heard for as long as the user is ready to wait."""
        return time.monotonic() - self._heard_at >= self._patience_seconds

    @property
    def done(self) -> bool:
        """Whether as many events came as were asked for."""
        return 0 < self._once <= self.events

    async def stream(self, channel: grpc.aio.Channel) -> None:
        """Show one stream until it ends or enough came."""
        async for message in pb_grpc.InspectorEventsStub(channel).Watch(self.request):
            self.stood, self._failures, self._heard_at = True, 0, time.monotonic()
            self.request.cursor = message.cursor or self.request.cursor
            self.events += message.HasField("event")
            if self.output.json:
                self.output.message(message)
            elif not message.HasField("bookmark"):
                now = datetime.now().astimezone().time().isoformat("milliseconds")
                self.output.line((f"{now}  ", DIM), *watch_parts(message))
            if self.done:
                return

    async def pause(self, failure: Failure) -> None:
        """Say that the stream broke, and wait longer each time."""
        self.request.cursor = failure.cursor or self.request.cursor
        longest = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2**self._failures)
        self._failures += 1
        seconds = longest * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret
        why = failure.reason or failure.message
        self.output.note(("stream ended", DOUBT), f" ({why}); resuming from {self.request.cursor} in {seconds:.1f} s")
        await asyncio.sleep(seconds)

    def resume_text(self) -> str:
        """Return the command that goes on from here."""
        return f"go on with: qc-adapter watch {self.request.agent_id} --cursor {self.request.cursor or 'oldest'}"


async def _until_done(watching: Watching, options: ClientOptions) -> None:
    async with asyncio.timeout(options.timeout_seconds), connect(options) as channel:
        while not watching.done:
            try:
                await watching.stream(channel)
            except grpc.aio.AioRpcError as error:
                failure = take_apart(error)
                # A first failure is more likely a wrong target than a passing trouble.
                if failure.code not in _RESUMABLE or not watching.stood or watching.exhausted:
                    raise to_failed(failure, options.target) from error
                await watching.pause(failure)
