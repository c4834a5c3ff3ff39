"""The feed command: what a desktop got from the gateway goes into the log of its inspector, one body a line."""

import asyncio
import contextlib
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final

import grpc
import typer

from qc_adapter.cli.client import UNARY_SECONDS, ClientOptions, connect
from qc_adapter.cli.exits import CommandFailed, Exit
from qc_adapter.cli.options import with_options
from qc_adapter.cli.output import DIM, GOOD, Output
from qc_adapter.cli.refusals import to_failed
from qc_adapter.cli.secret_input import STDIN
from qc_adapter.client import CallFailed, take_apart
from qc_adapter.v1 import events_pb2 as pb
from qc_adapter.v1 import events_pb2_grpc as pb_grpc

#: More than that no message takes, so the adapter could not even say what is wrong.
_LARGEST_BODY: Final = 200_000


@with_options
def feed(
    agent_id: Annotated[str, typer.Argument(metavar="AGENT_ID", help="The inspector.", show_default=False)],
    file: Annotated[
        str, typer.Argument(metavar="[FILE]", help="The bodies, one a line.", show_default="stdin")
    ] = STDIN,
    name: Annotated[
        str, typer.Option(help="Call the bodies NAME:LINE: then a body that equals the one before it is logged, too.")
    ] = "",
    *,
    options: ClientOptions,
) -> None:
    """
    Log events that another system read: replies to its polls, or pushes, one body a line.

    The session's events must come by none. What the adapter has already is not logged again.
    """
    with _opened(file) as lines, asyncio.Runner() as runner:
        # Between two lines nothing runs: an input that waits can be interrupted.
        stack = AsyncExitStack()
        try:
            client = runner.run(stack.enter_async_context(connect(options)))
            feeding = _Feeding(pb_grpc.InspectorEventsStub(client.channel), agent_id, name, options)
            for number, body in _bodies(lines):
                runner.run(feeding.take(number, body))
        finally:
            runner.run(stack.aclose())
    if not feeding.bodies:
        options.output().note("there was no body to feed in")


class _Feeding:
    """Feeds one body after the other, and shows what became of each."""

    def __init__(self, stub: Any, agent_id: str, name: str, options: ClientOptions) -> None:
        self._stub = stub
        self._agent_id = agent_id
        self._name = name
        self._options = options
        self._output: Output = options.output()
        self.bodies = 0

    async def take(self, number: int, body: bytes) -> None:
        """Feed one body in; a failure ends it all and names the line."""
        self.bodies += 1
        if len(body) > _LARGEST_BODY:
            what = f"line {number}: a body has at most {_LARGEST_BODY} bytes, this one has {len(body)}"
            raise CommandFailed(Exit.REFUSED, what, advice=_before(number))
        batch_id = f"{self._name}:{number}" if self._name else ""
        request = pb.FeedRequest(agent_id=self._agent_id, body=body, batch_id=batch_id)
        try:
            reply = await self._stub.Feed(request, timeout=self._options.timeout_seconds or UNARY_SECONDS)
        except (grpc.aio.AioRpcError, CallFailed) as error:
            failure = error if isinstance(error, CallFailed) else take_apart(error)
            failed = to_failed(failure, self._options.target)
            failed.what = f"line {number}: {failed.what}"
            failed.advice = "; ".join(filter(None, (failed.advice, _before(number))))
            raise failed from error
        if self._output.json:
            self._output.message(reply)
            return
        repeated = f", {reply.repeated_before} known before" if reply.repeated_before else ""
        self._output.line(
            (f"line {number}", DIM), "  ", ("logged", GOOD), f" {reply.logged}{repeated}", (f"  {reply.cursor}", DIM)
        )


def _before(number: int) -> str:
    return f"the lines before it are logged: go on at line {number}" if number > 1 else "nothing was logged"


def _opened(file: str) -> contextlib.AbstractContextManager[BinaryIO]:
    if file == STDIN:
        return contextlib.nullcontext(sys.stdin.buffer)
    try:
        return Path(file).open("rb")
    except OSError as error:
        raise CommandFailed(Exit.USAGE, f"{file} cannot be read: {error.strerror}") from error


def _bodies(lines: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Return each body and the number of its line; a line without anything is none."""
    for number, line in enumerate(lines, start=1):
        if body := line.strip():
            yield number, body
