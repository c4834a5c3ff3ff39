"""What an adapter held over time: samples, whether they are flat, and their picture."""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from matplotlib.figure import Figure

from bench.children import MIB
from bench.pictures import style

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.children import Bench

#: Between these parts of the run everything has been seen once: what grows from there to the last part is a leak.
EARLY: Final = (0.2, 0.4)
LATE: Final = (0.8, 1.0)


@dataclass(frozen=True, slots=True)
class Sample:
    """What the adapter holds at a moment; `seconds` since the load began."""

    seconds: float
    rss_mib: float
    tasks: int
    fds: int
    cpu_seconds: float


async def sampled(bench: Bench, every_seconds: float, found: list[Sample], say: Callable[[Sample], None]) -> None:
    """Take samples until cancelled."""
    began = time.monotonic()
    while True:
        found.append(await sample(bench, time.monotonic() - began))
        say(found[-1])
        await asyncio.sleep(every_seconds)


async def sample(bench: Bench, seconds: float) -> Sample:
    """Take one."""
    tasks: dict[str, int] = await bench.adapter.ask("tasks")
    now = bench.adapter.footprint()
    return Sample(seconds, now.rss_bytes / MIB, sum(tasks.values()), now.fds, now.cpu_seconds)


def grown(samples: list[Sample], what: Callable[[Sample], float]) -> float:
    """Return by how much the median of the late part is above that of the early part."""
    end = samples[-1].seconds

    def middle(part: tuple[float, float]) -> float:
        return statistics.median(what(one) for one in samples if part[0] * end <= one.seconds <= part[1] * end)

    return middle(LATE) - middle(EARLY)


def draw(samples: list[Sample], title: str, path: Path) -> None:
    """Draw memory, tasks and descriptors over the minutes."""
    figure = Figure(figsize=(11, 7.5), dpi=style.DOTS_PER_INCH, facecolor=style.BACKGROUND)
    figure.suptitle(title, color=style.TEXT, fontsize=12)
    panels: tuple[tuple[str, str, Callable[[Sample], float]], ...] = (
        ("Resident memory, MiB", "blue", lambda one: one.rss_mib),
        ("Tasks", "green", lambda one: one.tasks),
        ("Descriptors", "orange", lambda one: one.fds),
    )
    minutes = [one.seconds / 60 for one in samples]
    for axes, (name, colour, value) in zip(figure.subplots(3, 1, sharex=True), panels, strict=True):
        axes.set_facecolor(style.PANEL)
        axes.plot(minutes, [value(one) for one in samples], color=style.NAMED[colour], linewidth=1.2)
        axes.set_ylim(bottom=0)
        axes.set_title(name, color=style.TEXT, fontsize=10, loc="left")
        axes.grid(visible=True, color=style.GRID, linewidth=0.7)
        axes.tick_params(colors=style.FAINT, labelsize=9, length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
    axes.set_xlabel("minutes", color=style.FAINT, fontsize=9)
    figure.tight_layout()
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, facecolor=style.BACKGROUND)
