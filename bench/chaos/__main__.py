"""
`make test-chaos`: real replicas, a real Redis and the simulated gateway under every fault there is.

The adapter polls, or with `--push` the gateway pushes. Ends with 1 when an event was lost or told twice, a poll
overlapped, an inspector was signed out, a command was sent twice, or a process did not end as it was told.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from dataclasses import replace
from pathlib import Path

from bench.chaos.form import LONG, SHORT, Form
from bench.chaos.report import Row, line, table, write
from bench.chaos.scenarios import ALL, PUSHED, UPGRADE, Scenario, named
from bench.chaos.site import running

LONGEST_SECONDS = 3600.0


async def attempt(scenario: Scenario, form: Form, times: int, seed: int, python: str = "") -> tuple[Row, list[str]]:
    """Try one fault on a site of its own; return its row and what was wrong."""
    row, violations = Row(scenario.fault), list[str]()
    try:
        async with running(form, sentinels=scenario.sentinels, seed=seed, python=python) as site:
            for number in range(1, times + 1):
                trial = await site.trial(scenario)
                row.add(trial)
                print(line(scenario.name, number, trial), flush=True)
                for violation in trial.violations[:20]:
                    print(f"    {violation}", flush=True)
                violations += trial.violations
    except* (RuntimeError, TimeoutError) as failures:
        for failure in failures.exceptions:
            print(f"{scenario.name}: {failure}", flush=True)
            violations.append(f"{scenario.name}: {failure}")
    return row, violations


async def run(
    scenarios: list[Scenario], form: Form, times: int, seed: int, python: str = ""
) -> tuple[list[Row], list[str]]:
    """Try all of them, one after the other."""
    rows, violations = list[Row](), list[str]()
    for scenario in scenarios:
        async with asyncio.timeout(LONGEST_SECONDS):
            row, wrong = await attempt(scenario, form, times, seed, python)
        rows.append(row)
        violations += wrong
    return rows, violations


def main() -> int:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = ", ".join(one.name for one in dict.fromkeys((*ALL, *PUSHED)))
    parser.add_argument("--only", action="append", metavar="NAME", help=names)
    parser.add_argument("--push", action="store_true", help="events are pushed, sign-ins are made anew")
    parser.add_argument(
        "--upgrade-from", metavar="PYTHON", default="", help="from the version installed there to this tree, and back"
    )
    parser.add_argument("--times", type=int, default=3, help="how often each fault is tried")
    parser.add_argument("--short", action="store_true", help="few inspectors and a tenth of all times")
    parser.add_argument("--inspectors", type=int)
    parser.add_argument("--replicas", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table between the marks of this page")
    options = parser.parse_args()
    form = SHORT if options.short else LONG
    form = form.pushed() if options.push else form
    form = replace(form, inspectors=options.inspectors or form.inspectors, replicas=options.replicas or form.replicas)
    try:
        known = PUSHED if options.push else ALL
        scenarios = [named(name, known) for name in options.only] if options.only else list(known)
        scenarios = [UPGRADE] if options.upgrade_from else scenarios
    except LookupError as error:
        parser.error(str(error))
    began = time.monotonic()
    rows, violations = asyncio.run(run(scenarios, form, options.times, options.seed, options.upgrade_from))
    text = table(rows, pushes=options.push)
    print(f"\n{text}\n{time.monotonic() - began:.0f} s; {len(violations) or 'no'} violations")
    if options.write is not None:
        write(options.write, text, pushes=options.push)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
