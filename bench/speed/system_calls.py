"""How often a server asks the kernel for something in a call, by what it asks for: strace counts, where it may."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
from collections import Counter
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from bench.speed.figures import Table
from bench.speed.load import WARM_UP

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from bench.speed.load import Load
    from bench.speed.sides import Side

#: What each of them is made for, in either server.
_USES: Final = MappingProxyType(
    {
        "write": "wake-ups of gRPC's threads and of the event loop; requests to the gateway, log line, record",
        "read": "the wake-ups of gRPC's threads; replies of the gateway",
        "recvfrom": "the wake-ups of the event loop by gRPC",
        "epoll_pwait": "turns of the event loop",
        "epoll_wait": "gRPC's threads wait",
        "futex": "gRPC's threads wait for each other",
        "sendmsg": "messages and status to the caller",
        "recvmsg": "requests of the caller",
        "poll": "whether anything unasked has come, before each request to the gateway",
        "getpid": "Python 3.11 whenever it is asked for the running loop or task",
        "newfstatat": "whether the file of records is still the one that is open",
        "getrandom": "ids of a call",
    }
)
#: Calls that are under way at once, as in the rest of the part.
AT_ONCE: Final = 64
_ATTACH_SECONDS: Final = 10.0
_END_SECONDS: Final = 10.0
_LOOK_SECONDS: Final = 0.01
#: Less often than this a call is told with the rest: timers and threads of their own.
_RARE: Final = 0.2
#: Of a line of strace: share, seconds, microseconds a call, calls, errors if any, name.
_CALLS_FIELD: Final = 3


async def table(ours: Side, floor: Side, load: Load, calls: int, folder: Path) -> Table | None:
    """Count those of a confirmed Intercept; None where strace is not there, or may not look on."""
    our_counts, floor_counts = [
        await _counted(side, load, calls, folder / f"{side.name}.calls") for side in (ours, floor)
    ]
    if not our_counts or not floor_counts:
        return None
    often = [
        name
        for name in sorted(our_counts, key=lambda name: -our_counts[name])
        if max(our_counts[name], floor_counts.get(name, 0)) >= _RARE
    ]
    rest = [sum(count for name, count in found.items() if name not in often) for found in (our_counts, floor_counts)]
    rows = (
        *((f"`{name}`", our_counts[name], floor_counts.get(name, 0), _USES.get(name, "")) for name in often),
        ("others", *rest, ""),
        ("all", sum(our_counts.values()), sum(floor_counts.values()), ""),
    )
    return Table(
        "System calls of a confirmed Intercept",
        ("call", "this adapter", "empty server", "for"),
        tuple((name, f"{one:.1f}", f"{other:.1f}", use) for name, one, other, use in rows),
    )


def read_counts(lines: Iterable[str]) -> dict[str, int]:
    """Read strace's summary: how often each call was made."""
    found: Counter[str] = Counter()
    for line in lines:
        fields = line.split()
        if len(fields) > _CALLS_FIELD + 1 and fields[_CALLS_FIELD].isdigit() and fields[-1] != "total":
            found[fields[-1]] += int(fields[_CALLS_FIELD])
    return found


async def _counted(side: Side, load: Load, calls: int, output: Path) -> dict[str, float]:
    async with _watched(side.pid, output):
        await load.batch(side, "confirm", AT_ONCE, calls)
    return {name: count / (calls + WARM_UP) for name, count in _read(output).items()}


def _read(output: Path) -> dict[str, int]:
    return read_counts(output.read_text(errors="replace").splitlines()) if output.exists() else {}


@contextlib.asynccontextmanager
async def _watched(pid: int, output: Path) -> AsyncIterator[None]:
    """Let strace count while this lasts, once it has all threads; without strace nothing is counted."""
    program = shutil.which("strace")
    if program is None:
        yield
        return
    strace = await asyncio.create_subprocess_exec(
        program, "-f", "-c", "-qq", "-o", str(output), "-p", str(pid),
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(_ATTACH_SECONDS):
            while strace.returncode is None and not _traced(pid):  # noqa: ASYNC110 - it is another process
                await asyncio.sleep(_LOOK_SECONDS)
        yield
        if strace.returncode is None:
            strace.send_signal(signal.SIGINT)
        async with asyncio.timeout(_END_SECONDS):
            await strace.wait()
    finally:
        if strace.returncode is None:
            strace.kill()
            await strace.wait()


def _traced(pid: int) -> bool:
    """Whether a tracer has all threads; one that ends meanwhile needs none."""
    for thread in Path("/proc", str(pid), "task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if "TracerPid:\t0\n" in (thread / "status").read_text():
                return False
    return True
