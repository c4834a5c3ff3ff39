"""The attackers' process: `python -m bench.abuse.attackers KIND NAME PORT SCALE HOLD_SECONDS`, prints what they saw."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Final

from bench.abuse.attacks import ATTACKS, Port, raise_descriptors
from bench.abuse.http_attacks import HTTP_ATTACKS

LONGEST_SECONDS: Final = 100.0
_LOWER: Final = 10


async def _attack(kind: str, name: str, port: Port) -> dict[str, int]:
    attacks = ATTACKS if kind == "grpc" else HTTP_ATTACKS
    async with asyncio.timeout(LONGEST_SECONDS):
        return dict(await attacks[name](port))


def main() -> None:
    """Attack, print, and end."""
    kind, name, number, scale, hold_seconds = sys.argv[1:]
    os.nice(_LOWER)
    raise_descriptors()
    port = Port("127.0.0.1", int(number), float(scale), float(hold_seconds))
    print(json.dumps(asyncio.run(_attack(kind, name, port))))


if __name__ == "__main__":
    main()
