"""The chain of one process: each record names the hash of the one before."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from qc_adapter.audit.record import NOTHING, VERSION, canonical, hash_of, joined

if TYPE_CHECKING:
    from collections.abc import Mapping


class Chain:
    """Gives records their places. With a key nobody without it can make one, or change one unseen."""

    def __init__(self, key: bytes, replica: str) -> None:
        self.name = secrets.token_hex(8)
        self.head = NOTHING
        self.seq = -1
        self._key = key
        self._replica = replica

    def add(self, fields: Mapping[str, Any]) -> bytes:
        """Return the next record's line, without its end. Whoever adds one has to write it, in the same order."""
        record = {
            "audit": VERSION,
            "chain": self.name,
            "seq": self.seq + 1,
            "prev": self.head,
            "replica": self._replica,
            **fields,
        }
        # First the text, which may fail: a place that is taken and never written would look like a removed record.
        content = canonical(record)
        hashed = hash_of(content, self._key)
        self.seq, self.head = self.seq + 1, hashed
        return joined(content, hashed)
