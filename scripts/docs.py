"""Write the parts of the documents that come from tables in the code, or with --check say what is out of date."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from qc_adapter.cli.entry import commands_markdown
from qc_adapter.cli.exits import exit_codes_markdown
from qc_adapter.cli.explain import told
from qc_adapter.cli.simulator_switches import switches_markdown
from qc_adapter.events.catalogue import EVENT_TYPES, Category, ContentField, EventType
from qc_adapter.events.shapes import MONITORED_KINDS, SHAPES
from qc_adapter.gateway import operations
from qc_adapter.gateway.retcodes import RETCODES
from qc_adapter.model import errors
from qc_adapter.rpc.errors import BY_ERROR, BY_RETCODE, Answer
from qc_adapter.settings import settings_markdown
from qc_adapter.simulator.control_api import DOORS
from qc_adapter.simulator.scenario_steps import STEPS
from qc_adapter.telemetry.catalogue import catalogue_markdown
from qc_adapter.v1 import events_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qc_adapter.gateway.operations import Effects

ROOT: Final = Path(__file__).resolve().parent.parent
PAGES: Final = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
#: `<!-- generated NAME -->` to `<!-- end NAME -->`; what stands between is ours.
_PART: Final = re.compile(r"(<!-- generated (?P<name>[\w-]+) -->\n).*?(<!-- end (?P=name) -->)", re.DOTALL)
#: `InvalidRequest` carries its reason itself, and what became of a poll no caller hears.
_ELSEWHERE: Final = (errors.InvalidRequest, errors.PollFailed)
#: Tries each operation against the simulator, by a table of cases; one without a case fails.
CASES: Final = ROOT / "tests/e2e/adapter/test_adapter_operations.py"
_CASE: Final = re.compile(r"^    operations\.(\w+): Case\(", re.MULTILINE)
_REQUEST_REASONS: Final = {
    "INVALID_AGENT_ID": "an agent id is missing, out of range, or not a plain decimal number",
    "SELF_INSPECTION": "inspector and inspected agent are the same",
    "INVALID_ARGUMENT": "another field of the request is wrong; BadRequest names it",
}


def errors_markdown() -> str:
    """Return what the adapter itself finds, as a table."""
    rows = [_row("INVALID_ARGUMENT", f"`{reason}`", "", meaning) for reason, meaning in _REQUEST_REASONS.items()]
    rows += [
        _row(answer.code.name, f"`{answer.reason}`", _retry(answer), _sentence(error))
        for error, answer in BY_ERROR.items()
        if error not in _ELSEWHERE
    ]
    return _table(("status", "reason", "retry", "cause"), rows)


def refusals_markdown() -> str:
    """Return the reasons that stand for return codes of the gateway, as a table."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for retcode, answer in BY_RETCODE.items():
        found.setdefault((answer.code.name, answer.reason, _retry(answer)), []).append(retcode)
    rows = [
        _row(code, f"`{reason}`", retry, ", ".join(f"`{one}`" for one in retcodes))
        for (code, reason, retry), retcodes in found.items()
    ]
    rows.append(_row("by its category", "`GATEWAY_REFUSED`", "", "every other return code; see the list below"))
    return _table(("status", "reason", "retry", "return codes of the gateway"), rows)


def retcodes_markdown() -> str:
    """Return every listed return code with what a caller gets and what to do, as a table."""
    rows = []
    for found in RETCODES.values():
        answer = told(found)
        status = f"{answer.code.name} `{answer.reason}`" if answer.reason else answer.code.name
        rows.append(_row(f"`{found.code}`", found.meaning, status, _retry(answer), found.advice, found.source))
    return _table(("retcode", "meaning", "a caller gets", "retry", "what to do", "source"), rows)


def events_markdown() -> str:
    """Return every event type with its content and its details, as a table for each category."""
    heads = ("event", "what happened", "told to", "content", "details", "source")
    parts = []
    for category in Category:
        known = [event for event in EVENT_TYPES.values() if event.category is category]
        rows = [
            _row(f"`{event.name}`", event.meaning, event.receiver, _content(event), _details(event), _source(event))
            for event in known
        ]
        parts.append(f"### {category.capitalize()}\n\n{_table(heads, rows)}")
    return "\n" + "\n".join(parts) + "\n"


def monitored_markdown() -> str:
    """Return the kinds of news about a monitored agent, as a table."""
    kinds = events_pb2.MonitoredAgent.Kind
    return _table(
        ("subtype", "kind"), [_row(f"`{one}`", f"`{kinds.Name(kind)}`") for one, kind in MONITORED_KINDS.items()]
    )


def operations_markdown() -> str:
    """Return what an inspector can do, by rpc, as a table with its sum."""
    names = {one: name for name, one in vars(operations).items() if isinstance(one, operations.Operation)}
    cases = set(_CASE.findall(CASES.read_text()))
    tested = [one for one in operations.INSPECTIONS if names[one] in cases]
    rows = [
        _row(
            f"`{one.rpc}`",
            f"`{one.method}`",
            f"`{one.verb} {one.path.removeprefix('/qualitycontrol/{agent_id}')}`",
            one.page,
            _confirmed_by(one.effects),
            "✓" if one in tested else "",
        )
        for one in operations.INSPECTIONS
    ]
    heads = ("rpc", "method name", "request, below `/qualitycontrol/{agent_id}`", "source", "confirmed by", "tested")
    return f"{_table(heads, rows)}\nOperations of the contract: {len(rows)}, working: {len(tested)}.\n"


def _confirmed_by(effects: Effects | None) -> str:
    if effects is None:
        return "no event"
    names = [*sorted(effects.confirming), *(["the end of its session"] if effects.session_end else [])]
    whose = "the agent" if effects.at_target else "the inspector"
    known = "documented" if effects.documented else "inferred"
    return f"{whose}: {', '.join(names[:-1])}{' or ' if names[1:] else ''}{names[-1]} ({known})"


def doors_markdown() -> str:
    """Return what the simulator's control API offers, as a table."""
    return _table(("request", "what it does"), [_row(f"`{door}`", what) for door, what in DOORS.items()])


def steps_markdown() -> str:
    """Return what a step of a scenario can do, as a table."""
    rows = [
        _row(f"`{name}`", ", ".join(f"`{one}`" for one in sorted(needed)), ", ".join(f"`{o}`" for o in sorted(may)))
        for name, (needed, may) in STEPS.items()
    ]
    return _table(("do", "needs", "may have"), rows)


PARTS: Final[Mapping[str, Callable[[], str]]] = {
    "commands": commands_markdown,
    "errors": errors_markdown,
    "events": events_markdown,
    "exit-codes": exit_codes_markdown,
    "metrics": catalogue_markdown,
    "monitored": monitored_markdown,
    "operations": operations_markdown,
    "refusals": refusals_markdown,
    "retcodes": retcodes_markdown,
    "settings": settings_markdown,
    "simulator-doors": doors_markdown,
    "simulator-steps": steps_markdown,
    "simulator-switches": switches_markdown,
}


def renewed(text: str) -> str:
    """Return a page with its generated parts made anew; an unknown name is an error."""
    return _PART.sub(lambda part: f"{part[1]}{PARTS[part['name']]()}{part[3]}", text)


def main() -> None:
    """Write, or check."""
    stale = [(page, text) for page in PAGES if (text := renewed(page.read_text())) != page.read_text()]
    if "--check" not in sys.argv[1:]:
        for page, text in stale:
            page.write_text(text)
        return
    if stale:
        names = ", ".join(str(page.relative_to(ROOT)) for page, _ in stale)
        raise SystemExit(f"generated parts are not up to date ({names}): run `make docs` and commit")


def _sentence(error: type[errors.AdapterError]) -> str:
    first = (error.__doc__ or "").strip().splitlines()[0].rstrip(".")
    return first[0].lower() + first[1:]


def _content(event: EventType) -> str:
    if event.bare_call_id:
        return "the call id, as a text"
    return ", ".join(map(_field, event.fields)) or "null"


def _field(field: ContentField) -> str:
    return f"`{field.name}` {field.kind}{'?' if field.optional else ''}"


def _details(event: EventType) -> str:
    if event.name not in SHAPES:
        return "content only"
    kind = SHAPES[event.name].kind
    return f"`{kind}` {events_pb2.AgentEvent.DESCRIPTOR.fields_by_name[kind].message_type.name}"


def _source(event: EventType) -> str:
    return ", ".join(event.pages).replace("~", " (by its place)") or "seen in the field"


def _retry(answer: Answer) -> str:
    return "yes" if answer.retry else ""


def _row(*cells: str) -> str:
    escaped = (cell.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ") for cell in cells)
    return f"| {' | '.join(escaped)} |"


def _table(heads: tuple[str, ...], rows: list[str]) -> str:
    return "\n".join([_row(*heads), _row(*["---"] * len(heads)), *rows]) + "\n"


if __name__ == "__main__":
    main()
