"""Looks at a process again and again, and keeps the most that it held."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.children import Footprint

_LOOK_SECONDS: Final = 0.1


class Sampler:
    """The peaks of one attack, and the CPU time that it cost."""

    def __init__(self, look: Callable[[], Footprint]) -> None:
        self._look = look
        first = look()
        self._cpu_before = first.cpu_seconds
        self.rss_bytes = first.rss_bytes
        self.fds = first.fds
        self.cpu_seconds = 0.0

    async def run(self) -> None:
        """Look until cancelled, and once more then."""
        try:
            while True:
                self._note()
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            self._note()

    def _note(self) -> None:
        now = self._look()
        self.rss_bytes = max(self.rss_bytes, now.rss_bytes)
        self.fds = max(self.fds, now.fds)
        self.cpu_seconds = now.cpu_seconds - self._cpu_before
