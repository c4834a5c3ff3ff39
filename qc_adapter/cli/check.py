"""The check command: every setting redacted, everything that is wrong, on demand what can be reached."""

import asyncio
import os
from typing import Annotated, Final

import typer

from qc_adapter.cli.connect.findings import Finding, Level
from qc_adapter.cli.environment_settings import service_environment
from qc_adapter.cli.exits import CommandFailed, Exit
from qc_adapter.cli.output import BAD, DOUBT, GOOD, HEAD, Output, Part, printable
from qc_adapter.descriptors import most_descriptors, shortage
from qc_adapter.settings import InvalidSettings, Settings, SettingsProblem, describe, read_settings

_STYLES: Final = {Level.GOOD: GOOD, Level.WARNING: DOUBT, Level.PROBLEM: BAD}


def check(
    connect: Annotated[bool, typer.Option("--connect", help="Also try store, gateways, ports, certificates.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line, for machines.")] = False,
) -> None:
    """Show the settings of serve, without secrets, and everything that is wrong with them."""
    output = Output(json=json)
    environment = service_environment(os.environ)
    settings, problems = _read(environment)
    _show_settings(output, environment)
    for problem in problems:
        _show_verdict(output, "problem", BAD, str(problem))
    for warning in settings.warnings if settings else ():
        _show_verdict(output, "warning", DOUBT, warning)
    if settings is None:
        count = len(problems)
        raise CommandFailed(Exit.USAGE, f"{count} problem{'s' if count > 1 else ''}: qc-adapter serve would not start")
    _show_verdict(output, "settings", GOOD, "can be used")
    if few := shortage(settings, most_descriptors()):
        _show_verdict(output, "warning", DOUBT, few)
    if (traces := settings.tracing) is not None:
        share = f" ({traces.ratio:g})" if "ratio" in traces.sampler else ""
        _show_verdict(output, "traces", GOOD, f"go to {traces.endpoint}, sampled by {traces.sampler}{share}")
    if connect:
        from qc_adapter.cli.connect.around import look_around  # noqa: PLC0415 - doubles the start of the command

        found = asyncio.run(look_around(settings))
        for finding in found:
            _show_finding(output, finding)
        if count := sum(finding.level is Level.PROBLEM for finding in found):
            raise CommandFailed(Exit.UNAVAILABLE, f"{count} problem{'s' if count > 1 else ''}: not everything works")


def _read(environment: dict[str, str]) -> tuple[Settings | None, tuple[SettingsProblem, ...]]:
    try:
        return read_settings(environment), ()
    except InvalidSettings as invalid:
        return None, invalid.problems


def _show_settings(output: Output, environment: dict[str, str]) -> None:
    rows: list[list[Part]] = []
    for row in describe(environment):
        if output.json:
            output.value({"variable": row.variable, "value": row.value, "default": row.default, "meaning": row.meaning})
        changed = row.value != row.default
        rows.append([row.variable, (row.value, HEAD) if changed else row.value, row.default, row.meaning])
    if not output.json:
        output.table(("variable", "value", "default", "meaning"), rows)
        output.line()


def _show_verdict(output: Output, kind: str, style: str, text: str) -> None:
    if output.json:
        output.value({kind: text})
    else:
        output.line((kind, style), f"  {text}")


def _show_finding(output: Output, finding: Finding) -> None:
    if output.json:
        told = {"part": finding.part, "level": finding.level.value, "text": finding.text, "change": finding.change}
        output.value({name: value for name, value in told.items() if value})
        return
    output.line((finding.part, _STYLES[finding.level]), f"  {printable(finding.text)}")
    if finding.change:
        output.line((f"  {finding.level}", _STYLES[finding.level]), f": {printable(finding.change)}")
