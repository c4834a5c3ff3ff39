"""Where audit records are written: a standard stream, or a file that is added to and may be rotated away."""

from __future__ import annotations

import os
from typing import Final, Protocol

from qc_adapter.audit.record import NOTHING, last_hash

_TAIL_BYTES: Final = 256 * 1024
_MODE: Final = 0o600
_FLAGS: Final = os.O_APPEND | os.O_CREAT | os.O_NOCTTY


class Output(Protocol):
    """Takes lines."""

    def open(self) -> str:
        """Begin; return the hash of the last record that stands there already. Raises OSError."""
        ...

    def write(self, line: bytes) -> None:
        """Write a whole line and its end; raises OSError when that is not certain."""
        ...

    def close(self) -> None:
        """Let go."""
        ...


class _Lines:
    """Writes lines to a descriptor. What a failure has torn stays a line of its own, and the next begins anew."""

    def __init__(self) -> None:
        self.torn = False

    def write(self, descriptor: int, line: bytes) -> None:
        whole = b"\n" * self.torn + line + b"\n"
        written = 0
        try:
            while written < len(whole):
                written += os.write(descriptor, whole[written:])
        except OSError:
            self.torn = self.torn or written > 0
            if written < len(whole) - 1:
                raise
            # The record stands there. Written again it would be there twice; only its end is owed.
            return
        self.torn = False


class Stream:
    """Standard output or standard error."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lines = _Lines()

    def open(self) -> str:
        """Nothing can be read there."""
        return NOTHING

    def write(self, line: bytes) -> None:
        """Write a line in one piece, if the stream takes it."""
        self._lines.write(self._descriptor, line)

    def close(self) -> None:
        """It belongs to the process."""


class File:
    """
    A file of this process alone.

    One that was renamed or removed is made anew under its name: that is how logs are rotated.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor = -1
        self._identity = (0, 0)
        self._lines = _Lines()

    def open(self) -> str:
        """Open or make the file; a last line that a crash has torn is left, and the next begins on a new one."""
        self._reopen()
        tail = self._tail()
        self._lines.torn = bool(tail) and not tail.endswith(b"\n")
        return last_hash(tail)

    def write(self, line: bytes) -> None:
        """Write a line to the file that has the name now."""
        if self._moved():
            self.close()
            self._reopen()
            self._lines.torn = False
        self._lines.write(self._descriptor, line)

    def close(self) -> None:
        """Close the file; the next line opens it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _moved(self) -> bool:
        if self._descriptor < 0:
            return True
        try:
            found = os.stat(self._path)  # noqa: PTH116 - of each record, so without a Path
        except FileNotFoundError:
            return True
        return (found.st_dev, found.st_ino) != self._identity

    def _reopen(self) -> None:
        # Without O_NONBLOCK a pipe that nobody reads would hold the process here.
        self._descriptor = os.open(self._path, _FLAGS | os.O_WRONLY | os.O_NONBLOCK, _MODE)
        os.set_blocking(self._descriptor, True)
        found = os.fstat(self._descriptor)
        self._identity = (found.st_dev, found.st_ino)

    def _tail(self) -> bytes:
        size = os.fstat(self._descriptor).st_size
        if not size:
            return b""
        with open(self._path, "rb") as file:  # noqa: PTH123 - as above
            file.seek(max(0, size - _TAIL_BYTES))
            return file.read(_TAIL_BYTES)


def output_to(log: str) -> Output:
    """Return the output that a setting names: `stdout`, `stderr` or a path."""
    streams = {"stdout": 1, "stderr": 2}
    return Stream(streams[log]) if log in streams else File(log)
