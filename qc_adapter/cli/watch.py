"""The watch command: an inspector's events, resumed by itself when the stream breaks."""

import asyncio
from datetime import datetime
from typing import Annotated, Final

import typer

from qc_adapter.cli.client import ClientOptions, connect
from qc_adapter.cli.exits import CommandFailed, Exit
from qc_adapter.cli.options import with_options
from qc_adapter.cli.output import DIM, DOUBT, Output, printable
from qc_adapter.cli.refusals import to_failed
from qc_adapter.cli.updates import watch_parts
from qc_adapter.client import Broken, CallFailed, OnExpired, Watch
from qc_adapter.v1 import events_pb2 as pb
from qc_adapter.v1 import sessions_pb2 as sessions

_PATIENCE_SECONDS: Final = 300.0


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
    showing = Showing(options.output(), agent_id, "oldest" if oldest else cursor, once)
    try:
        asyncio.run(_until_done(showing, options, on_expired, patience))
    except TimeoutError:
        raise CommandFailed(
            Exit.UNKNOWN, f"--timeout is over; {showing.events} events came", advice=showing.resume_text()
        ) from None


class Showing:
    """Prints a watch; knows where it stands and how much it has seen."""

    def __init__(self, output: Output, agent_id: str, cursor: str, once: int) -> None:
        self.agent_id = agent_id
        self.cursor = cursor
        self.events = 0
        self._output = output
        self._once = once
        self._session_state = sessions.SESSION_STATE_ACTIVE

    async def all(self, watch: Watch) -> None:
        """Show the messages until enough events came."""
        async for message in watch:
            self.cursor = watch.cursor
            self.events += message.HasField("event")
            self._show(message)
            if 0 < self._once <= self.events:
                return

    def broken(self, broken: Broken) -> None:
        """Say that a stream broke and where it is resumed."""
        why = printable(broken.failure.reason or broken.failure.message)
        text = f" ({why}); resuming from {broken.cursor} in {broken.pause_seconds:.1f} s"
        self._output.note(("stream ended", DOUBT), text)

    def resume_text(self) -> str:
        """Return the command that goes on from here."""
        return f"go on with: qc-adapter watch {self.agent_id} --cursor {self.cursor or 'oldest'}"

    def _show(self, message: pb.WatchResponse) -> None:
        if self._output.json:
            self._output.message(message)
        elif not message.HasField("bookmark") or self._is_news(message.bookmark):
            now = datetime.now().astimezone().time().isoformat("milliseconds")
            self._output.line((f"{now}  ", DIM), *watch_parts(message))

    def _is_news(self, bookmark: pb.Bookmark) -> bool:
        """Whether the session is worse or better than it was; a mere sign of life is none."""
        before, self._session_state = self._session_state, bookmark.session_state or self._session_state
        return before != self._session_state


async def _until_done(showing: Showing, options: ClientOptions, on_expired: OnExpired, patience_seconds: float) -> None:
    try:
        async with asyncio.timeout(options.timeout_seconds), connect(options) as client:
            watch = client.watch(
                showing.agent_id,
                showing.cursor,
                on_expired=on_expired,
                patience_seconds=patience_seconds,
                bookmarks=True,
                subscribed=True,
                # A first failure is more likely a wrong target than a passing trouble.
                retry_first_failure=False,
                on_broken=showing.broken,
            )
            async with watch:
                await showing.all(watch)
    except CallFailed as failure:
        raise to_failed(failure, options.target) from failure
