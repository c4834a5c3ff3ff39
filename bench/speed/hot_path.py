"""Where the CPU of a call goes: the stacks of the adapter under load, folded to its parts, and what was changed."""

from __future__ import annotations

import asyncio
import json
import pstats
import shutil
import signal
import statistics
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.children import Footprint
from bench.speed import system_calls
from bench.speed.figures import Section, Table
from bench.speed.load import load_generator
from bench.speed.page import number
from bench.speed.sides import site
from bench.speed.stacks import Cost, Folded, folded
from bench.speed.system_calls import AT_ONCE

if TYPE_CHECKING:
    from bench.speed.load import Load
    from bench.speed.sides import Side

STEPS: Final = Path(__file__).parent / "steps.json"
_SAMPLES_A_SECOND: Final = 250
_BEGIN_SECONDS: Final = 1.0
_WRITE_SECONDS: Final = 30.0
#: Parts below this share of the whole are one row.
_SMALL: Final = 0.01
_BEFORE: Final = """
The adapter with its store in memory and commands on record in a file, 64 calls of `Intercept` at once until confirmed.
{how}

The CPU of a call is measured without the profiler, and a part has of it what it has of the samples. A sample belongs to
the innermost frame that is known: protobuf called by `rpc` is protobuf. *System calls* have what the kernel says.
"""
_AFTER: Final = """
**System calls.** strace counts them, and slows both servers: without it there are up to a tenth less, as more is done
at once. What ours has more of than the empty server: a look before each of three requests to the gateway, a write and a
read for each; two writes and a look at a file for the record and the log line; random bytes for the ids of a call; and
`getpid`, a quarter of a microsecond each time. The rest are a few more wake-ups of gRPC's threads, which go to sleep
while a call waits for its gateway. Wake-ups are what is dear in either server: that a message was written is told by a
thread of gRPC, which is woken for it and wakes the event loop in turn; before that, gRPC takes no other message of the
call. The loop turns no oftener than the empty server's, a request to the gateway is written when it is made, and the
first message goes out together with the headers. Other pollers of gRPC, and fewer reads of its wake-ups, did not stand
out of the noise with 64 calls at once. The status could go out with the last message: nobody would learn then of a
caller who does not take that one.
"""
_BY_SAMPLES: Final = "py-spy looks at all threads {rate} times a second, frames of C and C++ included."
_BY_PROFILE: Final = (
    "py-spy could not attach, so Python's own profiler watched the loop's thread: small functions look dearer than "
    "they are, and the threads of gRPC are missing."
)


async def measure(*, quick: bool) -> Section:
    """Profile a confirmed Intercept."""
    calls, rounds = (600, 1) if quick else (4000, 5)
    with tempfile.TemporaryDirectory(prefix="qc-load-") as place:
        folder = Path(place)
        async with site(folder) as servers, load_generator(folder, servers.gateway) as load:
            settings = {"QC_POLL_PAUSE_SECONDS": "0", "QC_AUDIT_LOG": str(folder / "records.jsonl")}
            ours, floor = await servers.adapter("ours", settings), await servers.floor()
            await ours.adopt(AT_ONCE)
            costs = {side.name: await _cost(side, load, calls // 4, rounds) for side in (ours, floor)}
            profiles = {
                side.name: await _sampled(side, load, calls * (1 if side is ours else 3), folder / f"{side.name}.raw")
                for side in (ours, floor)
            }
            kernel = await system_calls.table(ours, floor, load, calls // 2, folder)
            how = _BY_SAMPLES.format(rate=_SAMPLES_A_SECOND)
            if profiles["ours"] is None:
                how = _BY_PROFILE
                profiles["ours"] = await _profiled(ours, load, calls // 2, folder / "ours.prof")
    return Section(
        key="hot_path",
        title="Where the CPU of a call goes",
        command="python -m bench.speed --only hot_path",
        before=_BEFORE.format(how=how),
        after="" if kernel is None else _AFTER,
        tables=(
            _parts(profiles["ours"], profiles["floor"], costs["ours"], costs["floor"]),
            *(() if kernel is None else (kernel,)),
            *_steps(),
        ),
    )


async def _cost(side: Side, load: Load, calls: int, rounds: int) -> Cost:
    """Measure a call without anybody looking on."""
    before = Footprint.of(side.pid)
    costs = [(await load.batch(side, "confirm", AT_ONCE, calls)).server_us for _ in range(rounds)]
    after = Footprint.of(side.pid)
    system = (after.system_seconds - before.system_seconds) / ((after.cpu_seconds - before.cpu_seconds) or 1)
    return Cost(statistics.median(costs), statistics.median(costs) * system)


async def _sampled(side: Side, load: Load, calls: int, output: Path) -> Folded | None:
    """Let py-spy look on while calls are made; None where it may not, or is not there."""
    program = shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which("py-spy")
    if program is None:
        return None
    options = ("--native", "--format", "raw", "--full-filenames", "--rate", str(_SAMPLES_A_SECOND))
    spy = await asyncio.create_subprocess_exec(
        program, "record", "--pid", str(side.pid), *options, "--output", str(output), "--duration", "unlimited",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        await asyncio.sleep(_BEGIN_SECONDS)
        if spy.returncode is None:
            await load.batch(side, "confirm", AT_ONCE, calls)
            spy.send_signal(signal.SIGINT)
        async with asyncio.timeout(_WRITE_SECONDS):
            await spy.wait()
    finally:
        if spy.returncode is None:
            spy.kill()
            await spy.wait()
    return _read(output)


def _read(output: Path) -> Folded | None:
    return folded(output.read_text(errors="replace").splitlines()) if output.exists() else None


async def _profiled(side: Side, load: Load, calls: int, output: Path) -> Folded:
    """Let cProfile look on."""
    assert side.child is not None
    await side.child.ask("profile")
    await load.batch(side, "confirm", AT_ONCE, calls)
    await side.child.ask("profiled", str(output))
    found = Folded()
    for (file, line, function), (_, _, own_seconds, *_) in pstats.Stats(str(output)).stats.items():
        found.add([f"{function} ({file}:{line})"], own_seconds)
    return found


def _parts(ours: Folded, floor: Folded | None, our_cost: Cost, floor_cost: Cost) -> Table:
    our_us, floor_us = ours.us(our_cost), {} if floor is None else floor.us(floor_cost)
    rows, rest = [], 0.0
    for part, us in sorted(our_us.items(), key=lambda one: -one[1]):
        if us < _SMALL * our_cost.all_us:
            rest += us
            continue
        share, theirs = f"{us / our_cost.all_us:.0%}", "" if floor is None else number(round(floor_us.get(part, 0)))
        rows.append((part, number(round(us)), share, theirs, ours.hottest(part)))
    rows.append(("less than 1 % each", number(round(rest)), f"{rest / our_cost.all_us:.0%}", "", ""))
    rows.append(("all", number(round(our_cost.all_us)), "100%", number(round(floor_cost.all_us)), ""))
    return Table(
        "CPU microseconds of a confirmed Intercept",
        ("part", "this adapter", "share", "empty server", "most samples in"),
        tuple(rows),
    )


def _steps() -> tuple[Table, ...]:
    """Return what was changed, with before and after of each step that was kept."""
    steps = json.loads(STEPS.read_text())
    if not steps:
        return ()
    columns = ("step", "before_us", "after_us", "ratio", "spread", "how")
    rows = tuple(
        tuple(number(one[name]) if isinstance(one[name], int | float) else one[name] for name in columns)
        for one in steps
    )
    heading = "What was changed on the way"
    return (Table(heading, ("step", "before, CPU us", "after, CPU us", "ratio", "spread", "measured by"), rows),)
