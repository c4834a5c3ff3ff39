"""
`make busy`: a call centre of 500 agents with 50 inspectors at work, with polls and with pushes at the same time.

Each way has a gateway, two adapters on a Redis of their own, and callers. Ends with 1 when an event of the gateway was
not told exactly once and in order, an inspector was signed out, or a command ended in a way that the floor does not
explain.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import socket
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bench.centre.inspectors import Books, Inspector
from bench.chaos.fleet import Fleet
from bench.children import MIB, Child, Footprint
from bench.redis_server import RedisServer
from qc_adapter.client import QualityControlClient
from qc_adapter.v1 import sessions_pb2, sessions_pb2_grpc

FIRST_AGENT: Final = 20001
FIRST_INSPECTOR: Final = 1001
REPLICAS: Final = 2
SETTLE_SECONDS: Final = 60.0
SPARE_SECONDS: Final = 300.0
TOKEN: Final = "busycentretoken4711"  # noqa: S105 - known to nobody but this run


@dataclass(frozen=True, slots=True)
class Options:
    """How long, and how many."""

    minutes: float
    agents: int
    inspectors: int
    calls_per_minute: float
    seed: int


@dataclass(slots=True)
class Findings:
    """What one way came to."""

    way: str
    queued: int = 0
    told: int = 0
    missing: int = 0
    out_of_place: int = 0
    books: Books = field(default_factory=Books)
    story: dict[str, Any] = field(default_factory=dict)
    adapters: list[Footprint] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


async def run(options: Options) -> int:
    """Run both ways at once, print what came of them, and return the exit code."""
    async with asyncio.timeout(options.minutes * 60 + SPARE_SECONDS):
        found = await asyncio.gather(*(one_way(way, options) for way in ("poll", "push")))
    for findings in found:
        _print(findings)
    return 1 if any(_violations(findings) for findings in found) else 0


async def one_way(way: str, options: Options) -> Findings:
    """Run a centre whose events come that way."""
    findings = Findings(way)
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"qc-centre-{way}-")))
        redis = RedisServer(folder)
        await asyncio.to_thread(redis.start)
        stack.callback(redis.stop)
        settings = json.dumps(
            {
                "agents": options.agents,
                "first_agent": FIRST_AGENT,
                "calls_per_minute": options.calls_per_minute,
                "random_seed": options.seed,
            }
        )
        gateway = await Child.start("centre.gateway_child", settings, errors=folder / "gateway.err", environment={})
        stack.push_async_callback(gateway.stop)
        environment = {
            "QC_GATEWAY_URL": str(await gateway.ask("url")),
            "QC_STORE_URL": redis.url,
            "QC_LISTEN": "127.0.0.1:0",
            "QC_OPS_LISTEN": "127.0.0.1:0",
            **(_pushing() if way == "push" else {}),
        }
        fleet = Fleet(folder, environment, redis_port=None, chance=random.Random(options.seed))  # noqa: S311
        stack.push_async_callback(fleet.close)
        await fleet.start(1)
        # The port that gateways push to is one replica's; a cluster has a load balancer there.
        fleet.environment["QC_PUSH_LISTEN"] = "127.0.0.1:0" if way == "push" else ""
        await fleet.start(REPLICAS - 1)
        await _work(findings, options, gateway, fleet)
        findings.adapters = [Footprint.of(replica.process.pid) for replica in fleet.serving]
        findings.problems += await fleet.end()
    return findings


async def _work(findings: Findings, options: Options, gateway: Child, fleet: Fleet) -> None:
    target = [str(replica.listen) for replica in fleet.serving]
    async with QualityControlClient(target) as client:
        inspectors = _inspectors(client, options, findings.books)
        await _sign_in(client, inspectors)
        watching = [asyncio.create_task(one.watch(), name=f"watch {one.agent_id}") for one in inspectors]
        try:
            await asyncio.gather(*(one.monitor() for one in inspectors))
            until = time.monotonic() + options.minutes * 60
            await asyncio.gather(*(one.work(until) for one in inspectors))
            findings.story = await gateway.ask("story")
            await _compare(findings, gateway, inspectors)
        finally:
            findings.problems += [f"{task.get_name()} ended: {task.exception()}" for task in watching if task.done()]
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)


def _inspectors(client: QualityControlClient, options: Options, books: Books) -> list[Inspector]:
    each = options.agents // options.inspectors
    found = []
    for number in range(options.inspectors):
        agents = [str(FIRST_AGENT + number * each + place) for place in range(each)]
        chance = random.Random(options.seed * 1000 + number)  # noqa: S311 - a repeatable choice, nothing secret
        found.append(Inspector(client, str(FIRST_INSPECTOR + number), agents, books, chance))
    return found


async def _sign_in(client: QualityControlClient, inspectors: list[Inspector]) -> None:
    stub = sessions_pb2_grpc.InspectorSessionsStub(client.channel)
    for one in inspectors:
        request = sessions_pb2.SignInRequest(agent_id=one.agent_id, phone_number=f"4{one.agent_id}")
        await stub.SignIn(request, timeout=30, wait_for_ready=True)


async def _compare(findings: Findings, gateway: Child, inspectors: list[Inspector]) -> None:
    """Compare, once the last events had their time: agents go on talking, so more may have been queued by then."""
    for one in inspectors:
        queued: list[str] = await gateway.ask("trail", one.agent_id)
        await one.told_of(len(queued), SETTLE_SECONDS)
        state, truth = await one.state(), str(await gateway.ask("state_of", one.agent_id))
        if state != truth:
            findings.problems.append(f"{one.agent_id} is {truth} and told to be {state}")
        told = one.told[: len(queued)]
        findings.queued += len(queued)
        findings.told += len(told)
        findings.missing += len(queued) - len(told)
        findings.out_of_place += sum(before != after for before, after in zip(queued, told, strict=False))


def _violations(findings: Findings) -> list[str]:
    found = list(findings.problems)
    if findings.missing or findings.out_of_place or findings.books.gaps:
        gaps = dict(findings.books.gaps)
        found.append(f"{findings.missing} events missing, {findings.out_of_place} out of place, gaps: {gaps}")
    found += [f"signed out: {one}" for one in findings.story.get("sign_outs", [])]
    if findings.story.get("overlaps"):
        found.append(f"{findings.story['overlaps']} polls overlapped")
    return found + findings.books.unexplained


def _print(findings: Findings) -> None:
    books, story = findings.books, findings.story
    print(f"\n== {findings.way}")
    print(f"events queued {findings.queued}, told {findings.told}, missing {findings.missing}, out of place "
          f"{findings.out_of_place}, gaps {dict(books.gaps)}")  # fmt: skip
    rpcs = sorted({rpc for rpc, _ in books.endings})
    for rpc in rpcs:
        endings = {ending: number for (name, ending), number in books.endings.items() if name == rpc}
        print(f"  {rpc:16} " + ", ".join(f"{number} {ending}" for ending, number in sorted(endings.items())))
    if len(books.confirmed_after) > 1:
        cuts = statistics.quantiles(books.confirmed_after, n=100)
        print(f"confirmed after: median {cuts[49] * 1000:.0f} ms, 99 % within {cuts[98] * 1000:.0f} ms")
    requests = dict(sorted(story.get("operations", {}).items()))
    print(f"gateway: {requests}, pushes {story.get('pushes')}, events pushed again {story.get('pushes_repeated')}")
    for footprint in findings.adapters:
        print(f"adapter: {footprint.cpu_seconds:.1f} s CPU, {footprint.rss_bytes / MIB:.0f} MiB, {footprint.fds} fds")
    print("\n".join(_violations(findings)[:40]) or "no violation")


def _pushing() -> dict[str, str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return {
        "QC_EVENT_SOURCE": "push",
        "QC_PUSH_LISTEN": f"127.0.0.1:{port}",
        "QC_PUSH_URL": f"http://127.0.0.1:{port}/events",
        "QC_PUSH_TOKEN": TOKEN,
    }


def main() -> int:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--agents", type=int, default=500)
    parser.add_argument("--inspectors", type=int, default=50)
    parser.add_argument("--calls-per-minute", type=float, default=200.0)
    parser.add_argument("--seed", type=int, default=1)
    options = Options(**vars(parser.parse_args()))
    if not 1 <= options.inspectors <= options.agents <= 5000 or options.minutes > 60:
        parser.error("at most 5000 agents, 60 minutes, and one inspector for each agent")
    return asyncio.run(run(options))


if __name__ == "__main__":
    sys.exit(main())
