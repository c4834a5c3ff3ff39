"""Parent side of a load run: starts simulator and adapter, asks them, reads /proc about them, ends them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

ANSWER_SECONDS = 60.0
STOP_SECONDS = 20.0
ROOT = Path(__file__).resolve().parent.parent
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a process holds and has used, as the kernel sees it."""

    rss_bytes: int
    fds: int
    threads: int
    cpu_seconds: float
    #: What the kernel has of the CPU time.
    system_seconds: float

    @classmethod
    def of(cls, pid: int) -> Self:
        """Read it from /proc."""
        proc = Path("/proc", str(pid))
        # The name in field two may hold blanks; what follows its bracket does not.
        fields = (proc / "stat").read_text().rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])
        rss_pages = int((proc / "statm").read_text().split()[1])
        return cls(
            rss_bytes=rss_pages * os.sysconf("SC_PAGE_SIZE"),
            fds=len(list((proc / "fd").iterdir())),
            threads=int(fields[17]),
            cpu_seconds=ticks / os.sysconf("SC_CLK_TCK"),
            system_seconds=int(fields[12]) / os.sysconf("SC_CLK_TCK"),
        )


class Child:
    """A process that answers questions on its standard input, and ends when that is closed."""

    def __init__(self, process: asyncio.subprocess.Process, errors: Path) -> None:
        self._process = process
        self._errors = errors
        self._turn = asyncio.Lock()

    @classmethod
    async def start(cls, module: str, *arguments: str, errors: Path, environment: Mapping[str, str]) -> Self:
        """Run a module of this folder."""
        with errors.open("wb") as file:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                f"bench.{module}",
                *arguments,
                cwd=ROOT,
                env={**os.environ, **environment},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                limit=64 * MIB,
            )
        return cls(process, errors)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def footprint(self) -> Footprint:
        """What the process holds now."""
        return Footprint.of(self.pid)

    async def ask(self, *question: str) -> Any:
        """Return the answer; raises RuntimeError with the child's last words when it is gone."""
        pipe_in, pipe_out = self._process.stdin, self._process.stdout
        assert pipe_in is not None
        assert pipe_out is not None
        async with self._turn, asyncio.timeout(ANSWER_SECONDS):
            pipe_in.write(" ".join(question).encode() + b"\n")
            await pipe_in.drain()
            line = await pipe_out.readline()
        if not line:
            raise RuntimeError(f"process {self.pid} is gone:\n{self.errors()}")
        return json.loads(line)

    def errors(self) -> str:
        """Return the end of what the process wrote to standard error."""
        return self._errors.read_text(errors="replace")[-3000:]

    async def stop(self) -> int:
        """Ask it to end, insist after a while, and return its exit code."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                return await self._process.wait()
        except TimeoutError:
            self._process.kill()
            return await self._process.wait()


@dataclass(frozen=True, slots=True)
class Bench:
    """A simulator and an adapter that talk with each other, and what the driver needs of them."""

    simulator: Child
    adapter: Child
    simulator_url: str
    target: str
    metrics_url: str
    log: Path
    http: aiohttp.ClientSession

    async def begin_call(self, agent_id: str) -> str:
        """Connect a customer with an agent; return the call id."""
        async with self.http.post(f"{self.simulator_url}/simulator/calls", json={"agent_id": agent_id}) as reply:
            reply.raise_for_status()
            return str((await reply.json())["call_id"])

    async def end_call(self, call_id: str) -> None:
        """Let the customer hang up; a call that is over already is none of our business."""
        async with self.http.delete(f"{self.simulator_url}/simulator/calls/{call_id}") as reply:
            await reply.read()

    async def metrics(self) -> dict[str, dict[tuple[str, ...], float]]:
        """Return the adapter's samples: name -> label values in the order of the label names -> value."""
        async with self.http.get(self.metrics_url) as reply:
            text = await reply.text()
        found: dict[str, dict[tuple[str, ...], float]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = tuple(sample.labels[name] for name in sorted(sample.labels))
                found.setdefault(sample.name, {})[labels] = sample.value
        return found


@contextlib.asynccontextmanager
async def running(
    simulator: Mapping[str, Any] | None, adapter: Mapping[str, str], gateway: str = "simulator_child"
) -> AsyncIterator[Bench]:
    """Run both on free loopback ports; a child that does not end cleanly fails the run."""
    with tempfile.TemporaryDirectory(prefix="qc-load-") as folder:
        place = Path(folder)
        async with contextlib.AsyncExitStack() as stack:
            settings = [] if simulator is None else [json.dumps(dict(simulator))]
            site = await Child.start(gateway, *settings, errors=place / "gateway.err", environment={})
            stack.push_async_callback(_end, "gateway", site)
            url = str(await site.ask("url"))
            environment = {
                "QC_GATEWAY_URL": url,
                "QC_LISTEN": "127.0.0.1:0",
                "QC_OPS_LISTEN": "127.0.0.1:0",
                "QC_AUDIT_LOG": str(place / "audit.jsonl"),
                **adapter,
            }
            log = place / "adapter.log"
            child = await Child.start("adapter_child", str(log), errors=place / "adapter.err", environment=environment)
            stack.push_async_callback(_end, "adapter", child)
            port, ops_port = await child.ask("ports")
            http = await stack.enter_async_context(
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30), trust_env=False)
            )
            yield Bench(site, child, url, f"127.0.0.1:{port}", f"http://127.0.0.1:{ops_port}/metrics", log, http)


async def _end(name: str, child: Child) -> None:
    code = await child.stop()
    words = child.errors().strip()
    if code != 0 or words:
        print(f"{name} ended with {code}\n{words}", file=sys.stderr)
    if code != 0:
        raise RuntimeError(f"the {name} did not end cleanly")
