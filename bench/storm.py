"""
`make storm`: 1,000 intercepts at once, then storms of 20,000 calls of which half are cancelled.

Simulator and adapter are processes of their own on loopback. Ends with 1 when a call failed that was not asked to, when
the gateway received a command twice, or when tasks, sockets or memory of the adapter do not come back.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from dataclasses import dataclass, field
from typing import Any, Final

import grpc

from bench.accounts import Accounts, Samples, settled_commands
from bench.children import MIB, Bench, Footprint, running
from bench.cycles import Options, Storm
from bench.driver import Callers

LONGEST_SECONDS: Final = 1500.0
SETTLE_SECONDS: Final = 60.0
SPARE_TASKS: Final = 5
GROWTH_MIB: Final = 4.0


@dataclass(slots=True)
class Round:
    """One storm, and what the adapter looked like once it was over."""

    name: str
    calls: int
    seconds: float
    cpu_seconds: float
    received: int
    footprint: Footprint
    tasks: dict[str, int] = field(default_factory=dict)


async def settled(bench: Bench, tasks_allowed: int, fds_allowed: int) -> dict[str, int]:
    """Wait until the adapter has no more tasks and descriptors than that, or until patience ends."""
    until = time.monotonic() + SETTLE_SECONDS
    while True:
        tasks: dict[str, int] = await bench.adapter.ask("tasks")
        few = sum(tasks.values()) <= tasks_allowed
        if (few and bench.adapter.footprint().fds <= fds_allowed) or time.monotonic() > until:
            return tasks
        await asyncio.sleep(1.0)


async def _quiet(bench: Bench, inspectors: int) -> None:
    """Wait until a poll of every inspector is held: what there is then is the measure for what must come back."""
    while await bench.simulator.ask("held") < inspectors:  # noqa: ASYNC110 - another process
        await asyncio.sleep(0.2)


async def run(options: Options) -> int:
    """Run everything, print it, and return the exit code."""
    simulator = {"event_delay_seconds": 0.0, "recorded_requests": 200_000, "phone_connected": True}
    async with (
        asyncio.timeout(LONGEST_SECONDS),
        running(simulator, {"LOAD_SMALL_MEMORY": "1", "QC_STORE_URL": options.store}) as bench,
        grpc.aio.insecure_channel(bench.target) as channel,
    ):
        storm = Storm(bench, Callers(channel), options)
        await Callers(channel).sign_in(storm.inspectors)
        await _quiet(bench, options.inspectors)
        before = bench.adapter.footprint()
        tasks_before = sum((await bench.adapter.ask("tasks")).values())
        print(f"{options.inspectors} inspectors signed in: {_show(before)}, {tasks_before} tasks")
        names = ["intercepts at once", *(f"storm {number + 1}" for number in range(options.rounds))]
        rounds = [await _measured(bench, storm, name, before, tasks_before) for name in names]
        story = await bench.simulator.ask("story")
    _check_story(storm.accounts, story)
    _check_growth(storm.accounts, rounds, options.spare_fds)
    _report(storm.accounts, rounds, story)
    return 1 if storm.accounts.violations else 0


async def _measured(bench: Bench, storm: Storm, name: str, before: Footprint, tasks_before: int) -> Round:
    accounts = storm.accounts
    calls, cpu, began = accounts.calls, bench.adapter.footprint().cpu_seconds, time.monotonic()
    await (storm.storm() if name.startswith("storm") else storm.all_at_once())
    seconds, cpu_seconds = time.monotonic() - began, bench.adapter.footprint().cpu_seconds - cpu
    fds_allowed = before.fds + storm.options.spare_fds
    tasks = await settled(bench, tasks_before + SPARE_TASKS, fds_allowed)
    after = bench.adapter.footprint()
    if sum(tasks.values()) > tasks_before + SPARE_TASKS:
        accounts.violate(f"{name}: {tasks_before} tasks before, now {tasks}")
    if after.fds > fds_allowed:
        accounts.violate(f"{name}: {before.fds} descriptors before, {after.fds} now")
    # Cumulative on purpose: a command of an earlier round that is sent again now would show.
    received = accounts.compare_with_gateway(await bench.simulator.ask("commands"))
    metrics = await _all_told(bench, received)
    accounts.compare_with_metrics(metrics, received)
    if any(metrics.get("qc_streams_active", {}).values()):
        accounts.violate(f"{name}: streams are counted as open: {metrics['qc_streams_active']}")
    done = Round(name, accounts.calls - calls, seconds, cpu_seconds, received, after, tasks)
    print(f"{name}: {done.calls} calls in {seconds:.1f} s, then {_show(after)}, {sum(tasks.values())} tasks")
    return done


async def _all_told(bench: Bench, received: int) -> Samples:
    """Read the metrics once every command has its outcome: events go on coming after the last caller has left."""
    until = time.monotonic() + SETTLE_SECONDS
    while True:
        metrics = await bench.metrics()
        if settled_commands(metrics) >= received or time.monotonic() > until:
            return metrics
        await asyncio.sleep(0.2)


def _check_story(accounts: Accounts, story: dict[str, Any]) -> None:
    for name in ("overlaps", "sign_outs", "lost_on_wire"):
        if story[name]:
            accounts.violate(f"{name}: {story[name]}")


def _check_growth(accounts: Accounts, rounds: list[Round], spare_fds: int) -> None:
    # Right after the sign-ins their connections are still kept: later rounds are held to the first one.
    for one in rounds[1:]:
        if one.footprint.fds > rounds[0].footprint.fds + spare_fds:
            accounts.violate(f"{one.name}: {rounds[0].footprint.fds} descriptors at first, {one.footprint.fds} now")
    storms = rounds[1:]
    if len(storms) >= 3:
        grown = (storms[-1].footprint.rss_bytes - storms[-2].footprint.rss_bytes) / MIB
        if grown > GROWTH_MIB:
            accounts.violate(f"memory grew by {grown:.1f} MiB from {storms[-2].name} to {storms[-1].name}")


def _show(footprint: Footprint) -> str:
    return f"{footprint.rss_bytes / MIB:.1f} MiB, {footprint.fds} descriptors, {footprint.threads} threads"


def _report(accounts: Accounts, rounds: list[Round], story: dict[str, Any]) -> None:
    print(f"\n{'':20}{'calls':>8}{'s':>8}{'calls/s':>9}{'CPU us/call':>13}{'MiB':>8}{'fds':>7}{'tasks':>7}")
    for one in rounds:
        spent = one.cpu_seconds / one.calls * 1e6
        print(
            f"{one.name:20}{one.calls:8}{one.seconds:8.1f}{one.calls / one.seconds:9.0f}{spent:13.0f}"
            f"{one.footprint.rss_bytes / MIB:8.1f}{one.footprint.fds:7}{sum(one.tasks.values()):7}"
        )
    print()
    for (rpc, ending), number in sorted(accounts.endings.items()):
        print(f"{rpc:16}{ending:24}{number:8}")
    print(f"{accounts.calls} calls, {accounts.cancels_asked} to be cancelled, {accounts.messages} messages")
    print(f"{rounds[-1].received} commands reached the gateway, each once")
    print(f"gateway: {sum(story.pop('rotations').values())} rotations, {story}")
    print("\n".join(accounts.violations[:40]) or "no violation")


def main() -> int:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inspectors", type=int, default=1000)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    # With more at once an inspector is back at work before its events have come, one a poll and 200 ms apart.
    parser.add_argument("--in-flight", type=int, help="callers at once; a fifth of the inspectors if not given")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--store", default="memory://", help="QC_STORE_URL of the adapter; an empty Redis, if one")
    given = parser.parse_args()
    given.in_flight = given.in_flight or max(1, given.inspectors // 5)
    options = Options(**vars(given))
    # Agents are numbered from 3000 on, one for each cycle, and the gateway knows 59999.
    if options.inspectors > 2000 or options.calls * options.rounds > 100_000:
        parser.error("at most 2000 inspectors and 100000 calls in all")
    return asyncio.run(run(options))


if __name__ == "__main__":
    sys.exit(main())
