"""
When Python's garbage collector runs in a process that is ours.

Python looks through all objects as soon as a quarter more than last time have lived for a moment, though they may be
gone again. What belongs to a poll lives for ten seconds: with 18,000 polls that came every six seconds, and took half a
second, in which nothing else went on. So all objects are looked through after ten minutes, and those that were not
there at the look before when memory has really grown.

The youngest are looked through ten times a second. Python would count those that come less those that go, whatever
their age: polls that end make up for polls that begin, so that a hundred thousand were young when it looked, which took
up to 60 ms.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

#: So many more new objects than before are looked through at once; by itself Python then looks at no others.
THRESHOLDS: Final = (10_000, 1_000_000, 1_000_000)
#: Memory has grown when it is so much more than after the last look, by a share of it and in bytes.
_GROWN_TIMES: Final = 1.25
_GROWN_BYTES: Final = 32 << 20
_LONGEST_SECONDS: Final = 600.0
_LOOK_SECONDS: Final = 5.0
_YOUNG_SECONDS: Final = 0.1
_YOUNG: Final = 0


def resident_bytes() -> int:
    """Return how much memory the process has; 0 where that cannot be read."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


class Collector:
    """Looks through all objects when it is worth it."""

    def __init__(
        self, memory_bytes: Callable[[], int] = resident_bytes, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._memory_bytes = memory_bytes
        self._clock = clock
        self._bytes = memory_bytes()
        self._all_seen_at = clock()

    def look(self) -> bool:
        """
        Collect if memory has grown or the last time is long ago; returns whether it did.

        What is there after a look is not looked at again before ten minutes are over: most of it stays.
        """
        grown = self._memory_bytes() > _GROWN_TIMES * self._bytes + _GROWN_BYTES
        late = self._clock() >= self._all_seen_at + _LONGEST_SECONDS
        if not grown and not late:
            return False
        if late:
            gc.unfreeze()
            self._all_seen_at = self._clock()
        gc.collect()
        gc.freeze()
        self._bytes = self._memory_bytes()
        return True


@contextlib.asynccontextmanager
async def rarely_collected() -> AsyncIterator[None]:
    """Have garbage collected that way within a block."""
    before = gc.get_threshold()
    gc.set_threshold(*THRESHOLDS)
    looking = asyncio.create_task(_look_always(Collector()), name="garbage")
    try:
        yield
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        gc.unfreeze()
        gc.set_threshold(*before)


async def _look_always(collector: Collector) -> None:
    while True:
        for _ in range(round(_LOOK_SECONDS / _YOUNG_SECONDS)):
            await asyncio.sleep(_YOUNG_SECONDS)
            gc.collect(_YOUNG)
        collector.look()
