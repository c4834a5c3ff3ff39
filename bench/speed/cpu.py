"""
CPU time of a process as the scheduler counts it, in nanoseconds, and how long it waited for a core.

The clock of /proc/PID/stat ticks every 10 ms, which is too coarse for short measurements.
"""

from __future__ import annotations

import contextlib
from pathlib import Path


def cpu_seconds(pid: int) -> float:
    """Return the user and system time of all threads that the process has now."""
    spent = 0
    for thread in Path("/proc", str(pid), "task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a thread that ended meanwhile
            spent += int((thread / "schedstat").read_text().split()[0])
    return spent / 1e9


def waited_seconds(pid: int) -> float:
    """Return how long its first thread, the one of the event loop, was ready to run and had no core."""
    return int(Path("/proc", str(pid), "schedstat").read_text().split()[1]) / 1e9
