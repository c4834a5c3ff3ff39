"""The attackers' process: `python -m bench.abuse.attackers KIND NAME PORT SCALE HOLD_SECONDS`, prints what they saw."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections import Counter
from typing import Final

from bench.abuse.attacks import ATTACKS, Port, raise_descriptors
from bench.abuse.http_attacks import HTTP_ATTACKS

LONGEST_SECONDS: Final = 100.0
#: What is over sooner comes again, so that there is something to measure; so often at most.
_SHORTEST_PART: Final = 0.6
_MOST_TIMES: Final = 10
_LOWER: Final = 10


async def _attack(kind: str, name: str, port: Port) -> dict[str, int]:
    attacks = ATTACKS if kind == "grpc" else HTTP_ATTACKS
    ends, seen = time.monotonic() + _SHORTEST_PART * port.hold_seconds, Counter[str]()
    async with asyncio.timeout(LONGEST_SECONDS):
        for _ in range(_MOST_TIMES):
            seen += await attacks[name](port)
            if time.monotonic() > ends:
                break
    return dict(seen)


def main() -> None:
    """Attack, print, and end."""
    kind, name, number, scale, hold_seconds = sys.argv[1:]
    os.nice(_LOWER)
    raise_descriptors()
    port = Port("127.0.0.1", int(number), float(scale), float(hold_seconds))
    print(json.dumps(asyncio.run(_attack(kind, name, port))))


if __name__ == "__main__":
    main()
