"""How an event is known on both sides: by its type and what it says, whatever the way it took."""

from __future__ import annotations

import json
import zlib
from typing import Any


def mark(event_type: str, content: Any) -> str:
    """Return the mark of an event; numbers are compared as the contract carries them, which is as doubles."""
    text = json.dumps(content, sort_keys=True, default=str)
    return f"{event_type} {zlib.crc32(_plain(text).encode()):08x}"


def _plain(text: str) -> str:
    return json.dumps(json.loads(text, parse_int=float), sort_keys=True)
