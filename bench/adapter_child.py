"""
The adapter as a process of a load run: settings from QC_ variables, log lines into the file named first.

The parent asks what cannot be seen from outside: tasks, and what is remembered on purpose. The event log and the
journal are made small, because what they keep for ten minutes would hide a leak.
"""

from __future__ import annotations

import asyncio
import cProfile
import gc
import os
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import BinaryIO

from bench.answers import answer
from qc_adapter import app
from qc_adapter.cli.collector import rarely_collected
from qc_adapter.commands.journal import Journal
from qc_adapter.events.hub import Hub
from qc_adapter.rpc import server
from qc_adapter.settings import read_settings
from qc_adapter.telemetry import logs

EVENTS_KEPT = 32
COMMANDS_KEPT = 500


def tasks_by_kind() -> dict[str, int]:
    """Count the tasks by the first word of their names; unnamed ones by what they run."""
    kinds: Counter[str] = Counter()
    for task in asyncio.all_tasks():
        name = task.get_name()
        coroutine = task.get_coro()
        kinds[getattr(coroutine, "__qualname__", "?") if name.startswith("Task-") else name.split()[0]] += 1
    return dict(kinds)


def objects_by_type() -> dict[str, int]:
    """Count what the collector tracks, the most frequent types only."""
    gc.collect()
    return dict(Counter(type(one).__name__ for one in gc.get_objects()).most_common(25))


def _stop_profile(profile: cProfile.Profile, path: str) -> str:
    profile.disable()
    profile.dump_stats(path)
    return path


async def run(log: BinaryIO) -> None:
    """Serve until the parent closes the pipe."""
    logs.configure("info", log)
    async with app.Adapter(read_settings(os.environ)) as adapter, rarely_collected():
        gc.freeze()
        profile = cProfile.Profile()
        await answer(
            {
                "ports": lambda: [adapter.port, adapter.ops_port],
                "tasks": tasks_by_kind,
                "objects": objects_by_type,
                "profile": lambda: profile.enable(),  # noqa: PLW0108 - enable takes arguments of its own
                "profiled": lambda path: _stop_profile(profile, path),
            }
        )


def main() -> None:
    """Choose the loop and run."""
    if os.environ.get("LOAD_SMALL_MEMORY") == "1":
        # Typed as a constructor in `app`, and there is no setting: the run is about leaks, not about what is kept.
        vars(app)["Hub"] = partial(Hub, capacity=EVENTS_KEPT)
        vars(app)["Journal"] = partial(Journal, capacity=COMMANDS_KEPT)
    if os.environ.get("LOAD_SHARED_PORT") == "1":
        # There is no setting: it is measured why not.
        options = dict(vars(server)["_OPTIONS"]) | {"grpc.so_reuseport": 1}
        vars(server)["_OPTIONS"] = tuple(options.items())
    factory = None
    if os.environ.get("LOAD_UVLOOP") == "1":
        import uvloop  # noqa: PLC0415 - an extra

        factory = uvloop.new_event_loop
    with Path(sys.argv[1]).open("wb") as log, asyncio.Runner(loop_factory=factory) as runner:
        runner.run(run(log))


if __name__ == "__main__":
    main()
