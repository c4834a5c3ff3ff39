"""The policy command: whether a policy can be used, and which rule allows or denies something."""

from __future__ import annotations

import difflib
import os
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Final

import typer

from qc_adapter import variables as at
from qc_adapter.access.asked import Asked, read_asked
from qc_adapter.access.caller import Caller
from qc_adapter.access.identities import read_identity
from qc_adapter.access.limit_values import Limits
from qc_adapter.access.policy_explain import Explanation, explain
from qc_adapter.access.policy_file import InvalidPolicy, read_policy
from qc_adapter.access.policy_methods import METHODS, Method, Names
from qc_adapter.cli.exits import CommandFailed, Exit, epilog
from qc_adapter.cli.output import BAD, DIM, GOOD, Output, Part, printable
from qc_adapter.environment import Reading
from qc_adapter.model.inspector import DEFAULT_GATEWAY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qc_adapter.access.policy import Entry, Policy

policy = typer.Typer(no_args_is_help=True, help="Check a policy, or explain whom it allows what.", epilog=epilog())

_File = Annotated[str, typer.Option("--policy", metavar="FILE", help="The policy.", show_default=at.POLICY_FILE.name)]
_Json = Annotated[bool, typer.Option("--json", help="One JSON object a line, for machines.")]
_NO_ID: Final = "must be decimal without leading zero, like 101"


@policy.command("check", epilog=epilog())
def check(
    file: Annotated[str, typer.Argument(metavar="[FILE]", help="The policy.", show_default=at.POLICY_FILE.name)] = "",
    json: _Json = False,
) -> None:
    """Say whether a policy can be used: every problem with its line. Gateways are those of the settings, if set."""
    path = _path(file)
    output = Output(json=json)
    try:
        found = read_policy(path, _gateways())
    except InvalidPolicy as invalid:
        for problem in invalid.problems:
            if json:
                output.value({"line": problem.line, "problem": problem.what})
            else:
                output.line((f"{printable(path)}:{problem.line}", BAD), f"  {problem.what}")
        count = len(invalid.problems)
        what = f"{count} problem{'s' if count > 1 else ''}: the policy cannot be used"
        raise CommandFailed(Exit.USAGE, what, advice="docs/policy.md has the form") from None
    except OSError as error:
        raise _unreadable(path, error) from error
    _show_callers(output, found)


@policy.command("explain", epilog=epilog())
def explain_policy(
    *,
    caller: Annotated[str, typer.Option(help="Name in the policy, or identity.", show_default=False)],
    method: Annotated[str, typer.Option(help="Name of the rpc, like Intercept.", show_default=False)],
    agent_id: Annotated[str, typer.Option(help="The inspector, like 101 or north/101.")] = "",
    work_no: Annotated[list[str] | None, typer.Option(help="The agent; may be given several times.")] = None,
    call_id: Annotated[str, typer.Option(help="The call, where the request names one.")] = "",
    file: _File = "",
    json: _Json = False,
) -> None:
    """Tell whether a caller may do something, by which rule, and within which limits. Denied: exit code 3."""
    path = _path(file)
    asked = _asked(_method(method), method, agent_id, work_no or [], call_id)
    try:
        found = read_policy(path, _gateways())
    except InvalidPolicy as invalid:
        advice = f"qc-adapter policy check {path} tells all"
        raise CommandFailed(Exit.USAGE, f"the policy cannot be used: {invalid.problems[0]}", advice=advice) from None
    except OSError as error:
        raise _unreadable(path, error) from error
    entries = _entries(found, caller)
    verdict = explain(entries, asked)
    limits = entries[0].limits if entries else found.limits_of(Caller((caller,)))
    output = Output(json=json)
    if json:
        output.value(_as_json(entries, verdict, limits))
    else:
        _show(output, path, entries, verdict, limits)
    if not verdict.allowed:
        raise typer.Exit(Exit.REFUSED)


def _path(given: str) -> str:
    path = given or os.environ.get(at.POLICY_FILE.name, "").strip()
    if not path:
        raise CommandFailed(Exit.USAGE, f"which policy? Name the file, or set {at.POLICY_FILE.name}")
    return path


def _unreadable(path: str, error: OSError) -> CommandFailed:
    return CommandFailed(Exit.USAGE, f"{path} cannot be read: {error.strerror or type(error).__name__}")


def _gateways() -> list[str] | None:
    """Return the gateways of the settings, None where there are no settings of a service."""
    reading = Reading(os.environ)
    names = [DEFAULT_GATEWAY, *reading.value(at.GATEWAYS)]
    return names if reading.text(at.GATEWAY.url) or len(names) > 1 else None


def _method(name: str) -> Method:
    method = METHODS.get(name)
    if method is None:
        near = difflib.get_close_matches(name, METHODS, n=1)
        what = f"did you mean {near[0]}?" if near else f"there are {', '.join(METHODS)}"
        raise CommandFailed(Exit.USAGE, f"{name!r} is no method: {what}")
    return method


def _asked(method: Method, name: str, agent_id: str, work_nos: Sequence[str], call_id: str) -> Asked:
    """Return what a request with these ids asks for; what cannot be one is no question."""
    if method.names is Names.NOBODY and not agent_id:
        return Asked(name)
    if not agent_id:
        raise CommandFailed(Exit.USAGE, f"{name} names {method.names}: --agent-id is required")
    wanted = {Names.AGENT: 1, Names.AGENTS: max(1, len(work_nos))}.get(method.names, 0)
    if len(work_nos) != wanted:
        how = "takes no --work-no" if not wanted else "takes one --work-no" if len(work_nos) > 1 else "needs --work-no"
        raise CommandFailed(Exit.USAGE, f"{name} names {method.names}: it {how}")
    unnamed = method.names is Names.CALL or bool(call_id)
    asked = read_asked(name, agent_id, work_nos, unnamed=unnamed)
    if asked is None:
        bad = (
            agent_id
            if read_asked(name, agent_id) is None
            else next(one for one in work_nos if read_asked(name, agent_id, [one]) is None)
        )
        raise CommandFailed(Exit.USAGE, f"{bad!r} is no id: it {_NO_ID}")
    return asked


def _entries(found: Policy, caller: str) -> tuple[Entry, ...]:
    named = tuple(entry for entry in found.entries if entry.name == caller)
    if named:
        return named
    try:
        return found.entries_of(Caller((read_identity(caller),)))
    except ValueError as error:
        near = difflib.get_close_matches(caller, found.names, n=1)
        advice = f"did you mean {near[0]}?" if near else f"an identity {error}"
        raise CommandFailed(Exit.USAGE, f"the policy has no caller {caller!r}", advice=advice) from None


def _given(limits: Limits) -> dict[str, int]:
    return {one.name: value for one in fields(Limits) if (value := getattr(limits, one.name)) is not None}


def _limits_text(limits: Limits) -> str:
    return ", ".join(f"{name} {value}" for name, value in _given(limits).items()) or "none"


def _as_json(entries: Sequence[Entry], verdict: Explanation, limits: Limits) -> dict[str, object]:
    rule = verdict.rule
    return {
        "allowed": verdict.allowed,
        "callers": [entry.name for entry in entries],
        "rule": rule and {"caller": rule.caller, "number": rule.number, "line": rule.line},
        "why": verdict.why,
        "limits": _given(limits),
    }


def _show(output: Output, path: str, entries: Sequence[Entry], verdict: Explanation, limits: Limits) -> None:
    output.line(("allowed", GOOD) if verdict.allowed else ("denied", BAD))
    rule = verdict.rule
    by = "" if rule is None else f"rule {rule.number} of {rule.caller} ({printable(path)}:{rule.line}) "
    lines = {
        "caller": ", ".join(entry.name for entry in entries) or "none",
        "by" if verdict.allowed else "nearest": f"{by}{verdict.why}",
        "limits": _limits_text(limits),
    }
    for name, text in lines.items():
        output.line((f"  {name:<9}", DIM), text)


def _show_callers(output: Output, found: Policy) -> None:
    rows: list[list[Part]] = []
    for entry in found.entries:
        if output.json:
            output.value(
                {
                    "caller": entry.name,
                    "line": entry.line,
                    "identities": list(entry.identities),
                    "rules": len(entry.rules),
                    "limits": _given(entry.limits),
                }
            )
        rows.append([entry.name, str(len(entry.rules)), ", ".join(entry.identities), _limits_text(entry.limits)])
    if not output.json:
        output.table(("caller", "rules", "identities", "limits"), rows)
        output.line(("policy", GOOD), "  can be used")
