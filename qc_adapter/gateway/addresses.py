"""Where the gateway's host name leads, looked up once for all who connect within a short time."""

from __future__ import annotations

import asyncio
import ipaddress
import math
import socket
from typing import Final

#: So long the addresses of a name are used; a change in the name service is followed within this time.
FRESH_SECONDS: Final = 10.0


class Addresses:
    """The addresses of one host. Where a name has several, each connection begins with another one of them."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._looking: asyncio.Task[None] | None = None
        self._found = _literal(host)
        self._fresh_until = math.inf if self._found else 0.0
        self._turn = 0

    async def get(self) -> list[str]:
        """Return them in the order in which to try them; raises `OSError` when the name does not resolve."""
        if asyncio.get_running_loop().time() >= self._fresh_until:
            if self._looking is None:
                self._looking = asyncio.create_task(self._look_up())
                self._looking.add_done_callback(self._looked)
            # One look-up for all who want to connect: who gives up does not end it for the others.
            looking = self._looking
            await asyncio.wait([looking])
            if looking.cancelled():
                raise OSError("closed")
            looking.result()
        self._turn = (self._turn + 1) % len(self._found)
        return self._found[self._turn :] + self._found[: self._turn]

    def doubt(self) -> None:
        """Have a name looked up again before the next connection: nobody answers at what was found."""
        if self._fresh_until < math.inf:
            self._fresh_until = 0.0

    async def close(self) -> None:
        """End a look-up that is under way."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])

    async def _look_up(self) -> None:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
        # With its interface, where an address has one; each once, in the order of the name service.
        self._found = list(dict.fromkeys(str(address[0]) for *_, address in found))
        self._fresh_until = loop.time() + FRESH_SECONDS

    def _looked(self, looking: asyncio.Task[None]) -> None:
        self._looking = None
        if not looking.cancelled():
            looking.exception()  # those who wait have it; there may be none


def _literal(host: str) -> list[str]:
    """Return a host that is an address itself; nothing for a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return []
    return [host]
