"""The load generator as a process: opens connections to a server and makes calls on them, as the parent says."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import TYPE_CHECKING, Any

import uvloop

from bench.answers import answer
from bench.limits import raise_descriptors
from bench.speed.caller import CallFailedError, Connection, make_calls
from bench.speed.kinds import KINDS

if TYPE_CHECKING:
    from bench.speed.kinds import Kind


class Loader:
    """Connections to one server."""

    def __init__(self) -> None:
        self._connections: list[Connection] = []
        self._kind: Kind = KINDS["get"]

    async def open(self, port: str, kind: str, connections: str) -> int:
        """Open connections for calls of one kind, in place of those that were open."""
        self.close()
        self._kind = KINDS[kind]
        for _ in range(int(connections)):
            self._connections.append(await Connection.open("127.0.0.1", int(port), self._kind.path))
        return len(self._connections)

    def close(self) -> int:
        """Close them."""
        for connection in self._connections:
            connection.close()
        self._connections = []
        return 0

    async def run(self, first_agent: str, inspectors: str, at_once: str, calls: str) -> dict[str, Any]:
        """Make calls for that many inspectors, so many at once; the answer holds seconds."""
        agents = [str(int(first_agent) + number) for number in range(int(inspectors))]
        gc.disable()  # nothing in a cycle is made by a call
        own, began = time.process_time(), time.perf_counter()
        try:
            work = await make_calls(self._connections, self._kind, agents, int(at_once), int(calls))
        except CallFailedError as failure:
            return {"failure": str(failure)}
        finally:
            gc.enable()
        took = time.perf_counter() - began
        seconds = sorted(work.seconds)
        return {
            "took": took,
            "p50": seconds[len(seconds) // 2],
            "p99": seconds[len(seconds) * 99 // 100],
            "own_cpu": time.process_time() - own,
            "bytes": work.answer_bytes / len(seconds),
        }


async def run() -> None:
    """Answer until the parent closes the pipe."""
    loader = Loader()
    await answer({"open": loader.open, "run": loader.run, "close": loader.close})
    loader.close()


def main() -> None:
    """Run on uvloop."""
    raise_descriptors()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


if __name__ == "__main__":
    main()
