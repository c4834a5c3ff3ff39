"""The adapter as a process that is given very many sessions at once, as a store would give them after a restart."""

from __future__ import annotations

import asyncio
import cProfile
import gc
import os
import sys
import time
from pathlib import Path
from typing import BinaryIO

from bench.adapter_child import tasks_by_kind
from bench.answers import answer
from qc_adapter import app
from qc_adapter.cli import running
from qc_adapter.cli.collector import rarely_collected
from qc_adapter.descriptors import take_all_descriptors
from qc_adapter.model.inspector import inspector_id
from qc_adapter.model.session import EventSource, Secret, Session
from qc_adapter.settings import read_settings
from qc_adapter.telemetry import logs


class Collections:
    """How often the garbage collector ran in each generation, its CPU time in all, and of the longest look."""

    def __init__(self) -> None:
        self._began = 0.0
        self._found: dict[int, list[float]] = {}
        gc.callbacks.append(self._note)

    def _note(self, phase: str, about: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.thread_time()
        else:
            self._found.setdefault(about["generation"], []).append(time.thread_time() - self._began)

    def told(self) -> dict[int, tuple[int, float, float]]:
        """Return count, sum and maximum by generation since this was asked last."""
        found, self._found = self._found, {}
        return {generation: (len(one), sum(one), max(one)) for generation, one in sorted(found.items())}


class Sessions:
    """Puts sessions into the store; the scan finds them."""

    def __init__(self, adapter: app.Adapter) -> None:
        self._adapter = adapter
        self._putting: list[asyncio.Task[None]] = []

    def put(self, gateway: str, first: str, count: str, source: str = "poll") -> int:
        """Begin to put that many of a gateway, with ids from the first on."""
        self._putting.append(asyncio.create_task(self._put(gateway, int(first), int(count), EventSource(source))))
        return int(count)

    async def _put(self, gateway: str, first: int, count: int, source: EventSource) -> None:
        for number in range(first, first + count):
            guid = Secret(f"{number:048x}.AgentGateway0")
            await self._adapter.store.put(Session(inspector_id(gateway, str(number)), guid, source))

    def states(self) -> dict[str, int]:
        """How many are in each state of those that are read."""
        found: dict[str, int] = {}
        for (_, state), count in self._adapter.readers.counts().items():
            found[state] = found.get(state, 0) + count
        return found


async def run(log: BinaryIO) -> None:
    """Serve until the parent closes the pipe."""
    logs.configure("info", log)
    collections = Collections()
    async with rarely_collected(), app.Adapter(read_settings(os.environ)) as adapter:
        gc.freeze()  # as `app.serve` does
        sessions, profile = Sessions(adapter), cProfile.Profile(time.thread_time)

        def profiled(path: str) -> str:
            profile.disable()
            profile.dump_stats(path)
            return path

        await answer(
            {
                "ports": lambda: [adapter.port, adapter.ops_port],
                "put": sessions.put,
                "states": sessions.states,
                "tasks": tasks_by_kind,
                "collections": collections.told,
                "profile": lambda: profile.enable(),  # noqa: PLW0108 - enable takes arguments of its own
                "profiled": profiled,
            }
        )


def main() -> None:
    """Run as `serve` does."""
    take_all_descriptors()
    with Path(sys.argv[1]).open("wb") as log:
        running.run(run(log))


if __name__ == "__main__":
    main()
