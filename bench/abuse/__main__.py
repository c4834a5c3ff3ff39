"""
`make abuse`: raw HTTP/2 against the gRPC port of a real adapter process, and what it costs the adapter and its callers.

The gateway is simulated, everything is on loopback, and the attackers are a process of their own, at a lower priority,
because the machines of real ones are elsewhere. Before each attack a well-behaved caller is measured alone, then in the
midst of it. Ends with 1 when the adapter dies, when a call of that caller fails, when its stream breaks, or when
connections, series or memory do not come back.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import re
import sys
import tempfile
from pathlib import Path
from typing import Final

import aiohttp

from bench.abuse.attacks import ATTACKS, raise_descriptors
from bench.abuse.caller import Caller
from bench.abuse.http_attacks import HTTP_ATTACKS
from bench.abuse.report import Result, table, violations, write
from bench.abuse.watch import Sampler
from bench.chaos.fleet import Fleet, Replica
from bench.children import ROOT, Child, Footprint
from bench.ports import free_port

LONGEST_SECONDS: Final = 120.0
SETTLE_SECONDS: Final = 15.0
BASELINE_SECONDS: Final = 3.0
SPARE_FDS: Final = 8
_CORE: Final = re.compile(r"wrote to standard error: [EWI]\d{4} ")
TOKEN: Final = "abusetoken01234567"  # noqa: S105 - known to nobody but this run


class Site:
    """The adapter under attack, its ports, and whoever calls it in good faith."""

    def __init__(self, replica: Replica, log: Path, caller: Caller, http: aiohttp.ClientSession) -> None:
        self._log, self._lines = log, (0, 0)
        self.replica = replica
        self.caller = caller
        self._http = http
        started = next(line for line in replica.lines() if line.get("event") == "started")
        self.ops_port = int(started["ops_port"])
        self.ports = {
            "grpc": int(str(started["listen"]).rpartition(":")[2]),
            "ops": self.ops_port,
            "push": replica.push_port or 0,
        }

    def new_lines(self) -> tuple[int, int]:
        """How many lines were logged since the last look, and how many the core of gRPC wrote."""
        now = tuple(path.read_bytes().count(b"\n") for path in (self._log, self._log.with_suffix(".err")))
        before, self._lines = self._lines, now
        return now[0] - before[0], now[1] - before[1]

    def footprint(self) -> Footprint:
        """What the adapter holds now."""
        return Footprint.of(self.replica.process.pid)

    async def series(self) -> int:
        """How many series there are in the metrics."""
        async with self._http.get(f"http://127.0.0.1:{self.ops_port}/metrics") as reply:
            text = await reply.text()
        return sum(not line.startswith("#") for line in text.splitlines())

    async def settled(self, fds: int) -> Footprint:
        """Wait until connections are gone, or until patience ends."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_SECONDS):
                while self.footprint().fds > fds + SPARE_FDS:  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.1)
        return self.footprint()


async def attack(site: Site, name: str, kind: str, options: argparse.Namespace) -> Result:
    """Measure the caller alone, then let the attackers loose, each round the same."""
    before = await site.settled(0 if not site.caller.fds else site.caller.fds)
    series = await site.series()
    alone = await site.caller.measured(BASELINE_SECONDS * min(1.0, options.scale * 2))
    result = Result(name, kind, before, alone, series)
    site.new_lines()
    for _ in range(options.rounds):
        sampler = Sampler(site.footprint)
        sampling = asyncio.create_task(sampler.run(), name="sampling")
        site.caller.begin()
        try:
            seen = await _loose(name, kind, site.ports[kind], options)
        except Exception as failure:  # noqa: BLE001 - one attack that fails by itself does not end the others
            seen = {f"failed: {failure!r}"[:200]: 1}
        finally:
            sampling.cancel()
            await asyncio.gather(sampling, return_exceptions=True)
        met = await site.caller.end()
        result.add(seen, met, sampler, await site.settled(before.fds), site.new_lines())
    result.series_after = await site.series()
    result.served = await site.caller.command()
    return result


async def _loose(name: str, kind: str, port: int, options: argparse.Namespace) -> dict[str, int]:
    """Run the attackers in a process of their own and return what they saw."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.abuse.attackers", kind, name, str(port), str(options.scale), str(options.hold),
        cwd=ROOT, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(LONGEST_SECONDS):
            out, _ = await process.communicate()
    except TimeoutError:
        return {"did not end in time": 1}
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    found: dict[str, int] = json.loads(out or b"{}")
    return found


async def run(options: argparse.Namespace) -> int:
    """Run all that is asked for, print it, and return the exit code."""
    results: list[Result] = []
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="qc-abuse-")))
        settings = {"event_delay_seconds": 0.0, "phone_connected": True}
        gateway = await Child.start(
            "simulator_child", json.dumps(settings), errors=folder / "gateway.err", environment={}
        )
        stack.push_async_callback(gateway.stop)
        url = str(await gateway.ask("url"))
        push_port = free_port()
        environment = {
            "QC_GATEWAY_URL": url,
            "QC_LISTEN": "127.0.0.1:0",
            "QC_OPS_LISTEN": "127.0.0.1:0",
            "QC_PUSH_LISTEN": f"127.0.0.1:{push_port}",
            "QC_PUSH_URL": f"http://127.0.0.1:{push_port}/events",
            "QC_PUSH_TOKEN": TOKEN,
            "QC_DRAIN_SECONDS": "0",
            **dict(one.split("=", 1) for one in options.set),
        }
        fleet = Fleet(folder, environment, redis_port=None, chance=random.Random(1))  # noqa: S311
        stack.push_async_callback(fleet.close)
        [replica] = await fleet.start(1)
        replica.push_port = push_port
        http = await stack.enter_async_context(aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)))
        caller = await stack.enter_async_context(Caller(str(replica.listen), url, http))
        site = Site(replica, folder / "replica-1.log", caller, http)
        caller.fds = site.footprint().fds
        for kind, name in options.attacks:
            results.append(await attack(site, name, kind, options))
            print(results[-1].row, flush=True)
        problems = [*violations(results), *caller.problems]
        # What the core of gRPC writes to standard error is counted, and no defect of ours.
        ends = [one for one in await fleet.end() if not _CORE.search(one)]
        found = [*problems, *ends]
    print()
    print(table(results))
    print("\n".join(found) or "no violation")
    if options.write:
        write(options.write, results, found)
    return 1 if found else 0


def main() -> int:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="a twentieth of everything, once")
    parser.add_argument("--only", action="append", help="only this attack; may be repeated")
    parser.add_argument("--rounds", type=int, help="how often each attack comes; 3 if not given")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the adapter")
    parser.add_argument("--write", type=Path, help="write the table into this file, between its marks")
    options = parser.parse_args()
    known: list[tuple[str, str]] = [("grpc", name) for name in ATTACKS]
    known += [(kind, name) for kind in ("ops", "push") for name in HTTP_ATTACKS]
    options.attacks = [one for one in known if not options.only or one[1] in options.only]
    if not options.attacks:
        parser.error(f"attacks are {', '.join(sorted({name for _, name in known}))}")
    options.scale, options.hold = (0.05, 1.0) if options.short else (1.0, 5.0)
    options.rounds = options.rounds or (1 if options.short else 3)
    print(f"descriptors: {raise_descriptors()} for each process, the adapter too")
    return asyncio.run(run(options))


if __name__ == "__main__":
    sys.exit(main())
