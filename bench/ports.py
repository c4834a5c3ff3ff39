"""Ports for servers that have to be told theirs before they start."""

from __future__ import annotations

import random
import socket
from typing import Final

#: Below those that systems give to outgoing connections, so that none of them takes a port between look and use.
_FIRST: Final = 20_000
_LAST: Final = 32_000
_TRIES: Final = 100


def free_port() -> int:
    """Return a port of loopback that nobody listens on now."""
    for _ in range(_TRIES):
        port = random.randint(_FIRST, _LAST)  # noqa: S311 - not a secret
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"none of {_TRIES} ports between {_FIRST} and {_LAST} is free")
