"""Sends one command, shows its updates, and ends with a code that says what became of it."""

import asyncio
import time
from collections.abc import AsyncIterable
from dataclasses import dataclass
from typing import Annotated, Any, Final

import typer

from qc_adapter.cli.client import ClientOptions, connect
from qc_adapter.cli.exits import CommandFailed, Exit
from qc_adapter.cli.output import DIM, Output
from qc_adapter.cli.refusals import to_failed
from qc_adapter.cli.updates import update_parts
from qc_adapter.client import CallFailed, Follow, options_message
from qc_adapter.gateway.operations import INSPECTIONS
from qc_adapter.v1 import quality_control_pb2 as pb

_LONGEST_CONFIRM_SECONDS: Final = 300

AgentId = Annotated[str, typer.Argument(metavar="AGENT_ID", help="The inspector.", show_default=False)]
WorkNo = Annotated[str, typer.Argument(metavar="WORK_NO", help="The inspected agent.", show_default=False)]


@dataclass(frozen=True, slots=True)
class Run:
    """How a command is run and followed."""

    request_id: Annotated[
        str, typer.Option(help="Name of this command: repeating it joins the first run instead of running it again.")
    ] = ""
    follow: Annotated[Follow, typer.Option(help="When to end: once confirmed, at once, or when the call is over.")] = (
        Follow.CONFIRMED
    )
    confirm_within: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="How long events may take to confirm it.", show_default="10")
    ] = None

    def message(self) -> pb.CommandOptions:
        """Return the options as the contract has them."""
        if self.confirm_within is not None and not 0 < self.confirm_within <= _LONGEST_CONFIRM_SECONDS:
            limit = f"at most {_LONGEST_CONFIRM_SECONDS} seconds"
            raise CommandFailed(Exit.USAGE, f"--confirm-within must be above 0 and {limit}")
        return options_message(self.request_id, self.follow, self.confirm_within)


def send(rpc: str, request: Any, options: ClientOptions) -> None:
    """Run a command to its end; ends with a code that says what became of it."""
    asyncio.run(_send_and_show(rpc, request, options))


async def _send_and_show(rpc: str, request: Any, options: ClientOptions) -> None:
    shown = Shown(options.output())
    try:
        async with connect(options) as client:
            # What did nothing is told at once; what may have been sent is joined again by its request id.
            timeout_seconds = options.timeout_seconds
            await shown.all(client.updates(rpc, request, timeout_seconds=timeout_seconds, retry_first_failure=False))
    except CallFailed as failure:
        failed = to_failed(failure, options.target, may_have_run=True)
        if shown.cursor:
            failed.advice += f"; the events go on at: qc-adapter watch {request.agent_id} --cursor {shown.cursor}"
        raise failed from failure
    except asyncio.CancelledError:
        if shown.cursor:
            again = f"qc-adapter watch {request.agent_id} --cursor {shown.cursor}"
            shown.output.note(f"interrupted; what was sent is not undone, its events go on at: {again}")
        raise
    if shown.unconfirmed:
        unheard = not shown.heard and rpc not in _OF_AGENTS
        advice = "look at the agent's state; it was not sent again" + (_UNHEARD if unheard else "")
        raise CommandFailed(Exit.UNCONFIRMED, "the gateway took the command and no event proved it", advice=advice)


#: What the inspected agent's events prove: that the inspector has none says nothing.
_OF_AGENTS: Final = {one.rpc for one in INSPECTIONS if one.effects is not None and one.effects.at_target}
_UNHEARD: Final = "; no event came at all: does another system read this inspector's events?"


class Shown:
    """Shows the updates of one command and remembers what matters at its end."""

    def __init__(self, output: Output) -> None:
        self.output = output
        self.cursor = ""
        self.heard = False
        self.unconfirmed = False
        self._started_at = time.monotonic()

    async def all(self, updates: AsyncIterable[pb.CommandUpdate]) -> None:
        """Show every update."""
        async for update in updates:
            self.cursor = update.cursor or self.cursor
            self.heard = self.heard or update.HasField("event")
            if update.HasField("outcome"):
                self.unconfirmed = update.outcome.state == pb.CommandOutcome.UNCONFIRMED
            if self.output.json:
                self.output.message(update)
            else:
                elapsed_seconds = time.monotonic() - self._started_at
                self.output.line((f"{elapsed_seconds:8.3f} s  ", DIM), *update_parts(update))
