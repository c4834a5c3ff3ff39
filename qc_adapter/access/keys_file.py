"""Keys of callers' tokens from a file, read anew when it changes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qc_adapter.access.keys import LARGEST_KEY_SET, read_keys

if TYPE_CHECKING:
    from qc_adapter.access.keys import Key, KeySet


def read_key_file(path: str) -> KeySet:
    """Return the keys in the file; raises `Unusable` or OSError."""
    with Path(path).open("rb") as file:
        return read_keys(file.read(LARGEST_KEY_SET + 1))


class KeysInFile:
    """The keys in a file; `load` is for `WatchedFiles`."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._keys: KeySet = {}
        self.version = object()
        self.load()

    def load(self) -> None:
        """Take what is in the file now; raises `Unusable` or OSError, and then nothing changes."""
        self._keys = read_key_file(self._path)
        self.version = object()

    async def find(self, kid: str) -> Key | None:
        """Return the key of that name."""
        return self._keys.get(kid)

    def holds(self, key: Key) -> bool:
        """Whether that key is still in the file."""
        return self._keys.get(key.kid) == key
