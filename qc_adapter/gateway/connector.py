"""Makes connections to one gateway, and says why when there is none."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Final

import aiohappyeyeballs

from qc_adapter.gateway.addresses import Addresses
from qc_adapter.gateway.trust import refusal_of
from qc_adapter.gateway.wire import NotSent, NotSentWhy

if TYPE_CHECKING:
    import ssl

#: An address that is silent so long has the next one tried beside it (RFC 8305).
_NEXT_ADDRESS_SECONDS: Final = 0.25


class Connector:
    """Finds the gateway's address, connects and shakes hands, all within the time for connecting."""

    def __init__(self, host: str, port: int, connect_timeout_seconds: float) -> None:
        self._addresses = Addresses(host, port)
        self._name = host.rstrip(".")
        self._most_seconds = connect_timeout_seconds

    async def connect(self, protocol: asyncio.Protocol, trust: ssl.SSLContext | None, seconds: float) -> None:
        """Let the protocol have a connection; raises `NotSent`."""
        try:
            async with asyncio.timeout(min(seconds, self._most_seconds)):
                await self._connect(protocol, trust)
        except (OSError, UnicodeError) as error:  # TimeoutError is an OSError
            self._addresses.doubt()
            raise _unsent(error) from None

    async def close(self) -> None:
        """End what is under way for all."""
        await self._addresses.close()

    async def _connect(self, protocol: asyncio.Protocol, trust: ssl.SSLContext | None) -> None:
        addresses = await self._addresses.get()
        plain = await aiohappyeyeballs.start_connection(addresses, happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS)
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: protocol, sock=plain, ssl=trust, server_hostname=None if trust is None else self._name
            )
        except BaseException:
            plain.close()
            raise


def _unsent(error: OSError | UnicodeError) -> NotSent:
    """Return what is told of it; texts are our own, for those of the libraries name addresses."""
    if (refusal := refusal_of(error)) is not None:
        return NotSent(refusal, NotSentWhy.TRUST)
    if isinstance(error, TimeoutError):
        return NotSent("no connection to the gateway in time", NotSentWhy.TIMEOUT)
    if isinstance(error, socket.gaierror | UnicodeError):
        return NotSent("the gateway's host name does not resolve", NotSentWhy.CONNECT)
    if isinstance(error, ConnectionRefusedError):
        return NotSent("the gateway refused the connection", NotSentWhy.CONNECT)
    return NotSent("no connection to the gateway", NotSentWhy.CONNECT)
