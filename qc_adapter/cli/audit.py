"""The audit command: whether audit records are whole."""

from __future__ import annotations

import os
import re
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from qc_adapter import variables as at
from qc_adapter.audit.verify import Verifier
from qc_adapter.cli.exits import CommandFailed, Exit
from qc_adapter.cli.output import BAD, DIM, GOOD, HEAD, Output, printable
from qc_adapter.environment import Reading

if TYPE_CHECKING:
    from qc_adapter.audit.findings import Break, ChainSeen, Findings

_HASH: Final = re.compile(r"[0-9a-f]{64}|", re.ASCII)
_STDIN: Final = "-"


class Action(StrEnum):
    """What can be done with audit records."""

    VERIFY = "verify"


def audit(
    _action: Annotated[Action, typer.Argument(metavar="verify", show_default=False)],
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Oldest first; - for standard input.", show_default=False)
    ],
    head: Annotated[
        str,
        typer.Option(metavar="HASH", help="Of an audit_head line: that record must be there. Its chain may run on."),
    ] = "",
    after: Annotated[
        str, typer.Option(metavar="HASH", help="Of the last record before these files, which are not kept any more.")
    ] = "",
    json: Annotated[bool, typer.Option("--json", help="One JSON object, for machines.")] = False,
) -> None:
    """Say whether audit records are whole: none missing, changed or out of its place. QC_AUDIT_KEY is the key."""
    for option, text in (("--head", head), ("--after", after)):
        if not _HASH.fullmatch(text):
            raise CommandFailed(Exit.USAGE, f"{option} must be a hash: 64 digits from 0 to f")
    verifier = Verifier(_key(), head=head, after=after)
    for name in files:
        _read(verifier, name)
    found, output = verifier.finish(), Output(json=json)
    if json:
        output.value(_as_json(found))
    else:
        _show(found, output)
    if not found.whole:
        total = found.counts.total()
        raise CommandFailed(Exit.BROKEN, f"the records are not whole: {total} break{'s' if total > 1 else ''}")


def _key() -> bytes:
    reading = Reading(os.environ)
    key = reading.value(at.AUDIT_KEY)
    if reading.problems:
        raise CommandFailed(Exit.USAGE, str(reading.problems[0]))
    return key.reveal().encode()


def _read(verifier: Verifier, name: str) -> None:
    try:
        if name == _STDIN:
            verifier.read("standard input", sys.stdin.buffer)
            return
        with Path(name).open("rb") as file:
            verifier.read(name, file)
    except OSError as error:
        raise CommandFailed(Exit.USAGE, f"{name} cannot be read: {error.strerror or type(error).__name__}") from None


def _as_json(found: Findings) -> dict[str, Any]:
    return {
        "whole": found.whole,
        "records": found.records,
        "foreign_lines": found.foreign_lines,
        "torn_lines": found.torn_lines,
        "chains": [
            {
                "chain": one.name,
                "replica": one.replica,
                "from": one.first_time,
                "to": one.last_time,
                "records": one.records,
                "keyed": one.keyed,
                "ended": one.ended,
                "head": one.head,
            }
            for one in found.chains.values()
        ],
        "breaks": [
            {"kind": one.kind, "what": one.what, "chain": one.chain, "file": one.file, "line": one.line}
            for one in found.breaks
        ],
        "counts": dict(found.counts),
    }


def _show(found: Findings, output: Output) -> None:
    # All of it is what stands in a file, which may be by anybody.
    for chain in found.chains.values():
        _show_chain(chain, output)
    if found.foreign_lines:
        output.line((f"{found.foreign_lines} lines that are no audit records", DIM))
    if found.torn_lines:
        output.line((f"{found.torn_lines} torn lines, of writes that failed", DIM))
    for one in found.breaks:
        output.line((_place(one), BAD), printable(one.what))
    for kind, count in found.counts.items():
        shown = sum(one.kind == kind for one in found.breaks)
        if count > shown:
            output.line((f"and {count - shown} more of the kind {kind}", BAD))
    if found.whole:
        output.line(("whole", GOOD), f": {found.records} records")


def _show_chain(chain: ChainSeen, output: Output) -> None:
    key = "with a key" if chain.keyed else "without a key"
    end = "ended" if chain.ended else "not ended"
    output.line(
        (f"chain {printable(chain.name)}", HEAD),
        f" of {printable(chain.replica)}: {chain.records} records from {printable(chain.first_time)} "
        f"to {printable(chain.last_time)}, {key}, {end}, head {printable(chain.head)}",
    )


def _place(one: Break) -> str:
    if one.line:
        return f"{printable(one.file)}:{one.line}: "
    return f"chain {printable(one.chain)}: " if one.chain else ""
