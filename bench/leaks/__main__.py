"""
`make leaks`: an hour of mixed load on one adapter with a real Redis; memory, tasks and descriptors have to stay flat.

Commands of which half are cancelled, streams that come and go, connections cut with streams open, replies that the
gateway loses, GUIDs that rotate every minute, inspectors that sign out and in, connections to Redis killed. Ends with 1
when something grows, when what is open does not come back at the end, or when a call ends as nothing explains.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import grpc

from bench.children import ROOT, running
from bench.leaks.curve import Sample, draw, grown, sample, sampled
from bench.leaks.load import Load
from bench.redis_server import RedisServer
from bench.speed.figures import Goal, Reading, Section
from qc_adapter.store.seal import new_key

if TYPE_CHECKING:
    from bench.children import Bench

PICTURE: Final = ROOT / "docs" / "pictures" / "leaks.png"
FIRST_INSPECTOR: Final = 1000
SPARE_SECONDS: Final = 300.0
SETTLE_SECONDS: Final = 90.0
GROWTH_MIB: Final = 4.0
SPARE_TASKS: Final = 10
#: Connections to Redis are opened when they are needed, and kept.
SPARE_FDS: Final = 72
#: The parts of the curve that are judged hold at least this many samples each.
SAMPLES: Final = 360


@dataclass(frozen=True, slots=True)
class Held:
    """What the adapter held before the load, under it, and when it was over."""

    before: Sample
    samples: list[Sample]
    after: Sample


async def run(options: argparse.Namespace) -> int:
    """Run, print, and return the exit code."""
    seconds = options.minutes * 60
    inspectors = [str(FIRST_INSPECTOR + number) for number in range(options.inspectors)]
    samples: list[Sample] = []
    with tempfile.TemporaryDirectory(prefix="qc-redis-") as folder:
        redis = RedisServer(Path(folder))
        redis.start()
        try:
            async with (
                asyncio.timeout(seconds + SPARE_SECONDS),
                running(
                    _SIMULATOR, {**_ADAPTER, "QC_STORE_URL": redis.url, "QC_SEAL_KEYS": new_key().reveal()}
                ) as bench,
                grpc.aio.insecure_channel(bench.target) as channel,
            ):
                load = Load(bench, channel, redis, inspectors)
                await load.sign_in()
                before = await _settled(bench, options.inspectors)
                print(f"before: {_line(before)}", flush=True)
                await _with_samples(bench, load, options, samples)
                after = await _settled(bench, before.tasks, before.fds)
                story = await bench.simulator.ask("story")
                errors = _errors(bench.log)
        finally:
            redis.stop()
    return _report(options, load, Held(before, samples, after), story, errors)


_SIMULATOR: Final[dict[str, Any]] = {"event_delay_seconds": 0.0, "recorded_requests": 1000, "phone_connected": True}
#: What is remembered on purpose would hide a leak for its ten minutes.
_ADAPTER: Final = {"LOAD_SMALL_MEMORY": "1", "LOAD_UVLOOP": "1"}


async def _with_samples(bench: Bench, load: Load, options: argparse.Namespace, samples: list[Sample]) -> None:
    seconds = options.minutes * 60
    said = 0.0

    def say(one: Sample) -> None:
        nonlocal said
        if one.seconds >= said:
            said += seconds / 30
            print(f"{one.seconds:6.0f} s: {_line(one)}, {sum(load.endings.values())} calls", flush=True)

    sampling = asyncio.create_task(sampled(bench, seconds / SAMPLES, samples, say), name="samples")
    try:
        await load.run(seconds, options.workers, options.pace)
    finally:
        sampling.cancel()
        await asyncio.gather(sampling, return_exceptions=True)


async def _settled(bench: Bench, tasks: int, fds: int | None = None) -> Sample:
    """Return what is held once it is that little, or after a while."""
    began = asyncio.get_running_loop().time()
    while True:
        now = await sample(bench, 0.0)
        few = now.tasks <= tasks + SPARE_TASKS and (fds is None or now.fds <= fds + SPARE_FDS)
        if fds is None:
            few = await bench.simulator.ask("held") >= tasks
        if few or asyncio.get_running_loop().time() - began > SETTLE_SECONDS:
            return now
        await asyncio.sleep(1.0)


def _errors(log: Path) -> list[str]:
    """Return what the adapter logged as a defect of its own."""
    found = (json.loads(line) for line in log.open(encoding="utf-8"))
    return sorted({line["event"] for line in found if line["level"] == "error"})


def _line(one: Sample) -> str:
    return f"{one.rss_mib:.1f} MiB, {one.tasks} tasks, {one.fds} descriptors, {one.cpu_seconds:.0f} s CPU"


def _report(options: argparse.Namespace, load: Load, held: Held, story: dict[str, Any], errors: list[str]) -> int:
    growth = grown(held.samples, lambda one: one.rss_mib)
    calls, rotations = sum(load.endings.values()), sum(story["rotations"].values())
    readings = (
        Reading("memory, late part less early part", "MiB", (growth,), Goal(at_most=GROWTH_MIB)),
        Reading(
            "tasks left over at the end", "tasks", (held.after.tasks - held.before.tasks,), Goal(at_most=SPARE_TASKS)
        ),
        Reading(
            "descriptors left over at the end",
            "descriptors",
            (held.after.fds - held.before.fds,),
            Goal(at_most=SPARE_FDS),
        ),
        Reading("calls and streams", "calls", (calls,)),
        Reading("GUIDs rotated", "rotations", (rotations,)),
        Reading("CPU of the adapter", "s", (held.samples[-1].cpu_seconds,)),
    )
    for reading in readings:
        print(f"{reading.name}: {reading.values[0]:.1f} {reading.unit}")
    for what, number in sorted(load.endings.items()):
        print(f"{what:40}{number:9}")
    broken = [one.name for one in readings if one.goal is not None and not one.goal.met(one.median)]
    broken += [f"ended as nothing explains: {what}" for what in load.defects]
    broken += [f"the adapter logged an error: {event}" for event in errors]
    broken += ["polls overlapped"] if story["overlaps"] else []
    print("\n".join(broken) or "nothing leaks")
    if options.keep:
        _keep(options, held.samples, readings)
    return 1 if broken else 0


def _keep(options: argparse.Namespace, samples: list[Sample], readings: tuple[Reading, ...]) -> None:
    title = (
        f"{options.minutes:g} minutes of mixed load: {options.inspectors} inspectors, Redis, cancels, resets, rotations"
    )
    draw(samples, title, PICTURE)
    Section(
        "leaks",
        "No leaks",
        "make leaks",
        readings=readings,
        before=(
            f"{options.minutes:g} minutes of mixed load on one process with a real Redis: commands of which half are "
            "cancelled, streams that come and go, connections cut with streams open, replies that the gateway loses, "
            "GUIDs that rotate every minute, inspectors that sign out and in, connections to Redis killed. The early "
            "part is from 20 % to 40 % of the time, the late part the last 20 %. Logs of events and the journal are "
            "made small, because what they keep on purpose would hide a leak. Connections to Redis are opened when "
            "they are needed, and kept."
        ),
        after="![memory, tasks and descriptors](pictures/leaks.png)",
    ).keep()


def main() -> int:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--inspectors", type=int, default=100)
    parser.add_argument("--workers", type=int, default=20, help="callers, and as many watchers")
    parser.add_argument("--pace", type=float, default=2.0, help="seconds between two cycles of a caller")
    parser.add_argument("--keep", action="store_true", help="write the picture and the figures of the page")
    return asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
