"""
What a flood of one caller costs another: latencies of a well-behaved caller with and without it, in the same run.

An adapter (`qc-adapter serve`) with mutual TLS and a policy serves two callers. One intercepts, sends commands and
watches at an easy pace all the time; the other one stays away in every second slice, and in the others calls at 100
times its limit. Each pair of slices gives a ratio, so what else the machine does weighs on both of its sides.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import grpc
import trustme

from bench.children import ROOT, STOP_SECONDS, Child, Footprint
from bench.ports import free_port
from qc_adapter.v1 import events_pb2, events_pb2_grpc, sessions_pb2, sessions_pb2_grpc
from qc_adapter.v1 import quality_control_pb2 as pb
from qc_adapter.v1 import quality_control_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

FIRST_INSPECTOR: Final = 1000
INSPECTORS: Final = 16
FLOODED: Final = "1900"
SPARE_SECONDS: Final = 120.0
READY_SECONDS: Final = 20.0
_LOOK_SECONDS: Final = 0.1
_SERVE: Final = "import sys; from qc_adapter.cli import main; sys.exit(main())"
#: Ticks of the adapter's loop by how late they came, in all until then.
_LAG: Final = re.compile(r'^qc_event_loop_lag_seconds_bucket\{le="([^"]+)"\} (\S+)$', re.MULTILINE)
_REFUSED: Final = re.compile(r'^qc_calls_refused_total\{caller="(\w+)",why="(\w+)"\} ([0-9.e+]+)$', re.MULTILINE)
_SERVICES: Final = "QualityControl, InspectorSessions, InspectorEvents"
_ALL: Final = f"{{methods: [{_SERVICES}], inspectors: [101-59999], targets: [101-59999]}}"
POLICY: Final = """
version: 1
callers:
  desk: {{identities: ["dns:desk.example"], allow: [{all}]}}
  flood: {{identities: ["dns:flood.example"], allow: [{all}], limits: {limits}}}
"""


class Desk:
    """The well-behaved caller: so many operations a second, in turn, each with an inspector of its own."""

    def __init__(self, channel: grpc.aio.Channel, rate: float) -> None:
        self._commands: Any = pb_grpc.QualityControlStub(channel)
        self._sessions: Any = sessions_pb2_grpc.InspectorSessionsStub(channel)
        self._events: Any = events_pb2_grpc.InspectorEventsStub(channel)
        self._rate = rate
        self._inspectors = [str(FIRST_INSPECTOR + number) for number in range(INSPECTORS)]
        self.failed = 0

    async def adopt(self) -> None:
        """Give the adapter the sessions of all inspectors."""
        for agent_id in (*self._inspectors, FLOODED):
            guid = f"{int(agent_id):048x}.AgentGateway0"
            await self._sessions.Adopt(sessions_pb2.AdoptRequest(agent_id=agent_id, guid=guid), timeout=10)

    async def work(self, seconds: float) -> list[float]:
        """Work for so long; return the latencies."""
        kinds, found, calls = itertools.cycle((self._intercept, self._listen, self._watch)), list[float](), []
        inspectors, ends = itertools.cycle(self._inspectors), time.monotonic() + seconds
        while time.monotonic() < ends:
            calls.append(asyncio.create_task(self._timed(next(kinds), next(inspectors), found)))
            await asyncio.sleep(1 / self._rate)
        await asyncio.gather(*calls)
        return found

    async def _timed(self, kind: Any, agent_id: str, found: list[float]) -> None:
        began = time.perf_counter()
        try:
            await kind(agent_id)
        except grpc.aio.AioRpcError as error:
            self.failed += 1
            print(f"the desk's call failed: {error.code().name} {error.details()}", file=sys.stderr)
        else:
            found.append(time.perf_counter() - began)

    async def _intercept(self, agent_id: str) -> None:
        async for _ in self._commands.Intercept(pb.InterceptRequest(agent_id=agent_id, work_no="292"), timeout=10):
            pass

    async def _listen(self, agent_id: str) -> None:
        options = pb.CommandOptions(follow=pb.FOLLOW_NONE)
        request = pb.ListenRequest(agent_id=agent_id, work_no="292", options=options)
        async for _ in self._commands.Listen(request, timeout=10):
            pass

    async def _watch(self, agent_id: str) -> None:
        watching = self._events.Watch(events_pb2.WatchRequest(agent_id=agent_id), timeout=10)
        await watching.read()
        watching.cancel()


def write_files(folder: Path, limits: str) -> None:
    """Write a CA, the server's certificate and those of the two callers, and the policy."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    for name, host in (("server", "localhost"), ("desk", "desk.example"), ("flood", "flood.example")):
        issued = ca.issue_cert(host)
        issued.private_key_pem.write_to_path(str(folder / f"{name}.key"))
        issued.cert_chain_pems[0].write_to_path(str(folder / f"{name}.pem"))
    (folder / "policy.yaml").write_text(POLICY.format(limits=limits, all=_ALL))


@asynccontextmanager
async def serving(folder: Path, gateway: str) -> AsyncIterator[tuple[int, int, int]]:
    """Run `qc-adapter serve`; yields its process id, its port, and that for operators."""
    port, ops_port = free_port(), free_port()
    settings = {
        "QC_GATEWAY_URL": gateway,
        "QC_LISTEN": f"127.0.0.1:{port}",
        "QC_OPS_LISTEN": f"127.0.0.1:{ops_port}",
        "QC_TLS_CERT_FILE": str(folder / "server.pem"),
        "QC_TLS_KEY_FILE": str(folder / "server.key"),
        "QC_TLS_CLIENT_CA_FILE": str(folder / "ca.pem"),
        "QC_POLICY_FILE": str(folder / "policy.yaml"),
        # A poll's pause would be most of an intercept's time.
        "QC_POLL_PAUSE_SECONDS": "0",
        "QC_DRAIN_SECONDS": "0",
        "QC_AUDIT_LOG": str(folder / "audit.jsonl"),
    }
    environment = {name: value for name, value in os.environ.items() if not name.startswith("QC_")} | settings
    with (folder / "adapter.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _SERVE, "serve", cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        async with asyncio.timeout(READY_SECONDS):
            while not await _is_ready(ops_port):
                if process.returncode is not None:
                    raise RuntimeError((folder / "adapter.log").read_text()[-3000:])
                await asyncio.sleep(_LOOK_SECONDS)
        yield process.pid, port, ops_port
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(STOP_SECONDS):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()


async def _is_ready(port: int) -> bool:
    try:
        async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}/livez") as reply:
            return reply.status == 200
    except aiohttp.ClientError:
        return False


async def _metrics(port: int) -> str:
    async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}/metrics") as reply:
        return await reply.text()


def late(before: str, after: str, found: Counter[str]) -> None:
    """Add how late the ticks of the adapter's loop came between two looks at its metrics."""
    then = dict(_LAG.findall(before))
    for within, number in _LAG.findall(after):
        found[within] += int(float(number) - float(then[within]))


def lateness(found: Counter[str]) -> str:
    """Say within which time nearly all ticks came, and all of them."""
    ticks = found["+Inf"]
    most, every = (next(le for le, number in found.items() if number >= part * ticks) for part in (0.95, 1.0))
    return f"{ticks} ticks of its loop: 95 % at most {float(most) * 1000:g} ms late, all {float(every) * 1000:g} ms"


def at(part: float, latencies: list[float]) -> float:
    """The latency, in ms, that so much of them do not exceed."""
    return 1000 * sorted(latencies)[min(len(latencies) - 1, int(part * len(latencies)))]


def spread(ratios: list[float]) -> str:
    """The median, and between what they lie."""
    return f"{statistics.median(ratios):5.2f}  ({min(ratios):.2f} to {max(ratios):.2f})"


async def measure(options: argparse.Namespace, folder: Path, stack: AsyncExitStack) -> int:
    """Run the slices and print what they show."""
    write_files(folder, "{}" if options.unlimited else f"{{calls_per_second: {options.limit}}}")
    gateway = await Child.start("lean_gateway_child", errors=folder / "gateway.err", environment={})
    stack.push_async_callback(gateway.stop)
    pid, port, ops_port = await stack.enter_async_context(serving(folder, str(await gateway.ask("url"))))
    target = f"localhost:{port}"
    flood = await Child.start("flood_child", target, str(folder), errors=folder / "flood.err", environment={})
    stack.push_async_callback(flood.stop)
    pem = [(folder / name).read_bytes() for name in ("ca.pem", "desk.key", "desk.pem")]
    channel = await stack.enter_async_context(grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(*pem)))
    desk = Desk(channel, options.rate)
    await desk.adopt()
    await desk.work(2.0)

    latencies: dict[bool, list[float]] = {False: [], True: []}
    lag = {False: Counter[str](), True: Counter[str]()}
    cpu, ratios, ended = {False: 0.0, True: 0.0}, dict[str, list[float]](p50=[], p99=[]), dict[str, int]()
    for _ in range(options.pairs):
        pair = {}
        for flooded in (False, True):
            before, told = Footprint.of(pid), await _metrics(ops_port)
            if flooded:
                await flood.ask("begin", str(100 * options.limit))
            pair[flooded] = await desk.work(options.slice)
            if flooded:
                for code, number in (await flood.ask("end")).items():
                    ended[code] = ended.get(code, 0) + number
            cpu[flooded] += Footprint.of(pid).cpu_seconds - before.cpu_seconds
            late(told, await _metrics(ops_port), lag[flooded])
            latencies[flooded] += pair[flooded]
            await asyncio.sleep(0.5)
        for name, part in (("p50", 0.5), ("p99", 0.99)):
            ratios[name].append(at(part, pair[True]) / at(part, pair[False]))

    seconds = options.pairs * options.slice
    print(f"{options.pairs} pairs of slices of {options.slice:g} s; the desk: {options.rate:g} operations a second")
    allowed = "all" if options.unlimited else options.limit
    print(f"the flood: {100 * options.limit} calls a second, {allowed} allowed; ended: {ended}")
    for flooded, name in ((False, "without the flood"), (True, "with it")):
        found = latencies[flooded]
        print(
            f"{name:20}{len(found):6} operations  p50 {at(0.5, found):6.1f} ms  p99 {at(0.99, found):6.1f} ms"
            f"  CPU {100 * cpu[flooded] / seconds:5.1f} % of a core; {lateness(lag[flooded])}"
        )
    for name, found in ratios.items():
        print(f"{name} with / without {spread(found)}")
    if refused := ended.get("RESOURCE_EXHAUSTED", 0):
        print(f"CPU of a refused call: {1e6 * (cpu[True] - cpu[False]) / refused:.0f} us")
    counted = {(who, why): float(number) for who, why, number in _REFUSED.findall(await _metrics(ops_port))}
    print(f"the desk's calls that failed: {desk.failed}; refused: {[one for one in counted.items() if one[1]]}")
    log = (folder / "adapter.log").read_text()
    print(f"lines in the log about calls over a limit: {log.count('LIMIT_REACHED')}")
    return 1 if desk.failed else 0


async def run(options: argparse.Namespace) -> int:
    """Measure in a folder that is removed, for a bounded time."""
    seconds = SPARE_SECONDS + 2 * options.pairs * (options.slice + 1)
    with tempfile.TemporaryDirectory(prefix="qc-flood-") as folder:
        async with asyncio.timeout(seconds), AsyncExitStack() as stack:
            return await measure(options, Path(folder), stack)


def main() -> int:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=10, help="calls a second that the flooding caller may make")
    parser.add_argument("--unlimited", action="store_true", help="the same flood with nothing against it")
    parser.add_argument("--rate", type=float, default=40.0, help="operations a second of the other caller")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--slice", type=float, default=4.0, help="seconds")
    return asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
