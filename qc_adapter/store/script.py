"""Lua texts that change Redis in one step. They need nothing newer than Redis 6.2."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua text and the name by which Redis remembers it."""

    text: str
    sha1: str

    @classmethod
    def of(cls, text: str) -> Script:
        """Return the script with its name."""
        return cls(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
