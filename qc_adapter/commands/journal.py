"""Remembers commands by their request id, so that a repeated call joins the first one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from qc_adapter.model.errors import RequestIdReused

if TYPE_CHECKING:
    from qc_adapter.commands.model import Command
    from qc_adapter.commands.run import CommandRun


class Journal:
    """The runs of the last `keep_seconds`, at most `capacity` of them; the oldest go first."""

    def __init__(self, keep_seconds: float = 600.0, capacity: int = 100_000) -> None:
        self._keep_seconds = keep_seconds
        self._capacity = capacity
        # Insertion order is age order: the front is what expires next.
        self._runs: dict[tuple[str, str], tuple[float, CommandRun]] = {}

    def __len__(self) -> int:
        return len(self._runs)

    def find(self, command: Command) -> CommandRun | None:
        """Return the run that the command repeats; raises `RequestIdReused` if the id names another command."""
        self._expire()
        found = self._runs.get(_key(command))
        if found is None:
            return None
        if not found[1].command.repeats(command):
            raise RequestIdReused(command.request_id)
        return found[1]

    def runs(self) -> list[CommandRun]:
        """Return all runs, the oldest first."""
        self._expire()
        return [run for _, run in self._runs.values()]

    def keep(self, run: CommandRun) -> None:
        """Remember the run of a command with a request id."""
        self._runs[_key(run.command)] = (time.monotonic(), run)
        run.feed.pins += 1
        self._expire()

    def drop(self, run: CommandRun) -> None:
        """Forget a run that certainly sent nothing: a repetition is to run."""
        found = self._runs.get(_key(run.command))
        if found is not None and found[1] is run:
            del self._runs[_key(run.command)]
            run.feed.pins -= 1

    def _expire(self) -> None:
        limit = time.monotonic() - self._keep_seconds
        while self._runs:
            oldest = next(iter(self._runs))
            if self._runs[oldest][0] >= limit and len(self._runs) <= self._capacity:
                return
            self._runs.pop(oldest)[1].feed.pins -= 1


def _key(command: Command) -> tuple[str, str]:
    # Callers of different inspectors cannot collide by chance, and cannot probe each other's ids.
    return command.agent_id, command.request_id
