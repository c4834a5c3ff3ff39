"""Asks the stub of a gateway as fast as it answers, to learn its ceiling: one PUT after another on each connection."""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import Any, Final
from urllib.parse import urlsplit

import uvloop

from bench.answers import answer
from bench.lean_gateway import QUIET_FROM

_REQUEST: Final = (
    b"PUT /agentgateway/resource/qualitycontrol/%d/intercept/292 HTTP/1.1\r\nHost: stub\r\n\r\n" % QUIET_FROM
)


class _Asker(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._transport: Any = None
        self.answered = 0
        self.asking = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        self._transport = transport
        self._transport.write(_REQUEST)

    def data_received(self, _data: bytes) -> None:
        """Take an answer, which is short enough to come whole, and ask again."""
        self.answered += 1
        if self.asking:
            self._transport.write(_REQUEST)


async def blast(url: str, connections: str, seconds: str, ca_file: str = "") -> dict[str, float]:
    """Return how many requests were answered, and how long it took."""
    address = urlsplit(url)
    context = ssl.create_default_context(cafile=ca_file) if ca_file else None
    loop, askers = asyncio.get_running_loop(), []
    for _ in range(int(connections)):
        transport, asker = await loop.create_connection(_Asker, address.hostname, address.port, ssl=context)
        askers.append((transport, asker))
    before, began = sum(asker.answered for _, asker in askers), time.perf_counter()
    await asyncio.sleep(float(seconds))
    answered, took = sum(asker.answered for _, asker in askers) - before, time.perf_counter() - began
    for transport, asker in askers:
        asker.asking = False
        transport.close()
    return {"answered": answered, "took": took}


def main() -> None:
    """Run on uvloop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(answer({"blast": blast}))


if __name__ == "__main__":
    main()
