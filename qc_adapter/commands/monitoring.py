"""Monitoring of more agents than one request can name."""

from __future__ import annotations

import hashlib
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol

from qc_adapter.commands.model import Accepted, Outcome
from qc_adapter.model.errors import AdapterError, DeadlineExceeded, GatewayRefused, OutcomeUnknown

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from qc_adapter.commands.model import Command, Update
    from qc_adapter.gateway.requests import GatewayRequest
    from qc_adapter.model.deadline import Deadline

#: So many agents fit into one request: the whole address stays below the 4 kB that old servers take.
BATCH: Final = 500


class Runs(Protocol):
    """Runs single commands, and shows what lies between them."""

    def run(self, command: Command, deadline: Deadline) -> AsyncGenerator[Update]: ...

    def between(self, agent_id: str, after: str, until: str) -> list[Update]: ...


def in_batches(
    command: Command, work_nos: Sequence[str], build: Callable[[Sequence[str]], GatewayRequest]
) -> list[Command]:
    """
    Return the command as one for each batch of agents.

    The first one has the caller's request id. Those after it have ids with a space, which no caller can give.
    """
    parts = [tuple(work_nos[start : start + BATCH]) for start in range(0, len(work_nos), BATCH)]
    part_of = hashlib.sha256(";".join(work_nos).encode()).hexdigest() if len(parts) > 1 else ""
    return [
        replace(
            command,
            request=build(part),
            request_id=f"{command.request_id} {number}" if command.request_id and number > 1 else command.request_id,
            work_nos=part,
            part_of=part_of,
        )
        for number, part in enumerate(parts, start=1)
    ]


async def in_turn(runner: Runs, commands: Sequence[Command], deadline: Deadline) -> AsyncGenerator[Update]:
    """
    Run commands one after another and yield what happens as one stream: the outcome is told once, at the end.

    Raises like the runner, and says which agents were not asked.
    """
    last: Outcome | None = None
    for place, command in enumerate(commands):
        try:
            async with aclosing(runner.run(command, deadline)) as updates:
                async for update in updates:
                    if isinstance(update, Outcome):
                        last = update
                        continue
                    if isinstance(update, Accepted) and last is not None:
                        for told in runner.between(command.agent_id, last.cursor, update.cursor):
                            yield told
                    yield update
        except AdapterError as failure:
            if not place:
                raise
            raise _in_part(failure, commands, place) from None
    if last is not None:
        yield last


def _in_part(failure: AdapterError, commands: Sequence[Command], place: int) -> AdapterError:
    """Return the failure of one of several commands: those before it were taken."""
    done = sum(len(command.work_nos) for command in commands[:place])
    total = sum(len(command.work_nos) for command in commands)
    settled = commands[place].request_id and isinstance(failure, (GatewayRefused, OutcomeUnknown))
    again = "repeating the call does no harm" + (", with another request_id" if settled else "")
    first = commands[place].work_nos[0]
    told = failure.adding(f"{done} of {total} agents were asked, those from {first} on were not or not surely: {again}")
    if isinstance(told, DeadlineExceeded) and told.outcome == "not_sent":
        told.outcome = ""  # of the call as a whole that would be wrong
    return told
