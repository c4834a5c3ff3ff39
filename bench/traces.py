"""
What traces cost: CPU time of the adapter for one Intercept without a collector, with one in ten recorded, and with all.

The adapters run side by side and get batches of calls in turn, in another order each time, so that whatever else the
machine does meets all of them. The collector is in the driver's process and throws everything away.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import statistics
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from bench.children import Bench, running
from bench.spend import WARM_UP, Load
from qc_adapter.v1 import quality_control_pb2 as pb

SHARES: Final = ("", "0.1", "1")
SPARE_SECONDS: Final = 500.0


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Counts spans."""

    def __init__(self) -> None:
        self.spans = 0

    def Export(self, request: Any, _context: Any) -> Any:  # noqa: N802 - named by the contract
        """Take a batch."""
        self.spans += sum(len(scope.spans) for part in request.resource_spans for scope in part.scope_spans)
        return trace_service_pb2.ExportTraceServiceResponse()


def environment(share: str, endpoint: str) -> dict[str, str]:
    """Return what an adapter needs that records that share."""
    base = {"QC_POLL_PAUSE_SECONDS": "0", "LOAD_UVLOOP": "0"}
    if not share:
        return base
    sampler = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": share}
    return base | sampler | {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}


async def run(options: argparse.Namespace) -> int:
    """Measure and print."""
    collector, server = Collector(), grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    spent: dict[str, list[float]] = {share: [] for share in SHARES}
    async with asyncio.timeout(SPARE_SECONDS), contextlib.AsyncExitStack() as stack:
        sites: dict[str, tuple[Bench, Load]] = {}
        for share in SHARES:
            adapter = running(None, environment(share, endpoint), gateway="lean_gateway_child")
            bench = await stack.enter_async_context(adapter)
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(bench.target))
            sites[share] = bench, Load(channel, options.at_once)
            await sites[share][1].adopt()
            await sites[share][1].run(WARM_UP, pb.CommandOptions())
        for number in range(options.rounds):
            for share in random.Random(number).sample(SHARES, len(SHARES)):  # noqa: S311 - an order, no secret
                bench, load = sites[share]
                before = bench.adapter.footprint().cpu_seconds
                await load.run(options.calls, pb.CommandOptions())
                spent[share].append((bench.adapter.footprint().cpu_seconds - before) / options.calls * 1e6)
    server.stop(0).wait()
    plain = statistics.mean(spent[""])
    for share, found in spent.items():
        name = f"{float(share):.0%} recorded" if share else "no collector"
        mean = statistics.mean(found)
        print(f"{name:16}{mean:8.0f} CPU us a call, {mean / plain:.3f} of that without a collector")
    print(f"{collector.spans} spans arrived")
    return 0


def main() -> int:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--calls", type=int, default=400, help="in a batch")
    parser.add_argument("--at-once", type=int, default=32)
    return asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
