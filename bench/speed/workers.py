"""Adapters that share a Redis and a gateway, and the calls that are made to them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.children import Child
from bench.ports import free_port
from bench.redis_server import RedisServer
from bench.size import FIRST_INSPECTOR, sign_in, spent, told
from bench.speed.caller import Connection, make_calls
from bench.speed.cpu import cpu_seconds
from bench.speed.kinds import KINDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from redis import Redis

READY_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 0.005
_MICRO: Final = 1e6
#: A turn is made in so many steps. A caller that gives each address its turn comes to another process with each call.
_STEPS: Final = 4


@dataclass(frozen=True, slots=True)
class Turn:
    """What a number of calls took: CPU of each adapter and of Redis in microseconds a call, and how many a second."""

    adapters: tuple[float, ...]
    redis: float
    calls_per_second: float

    @property
    def cpu(self) -> float:
        """Of all adapters together."""
        return sum(self.adapters)


@dataclass(frozen=True, slots=True)
class Plan:
    """Connections, and the inspectors whose calls are made on them, each on the next one after a while."""

    lines: Sequence[Connection]
    agents: Sequence[str]

    async def make(self, calls: int, step: int) -> None:
        """Make so many calls, the first inspector's on the connection with this number."""
        first = step % len(self.lines)
        lines = [*self.lines[first:], *self.lines[:first]]
        await make_calls(lines, KINDS["confirm"], list(self.agents), len(self.agents), calls)


@dataclass(frozen=True, slots=True)
class Workers:
    """The processes, and where each of them listens."""

    adapters: tuple[Child, ...]
    ports: tuple[int, ...]
    logs: tuple[Path, ...]
    redis: Redis

    async def connect(self, number: int, ports: Sequence[int] = ()) -> list[Connection]:
        """Open so many connections, to one port after the other."""
        places = ports or self.ports
        path = KINDS["confirm"].path
        return [await Connection.open("127.0.0.1", places[one % len(places)], path) for one in range(number)]

    async def take(self, plans: Sequence[Plan], calls: int) -> Turn:
        """Have so many Intercepts made with their events, shared out to the plans by their inspectors."""
        inspectors = sum(len(plan.agents) for plan in plans)
        before, redis = [cpu_seconds(one.pid) for one in self.adapters], spent(told(self.redis))
        began = time.perf_counter()
        for step in range(_STEPS):
            await asyncio.gather(
                *(plan.make(calls * len(plan.agents) // inspectors // _STEPS, step) for plan in plans),
            )
        took = time.perf_counter() - began
        per_call = _MICRO / calls
        cpu = [cpu_seconds(one.pid) - earlier for one, earlier in zip(self.adapters, before, strict=True)]
        return Turn(tuple(one * per_call for one in cpu), (spent(told(self.redis)) - redis) * per_call, calls / took)

    def reads(self, number: int) -> list[str]:
        """Return the inspectors for whom an adapter polls, as its log has it."""
        found: dict[str, None] = {}
        for line in self.logs[number].read_text().splitlines():
            entry = json.loads(line)
            if entry.get("event") == "lease_changed":
                found.pop(entry["agent_id"], None)
                if entry["reason"] in {"won", "taken_over"}:
                    found[entry["agent_id"]] = None
        return list(found)

    async def all_read(self, inspectors: int) -> None:
        """Wait until everybody is polled for, each adapter having its share."""
        numbers = range(len(self.adapters))
        await until(lambda: all(len(self.reads(one)) == inspectors // len(numbers) for one in numbers), READY_SECONDS)


async def until(condition: Callable[[], bool], seconds: float) -> None:
    """Wait for what happens in other processes."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - nobody here could tell us
            await asyncio.sleep(_LOOK_SECONDS)


@contextlib.asynccontextmanager
async def workers(number: int, inspectors: int, folder: Path, *, one_port: bool = False) -> AsyncIterator[Workers]:
    """Run so many adapters, on one port or each on its own, with the inspectors signed in."""
    await asyncio.to_thread(folder.mkdir)
    async with contextlib.AsyncExitStack() as stack:
        redis = RedisServer(folder)
        await asyncio.to_thread(redis.start)
        stack.callback(redis.stop)
        gateway = await Child.start("lean_gateway_child", errors=folder / "gateway.err", environment={})
        stack.push_async_callback(gateway.stop)
        environment = {
            "QC_GATEWAY_URL": str(await gateway.ask("url")),
            "QC_LISTEN": f"127.0.0.1:{free_port() if one_port else 0}",
            "QC_OPS_LISTEN": "127.0.0.1:0",
            "QC_STORE_URL": redis.url,
            "QC_POLL_PAUSE_SECONDS": "0",
            "LOAD_UVLOOP": "1",
            "LOAD_SHARED_PORT": "1" if one_port else "0",
        }
        logs = tuple(folder / f"adapter-{one}.log" for one in range(number))
        adapters = []
        for log in logs:
            own = environment | {"QC_AUDIT_LOG": str(log.with_suffix(".audit"))}
            child = await Child.start("adapter_child", str(log), errors=log.with_suffix(".err"), environment=own)
            stack.push_async_callback(child.stop)
            adapters.append(child)
        ports = await asyncio.gather(*(child.ask("ports") for child in adapters))
        client = stack.enter_context(redis.client())
        made = Workers(tuple(adapters), tuple(port for port, _ in ports), logs, client)
        sign_in(client, inspectors)
        await made.all_read(inspectors)
        yield made


def names(inspectors: int) -> list[str]:
    """Return the inspectors that `workers` signs in."""
    return [str(FIRST_INSPECTOR + number) for number in range(inspectors)]


def own_bytes(pid: int) -> int:
    """Return what a process holds that no other process shares."""
    lines = Path("/proc", str(pid), "smaps_rollup").read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Clean", "Private_Dirty")))


def sockets_of(pid: int) -> set[str]:
    """Return the sockets that a process has open, each by its number."""
    found = set()
    for entry in Path("/proc", str(pid), "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found.add(str(entry.readlink()))
    return {one for one in found if one.startswith("socket:")}
