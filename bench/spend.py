"""
CPU time of the adapter for one Intercept, and where it goes; by itself, not against other adapters.

64 inspectors intercept without a pause against a gateway that costs next to nothing. The time is what the kernel
charges the adapter's process: utime and stime, so the driver's own share does not matter.
"""

from __future__ import annotations

import argparse
import asyncio
import pstats
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import grpc

from bench.children import Bench, running
from qc_adapter.v1 import quality_control_pb2 as pb
from qc_adapter.v1 import quality_control_pb2_grpc as pb_grpc
from qc_adapter.v1 import sessions_pb2, sessions_pb2_grpc

FIRST_INSPECTOR: Final = 1000
WARM_UP: Final = 300
SPARE_SECONDS: Final = 300.0


class Load:
    """Callers that intercept one after the other, each with an inspector of its own."""

    def __init__(self, channel: grpc.aio.Channel, at_once: int) -> None:
        self._intercept: Any = pb_grpc.QualityControlStub(channel).Intercept
        self._sessions = sessions_pb2_grpc.InspectorSessionsStub(channel)
        self._inspectors = [str(FIRST_INSPECTOR + number) for number in range(at_once)]

    async def adopt(self) -> None:
        """Give the adapter a session for each inspector."""
        for number, agent_id in enumerate(self._inspectors):
            guid = f"{number:048x}.AgentGateway0"
            await self._sessions.Adopt(sessions_pb2.AdoptRequest(agent_id=agent_id, guid=guid), timeout=10)

    async def run(self, calls: int, options: pb.CommandOptions) -> int:
        """Make that many calls; returns how many messages they brought."""
        left = iter(range(calls))

        async def one(inspector: str) -> int:
            request = pb.InterceptRequest(agent_id=inspector, work_no="292", options=options)
            messages = 0
            for _ in left:
                async for _update in self._intercept(request, timeout=60):
                    messages += 1
            return messages

        return sum(await asyncio.gather(*map(one, self._inspectors)))


async def measure(bench: Bench, load: Load, calls: int, options: pb.CommandOptions, name: str) -> None:
    """Print what a call costs."""
    await load.run(WARM_UP, options)
    polls_before = (await bench.simulator.ask("counts"))["polls"]
    before, began = bench.adapter.footprint(), time.monotonic()
    messages = await load.run(calls, options)
    after, seconds = bench.adapter.footprint(), time.monotonic() - began
    polls = (await bench.simulator.ask("counts"))["polls"] - polls_before
    spent = after.cpu_seconds - before.cpu_seconds
    print(
        f"{name:34}{calls:7} calls{calls / seconds:8.0f}/s{messages / calls:6.1f} messages{polls / calls:6.2f} polls"
        f"{spent / calls * 1e6:8.0f} CPU us a call{100 * spent / seconds:6.0f} % of a core"
    )


async def profile(bench: Bench, load: Load, calls: int, path: Path) -> None:
    """Profile the adapter's loop; every function costs more under the profiler, small ones most."""
    await bench.adapter.ask("profile")
    await load.run(calls, pb.CommandOptions())
    await bench.adapter.ask("profiled", str(path))
    for order in ("tottime", "cumtime"):
        pstats.Stats(str(path)).strip_dirs().sort_stats(order).print_stats(40)


async def run(options: argparse.Namespace) -> int:
    """Measure, and profile if that is asked for."""
    environment = {"QC_POLL_PAUSE_SECONDS": options.pause, "LOAD_UVLOOP": str(int(options.uvloop))}
    async with (
        asyncio.timeout(SPARE_SECONDS),
        running(None, environment, gateway="lean_gateway_child") as bench,
        grpc.aio.insecure_channel(bench.target) as channel,
    ):
        load = Load(channel, options.at_once)
        await load.adopt()
        print(f"adapter process {bench.adapter.pid}, {options.at_once} at once", flush=True)
        accepted_only = pb.CommandOptions(follow=pb.FOLLOW_NONE)
        await measure(bench, load, options.calls, pb.CommandOptions(), "until confirmed")
        await measure(bench, load, options.calls, accepted_only, "accepted only, events behind it")
        if options.profile:
            with tempfile.TemporaryDirectory(prefix="qc-load-") as folder:
                await profile(bench, load, options.calls // 2, Path(folder, "adapter.prof"))
    return 0


def main() -> int:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=8000)
    parser.add_argument("--at-once", type=int, default=64)
    parser.add_argument("--pause", default="0", help="QC_POLL_PAUSE_SECONDS of the adapter")
    parser.add_argument("--uvloop", action="store_true")
    parser.add_argument("--profile", action="store_true", help="with cProfile, which slows the adapter")
    return asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
