"""
`make soak`: inspectors kept signed in over GUID rotations at real speed, intercepting all along.

The gateway's own times: a new GUID every 60 s, the old one dead after 120 s, polls held for 10 s, a sign-out after
120 s of silence. Ends with 1 when an inspector was signed out, polls overlapped, an event went missing, a command was
refused or received twice.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from typing import Any, Final

import grpc

from bench.accounts import Accounts
from bench.children import MIB, Bench, Child, running
from bench.driver import Callers, Order
from qc_adapter.v1 import events_pb2, events_pb2_grpc

FIRST_INSPECTOR: Final = 1000
FIRST_AGENT: Final = 3000
#: A cycle brings ten events, each by a poll of its own, 200 ms apart: in less time they would pile up at the gateway.
PACE_SECONDS: Final = 3.0
REPORT_SECONDS: Final = 60.0
SPARE_SECONDS: Final = 120.0
ROTATION_SECONDS: Final = 60.0


class Soak:
    """The inspectors, each with one loop of commands and one stream of events."""

    def __init__(self, bench: Bench, channel: grpc.aio.Channel, until: float) -> None:
        self._bench = bench
        self._callers = Callers(channel)
        self._events = events_pb2_grpc.InspectorEventsStub(channel)
        self._until = until
        self._next_agent = FIRST_AGENT
        self.accounts = Accounts()
        self.told = 0
        self.gaps = 0

    async def inspect(self, inspector: str) -> None:
        """Listen to a call and take it over, again and again, each time with another agent."""
        while time.monotonic() < self._until:
            began = time.monotonic()
            self._next_agent += 1
            agent = str(self._next_agent)
            call_id = await self._bench.begin_call(agent)
            for rpc in ("Listen", "Intercept"):
                order = Order(rpc, inspector, agent)
                result = await self._callers.run(order)
                self.accounts.note(order, result, cancel_asked=False, may_be_refused=False)
            await self._bench.end_call(call_id)
            await asyncio.sleep(max(0.0, PACE_SECONDS - (time.monotonic() - began)))

    async def watch(self, inspector: str) -> None:
        """Count what an open Watch stream tells, until it is cancelled."""
        async for told in self._events.Watch(events_pb2.WatchRequest(agent_id=inspector)):
            self.told += told.HasField("event")
            self.gaps += told.HasField("gap")

    async def sign_in(self, inspectors: list[str]) -> None:
        """Sign all of them in."""
        await self._callers.sign_in(inspectors)


async def run(minutes: float, inspectors: int) -> int:
    """Run that long, print it, and return the exit code."""
    began = time.monotonic()
    until = began + minutes * 60
    names = [str(FIRST_INSPECTOR + number) for number in range(inspectors)]
    async with (
        asyncio.timeout(minutes * 60 + SPARE_SECONDS),
        running({"recorded_requests": 200_000}, {}) as bench,
        grpc.aio.insecure_channel(bench.target) as channel,
    ):
        soak = Soak(bench, channel, until)
        await soak.sign_in(names)
        watching = [asyncio.create_task(soak.watch(name), name=f"watch {name}") for name in names]
        reporting = asyncio.create_task(_report_often(soak, bench, began), name="report")
        try:
            async with asyncio.TaskGroup() as group:
                for name in names:
                    group.create_task(soak.inspect(name))
        finally:
            broken = [task.get_name() for task in watching if task.done()]
            for task in (*watching, reporting):
                task.cancel()
            await asyncio.gather(*watching, reporting, return_exceptions=True)
        received = soak.accounts.compare_with_gateway(await bench.simulator.ask("commands"))
        soak.accounts.compare_with_metrics(await bench.metrics(), received)
        story = await bench.simulator.ask("story")
    _judge(soak, story, broken, names, minutes)
    _print(soak, story, received)
    return 1 if soak.accounts.violations else 0


def _judge(soak: Soak, story: dict[str, Any], broken: list[str], names: list[str], minutes: float) -> None:
    for name in ("overlaps", "sign_outs", "lost_on_wire"):
        if story[name]:
            soak.accounts.violate(f"{name}: {story[name]}")
    refused = [code for code in story["replies"] if not code.endswith(" 0")]
    if refused:
        soak.accounts.violate(f"the gateway refused: {refused}")
    if broken or soak.gaps:
        soak.accounts.violate(f"streams that ended: {broken}, gaps: {soak.gaps}")
    # A GUID changes with the first poll reply after its 60 s, which may come 10 s later.
    least = int(minutes * 60 / (ROTATION_SECONDS + 11))
    for name in names:
        if story["rotations"].get(name, 0) < least:
            soak.accounts.violate(f"inspector {name} saw fewer than {least} rotations: {story['rotations']}")


async def _report_often(soak: Soak, bench: Bench, began: float) -> None:
    while True:
        await asyncio.sleep(REPORT_SECONDS)
        story = await bench.simulator.ask("story")
        print(f"{time.monotonic() - began:5.0f} s: {_line(soak, story)}, {_memory(bench.adapter)}", flush=True)


def _line(soak: Soak, story: dict[str, Any]) -> str:
    return (
        f"rotations {sum(story['rotations'].values())}, confirmed {_ended(soak, 'confirmed')}, refused "
        f"{_ended(soak, 'refused')}, polls {story['replies'].get('getAgentEvent 0', 0)}, overlaps {story['overlaps']}, "
        f"sign-outs {len(story['sign_outs'])}, events {soak.told}, gaps {soak.gaps}"
    )


def _ended(soak: Soak, ending: str) -> int:
    return sum(number for (_, how), number in soak.accounts.endings.items() if how.startswith(ending))


def _memory(child: Child) -> str:
    footprint = child.footprint()
    return f"{footprint.rss_bytes / MIB:.1f} MiB, {footprint.fds} descriptors, {footprint.cpu_seconds:.1f} s CPU"


def _print(soak: Soak, story: dict[str, Any], received: int) -> None:
    print(f"in all: {_line(soak, story)}")
    print(f"rotations of each inspector: {story['rotations']}; replies: {story['replies']}")
    print(f"{received} commands reached the gateway, each once")
    print("\n".join(soak.accounts.violations[:40]) or "no violation")


def main() -> int:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=6.0)
    parser.add_argument("--inspectors", type=int, default=3)
    options = parser.parse_args()
    return asyncio.run(run(options.minutes, options.inspectors))


if __name__ == "__main__":
    sys.exit(main())
