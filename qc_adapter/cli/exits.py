"""How a command ends: the exit codes that scripts branch on, and the error that carries one."""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class Exit(IntEnum):
    """The exit codes."""

    OK = 0
    UNEXPECTED = 1
    USAGE = 2
    REFUSED = 3
    UNAVAILABLE = 4
    UNKNOWN = 5
    UNCONFIRMED = 6
    BROKEN = 7
    INTERRUPTED = 130


MEANINGS: Final = {
    Exit.OK: "done; a command was confirmed, or has nothing that could confirm it",
    Exit.UNEXPECTED: "a fault that is none of the others",
    Exit.USAGE: "wrong arguments or settings; nothing was sent",
    Exit.REFUSED: "refused: the request, the policy or the state of agent and inspector does not allow it",
    Exit.UNAVAILABLE: "nothing listens, or it cannot serve now; nothing was done, try again later",
    Exit.UNKNOWN: "the outcome is unknown, or the time was over: look before you repeat",
    Exit.UNCONFIRMED: "the gateway took the command and no event proved it in time",
    Exit.BROKEN: "audit records are missing, changed or out of their place",
    Exit.INTERRUPTED: "ended by Ctrl-C; what was sent is not undone",
}


class CommandFailed(Exception):
    """A command cannot go on: what failed, and what to do next."""

    def __init__(self, exit_code: Exit, what: str, *, advice: str = "", details: dict[str, str] | None = None) -> None:
        super().__init__(what)
        self.exit_code = exit_code
        self.what = what
        self.advice = advice
        self.details = details or {}


def epilog() -> str:
    """Return the exit codes as the end of a help page; the first line keeps the form of the rest."""
    lines = [f"  {int(code):>3}  {meaning}" for code, meaning in MEANINGS.items()]
    return "\b\nExit codes:\n" + "\n".join(lines)


def exit_codes_markdown() -> str:
    """Return the exit codes as a table for the documentation."""
    rows = [f"| {int(code)} | {meaning} |" for code, meaning in MEANINGS.items()]
    return "\n".join(["| exit code | meaning |", "| --- | --- |", *rows]) + "\n"
