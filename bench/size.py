"""
What inspectors cost: CPU, memory and descriptors of an adapter, memory and work of its Redis.

They are signed in and polled for, with the gateway's real hold of 10 s, first without events, and then with one for
each of them every so many seconds, if that is asked for. docs/operating.md has the figures under "Sizing".
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench.children import MIB, Bench, running
from bench.redis_server import RedisServer

if TYPE_CHECKING:
    from redis import Redis

FIRST_INSPECTOR: Final = 1000
READY_SECONDS: Final = 240.0
#: A poll is held for 10 s: after two of them everyone is in step.
SETTLE_SECONDS: Final = 20.0
_LOOK_SECONDS: Final = 0.5


def sign_in(client: Redis, number: int) -> None:
    """Write the sessions as another system would."""
    with client.pipeline(transaction=False) as pipeline:
        for agent_id in range(FIRST_INSPECTOR, FIRST_INSPECTOR + number):
            fields = {"version": "1", "agent_id": str(agent_id), "guid": f"{agent_id:048x}.AgentGateway0"}
            pipeline.hset(f"qc:session:{agent_id}", mapping=fields)
        pipeline.execute()


async def all_held(bench: Bench, number: int) -> float:
    """Wait until there is a lease for each; return how long it took."""
    began = time.monotonic()
    async with asyncio.timeout(READY_SECONDS):
        while sum((await bench.metrics()).get("qc_leases_held", {}).values()) < number:  # noqa: ASYNC110 - in another process
            await asyncio.sleep(_LOOK_SECONDS)
    return time.monotonic() - began


async def measure(bench: Bench, client: Redis, seconds: float) -> dict[str, float]:
    """Look twice and return the difference, a second."""
    polls, redis = (await bench.simulator.ask("counts"))["polls"], told(client)
    before, began = bench.adapter.footprint(), time.monotonic()
    await asyncio.sleep(seconds)
    after, took = bench.adapter.footprint(), time.monotonic() - began
    redis_after = told(client)
    return {
        "core %": 100 * (after.cpu_seconds - before.cpu_seconds) / took,
        "MiB": after.rss_bytes / MIB,
        "fds": after.fds,
        "polls/s": ((await bench.simulator.ask("counts"))["polls"] - polls) / took,
        "Redis MiB": redis_after["used_memory"] / MIB,
        "Redis commands/s": (redis_after["total_commands_processed"] - redis["total_commands_processed"]) / took,
        "Redis core %": 100 * (spent(redis_after) - spent(redis)) / took,
    }


def told(client: Redis) -> dict[str, Any]:
    """What Redis says of itself."""
    found: Any = client.info()
    return dict(found)


def spent(info: dict[str, Any]) -> float:
    """CPU seconds of Redis."""
    return float(info["used_cpu_sys"]) + float(info["used_cpu_user"])


async def run(numbers: list[int], seconds: float, event_seconds: float) -> None:
    """Measure each number with a Redis and an adapter of its own."""
    for number in numbers:
        with tempfile.TemporaryDirectory(prefix="qc-size-") as folder:
            server = RedisServer(Path(folder))
            server.start()
            try:
                environment = {"QC_STORE_URL": server.url, "LOAD_UVLOOP": "1"}
                async with running(None, environment, gateway="lean_gateway_child") as bench:
                    with server.client() as client:
                        sign_in(client, number)
                        ready = await all_held(bench, number)
                        await asyncio.sleep(SETTLE_SECONDS)
                        tell(
                            f"{number} inspectors, all read after {ready:.0f} s", await measure(bench, client, seconds)
                        )
                        if event_seconds:
                            per_second = number / event_seconds
                            told = ("AgentEvent_Talking", str(per_second), str(FIRST_INSPECTOR), str(number))
                            await bench.simulator.ask("tell", *told)
                            await asyncio.sleep(2 * event_seconds)
                            tell(f"with {per_second:.0f} events a second", await measure(bench, client, seconds))
            finally:
                server.stop()


def tell(what: str, found: dict[str, float]) -> None:
    """Print figures."""
    print(f"{what}: " + ", ".join(f"{name} {value:.1f}" for name, value in found.items()), flush=True)


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inspectors", type=int, nargs="+", default=[50, 500, 5000])
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--event-seconds", type=float, default=0.0, help="from one event of an inspector to the next")
    options = parser.parse_args()
    asyncio.run(run(options.inspectors, options.seconds, options.event_seconds))


if __name__ == "__main__":
    main()
