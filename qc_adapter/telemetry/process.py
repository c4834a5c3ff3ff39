"""
The numbers of this process that every Prometheus client tells, by their usual names.

The library's own collector lists all open files to count them, which with 20,000 polls keeps the event loop for 20 ms
at each page of metrics. The kernel knows their number.
"""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prometheus_client import ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from prometheus_client import Metric

_STATM: Final = Path("/proc/self/statm")
_FILES: Final = Path("/proc/self/fd")


class ProcessNumbers(Collector):
    """Tells memory, CPU, start and files, as the library's collector does; nothing where there is no /proc."""

    def __init__(self) -> None:
        # The only one that does not change.
        self._start = [
            one for one in ProcessCollector(registry=None).collect() if one.name == "process_start_time_seconds"
        ]

    def collect(self) -> list[Metric]:
        """Return them."""
        try:
            pages = _STATM.read_text().split()
            files = open_files()
        except OSError:
            return []
        page = os.sysconf("SC_PAGE_SIZE")
        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return [
            _gauge("virtual_memory_bytes", "Virtual memory size in bytes.", int(pages[0]) * page),
            _gauge("resident_memory_bytes", "Resident memory size in bytes.", int(pages[1]) * page),
            *self._start,
            CounterMetricFamily(
                "process_cpu_seconds_total", "Total user and system CPU time spent in seconds.", time.process_time()
            ),
            _gauge("open_fds", "Number of open file descriptors.", files),
            _gauge("max_fds", "Maximum number of open file descriptors.", most),
        ]


def open_files() -> int:
    """Count the open descriptors; the size of that folder is their number from Linux 6.2 on, and 0 before."""
    return _FILES.stat().st_size or sum(1 for _ in _FILES.iterdir())


def _gauge(name: str, words: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"process_{name}", words, value=value)
