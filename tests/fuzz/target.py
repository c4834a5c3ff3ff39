"""What is fuzzed: bytes go in, and whatever comes out that the target does not allow is a crash."""

from __future__ import annotations

import asyncio
import atexit
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence

    from hypothesis.strategies import SearchStrategy

SEEDS = Path(__file__).parent / "seeds"
#: Planted where a secret stands; it must come out nowhere.
CANARY = "c4naryS3cretPlanted"


@dataclass(frozen=True)
class Target:
    """
    One reader of foreign bytes.

    `check` raises for an input that breaks the rule in its docstring, and is the same for both drivers: hypothesis
    draws inputs of the right form from `shapes`, atheris makes its own from the kept seeds.
    """

    name: str
    check: Callable[[bytes], None]
    shapes: Callable[[], SearchStrategy[bytes]]

    def seeds(self) -> Iterator[Path]:
        """Return the kept inputs, crashes of the past among them."""
        return iter(sorted((SEEDS / self.name).iterdir()))


def head_and_rest(data: bytes) -> tuple[str, bytes]:
    """Return the first line, which says what is to be read, and everything after it."""
    head, _, rest = data.partition(b"\n")
    return head.decode("latin-1"), rest


def chosen(head: str, names: Sequence[str]) -> str:
    """Return the name that the head says; any other head stands for one of them too, so that no input is wasted."""
    return head if head in names else names[zlib.crc32(head.encode()) % len(names)]


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run to the end on a loop that is kept: to make one costs more than most inputs."""
    _runner().run(coroutine)


@cache
def _runner() -> asyncio.Runner:
    runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
    atexit.register(runner.close)
    return runner
