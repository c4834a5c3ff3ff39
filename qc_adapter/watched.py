"""Files that are read anew when they change: certificates, keys, the policy. What cannot be used changes nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_Stamp = tuple[tuple[int, int, int] | None, ...]


class Unusable(Exception):
    """What lies on disk cannot be used; the text says what to change, and repeats no secret."""


class Counts(Protocol):
    """What is counted of reloads."""

    def reloaded(self, what: str, *, refused: bool) -> None: ...


@dataclass(slots=True)
class _Watched:
    what: str
    paths: tuple[str, ...]
    load: Callable[[], None]
    stamp: _Stamp
    refused: str = ""
    #: A certificate and its key are replaced one after the other, so what was refused is tried at each look.
    again: bool = field(default=False)


class WatchedFiles:
    """
    Looks at files every few seconds, and loads anew what changed.

    A `load` takes what it read into use as a whole, or raises `Unusable`, `OSError` or `ValueError` and leaves what was
    in use. It is short: it runs in the event loop. Kubernetes replaces a volume's files by turning a link, so a file is
    known by what its path leads to.
    """

    def __init__(self, seconds: float, counts: Counts) -> None:
        self._seconds = seconds
        self._counts = counts
        self._files: list[_Watched] = []
        self._watching: asyncio.Task[None] | None = None
        self._log = structlog.get_logger()

    def add(self, what: str, paths: Iterable[str | None], load: Callable[[], None]) -> None:
        """
        Watch files that are loaded right after: what is replaced meanwhile must count as a change.

        `what` is a label of the metrics, and names them in the log.
        """
        found = tuple(path for path in paths if path)
        if found:
            self._files.append(_Watched(what, found, load, _stamp(found)))

    def start(self) -> None:
        """Begin to look, in the running loop."""
        if self._files:
            self._watching = asyncio.create_task(self._watch(), name="watched files")

    async def stop(self) -> None:
        """Look no more."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
            self._watching = None

    def look(self) -> None:
        """Load what has changed since the last look."""
        for one in self._files:
            stamp = _stamp(one.paths)
            if stamp != one.stamp or one.again:
                one.stamp = stamp
                self._load(one)

    def _load(self, one: _Watched) -> None:
        try:
            one.load()
        except (Unusable, OSError, ValueError) as failure:
            why = _why_unread(failure) if isinstance(failure, OSError) else str(failure)
        except Exception as defect:  # noqa: BLE001 - a defect in one reader must not end the watch over the others
            self._log.error("reload_failed", what=one.what, exc_info=defect)
            why = f"a defect: {type(defect).__name__}"
        else:
            one.again, one.refused = False, ""
            self._counts.reloaded(one.what, refused=False)
            self._log.info("reloaded", what=one.what)
            return
        if why != one.refused:
            self._counts.reloaded(one.what, refused=True)
            self._log.warning("reload_refused", what=one.what, files=list(one.paths), detail=why)
        one.again, one.refused = True, why

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._seconds)
            self.look()


def _why_unread(failure: OSError) -> str:
    """Return what to say, with the file: there may be several."""
    why = failure.strerror or type(failure).__name__
    return f"{failure.filename}: {why}" if isinstance(failure.filename, str) else why


def _stamp(paths: Iterable[str]) -> _Stamp:
    """Return what tells the files from those that lay there before."""
    found: list[tuple[int, int, int] | None] = []
    for path in paths:
        seen = None
        with contextlib.suppress(OSError):
            status = os.stat(path)  # noqa: PTH116 - follows links, which is the point
            seen = (status.st_ino, status.st_mtime_ns, status.st_size)
        found.append(seen)
    return tuple(found)
