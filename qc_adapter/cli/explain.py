"""The explain command: what a return code of the gateway means, and what a caller is told about it."""

import re
from typing import Annotated, Final

import typer
from grpc import StatusCode

from qc_adapter.cli.exits import CommandFailed, Exit
from qc_adapter.cli.output import BAD, DIM, GOOD, HEAD, Output, Part
from qc_adapter.gateway.retcodes import RETCODES, Category, Retcode, describe
from qc_adapter.rpc.errors import Answer, answer_to_retcode

_SHAPE: Final = re.compile(r"0|[0-9]{3}-[0-9]{3,6}", re.ASCII)
_NEW_SESSION: Final = "INSPECTOR_SESSION_LOST"


def explain(
    retcode: Annotated[str, typer.Argument(metavar="[RETCODE]", help="Like 900-003.", show_default=False)] = "",
    all_codes: Annotated[bool, typer.Option("--all", help="All listed codes.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line, for machines.")] = False,
) -> None:
    """Explain a return code of the gateway: meaning, advice, and what a caller is told."""
    output = Output(json=json)
    text = retcode.strip()
    if all_codes == bool(text):
        raise CommandFailed(Exit.USAGE, "give one return code, like 900-003, or --all")
    if all_codes:
        _explain_all(output)
        return
    if not _SHAPE.fullmatch(text):
        raise CommandFailed(
            Exit.USAGE,
            f"{text!r} is not a return code",
            advice="it is 0, or three digits, a hyphen and three digits, like 900-003; --all lists what is known",
        )
    found = describe(text)
    if json:
        output.value(as_json(found))
    else:
        _explain_one(output, found)


def as_json(found: Retcode) -> dict[str, object]:
    """Return a code and what a caller is told about it."""
    answer = told(found)
    return {
        "retcode": found.code,
        "listed": found.listed,
        "meaning": found.meaning,
        "category": str(found.category),
        "advice": found.advice,
        "note": found.note,
        "source": found.source,
        "grpc_code": answer.code.name,
        "reason": answer.reason,
        "retry": answer.retry,
    }


def told(found: Retcode) -> Answer:
    """Return what a caller is told about a code; success is no error."""
    return Answer(StatusCode.OK, "") if found.category is Category.OK else answer_to_retcode(found.code)


def retry_text(found: Retcode) -> str:
    """Return whether repeating the same call can help."""
    answer = told(found)
    if answer.code is StatusCode.OK:
        return "not needed"
    if answer.retry:
        return "yes, after a pause: nothing was done, and the status carries RetryInfo"
    if answer.reason == _NEW_SESSION:
        return "only after a new sign-in"
    return "no, not unless something changes first"


def _explain_all(output: Output) -> None:
    if output.json:
        for found in RETCODES.values():
            output.value(as_json(found))
        return
    rows: list[list[Part]] = []
    for found in RETCODES.values():
        answer = told(found)
        rows.append([found.code, answer.code.name, answer.reason, "yes" if answer.retry else "", found.meaning])
    output.table(("retcode", "status", "reason", "retry", "meaning"), rows)


def _explain_one(output: Output, found: Retcode) -> None:
    answer = told(found)
    style = GOOD if answer.code is StatusCode.OK else BAD
    output.line((found.code, style), "  ", (found.meaning, HEAD))
    if not found.listed:
        output.line("This code is not listed: what follows is concluded from its group.")
    lines = {
        "category": f"{found.category} (a judgement of this project)",
        "advice": found.advice,
        "note": found.note,
        "source": found.source,
        "a caller gets": f"{answer.code.name} {answer.reason}".strip(),
        "repeat it?": retry_text(found),
    }
    for name, text in lines.items():
        if text:
            output.line((f"  {name:<15}", DIM), text)
