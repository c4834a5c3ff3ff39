"""Makes connections to one gateway, and says why when there is none."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import TYPE_CHECKING, Final, cast

from qc_adapter.gateway.addresses import Addresses
from qc_adapter.gateway.trust import refusal_of
from qc_adapter.gateway.wire import NotSent, NotSentWhy

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from qc_adapter.gateway.connection import Connection

#: An address that is silent so long has the next one tried beside it (RFC 8305).
_NEXT_ADDRESS_SECONDS: Final = 0.25
_NO_DESCRIPTOR: Final = frozenset({errno.EMFILE, errno.ENFILE})


class Connector:
    """Finds the gateway's address, connects and shakes hands, all within the time for connecting."""

    def __init__(self, host: str, port: int, connect_timeout_seconds: float) -> None:
        self._addresses = Addresses(host, port)
        self._port = port
        self._name = host.rstrip(".")
        self._most_seconds = connect_timeout_seconds

    async def connect(self, make: Callable[[], Connection], trust: ssl.SSLContext | None, seconds: float) -> Connection:
        """Return a connection that stands, of those that are made in the attempt; raises `NotSent`."""
        try:
            async with asyncio.timeout(min(seconds, self._most_seconds)):
                addresses = await self._addresses.get()
                if len(addresses) == 1:
                    return await self._attempt(addresses[0], make, trust)
                return await self._race(addresses, make, trust)
        except (OSError, UnicodeError) as error:  # TimeoutError is an OSError
            self._addresses.doubt()
            raise _unsent(error) from None

    async def close(self) -> None:
        """End what is under way for all."""
        await self._addresses.close()

    async def _attempt(self, address: str, make: Callable[[], Connection], trust: ssl.SSLContext | None) -> Connection:
        connection = make()
        try:
            # Not with a socket of our own: on uvloop one that ends at once would be closed twice.
            await asyncio.get_running_loop().create_connection(
                lambda: connection,
                address,
                self._port,
                ssl=trust,
                server_hostname=None if trust is None else self._name,
            )
        except BaseException:
            connection.abandon()
            raise
        return connection

    async def _race(
        self, addresses: list[str], make: Callable[[], Connection], trust: ssl.SSLContext | None
    ) -> Connection:
        """Try one address after the other, the next one also beside one that is silent (RFC 8305); the first wins."""
        begun: list[asyncio.Task[Connection]] = []
        won: Connection | None = None
        pending: set[asyncio.Task[Connection]] = set()
        try:
            while len(begun) < len(addresses) or pending:
                if len(begun) < len(addresses):
                    begun.append(asyncio.create_task(self._attempt(addresses[len(begun)], make, trust)))
                    pending.add(begun[-1])
                patience = _NEXT_ADDRESS_SECONDS if len(begun) < len(addresses) else None
                done, pending = await asyncio.wait(pending, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                for attempt in done:
                    if attempt.exception() is None:
                        begun.remove(attempt)
                        won = attempt.result()
                        return won
            failures = [cast("OSError", attempt.exception()) for attempt in begun]
            # One that is not trusted says more than one that does not answer.
            raise next((failure for failure in failures if refusal_of(failure)), failures[-1])
        finally:
            await _end(begun, won)


async def _end(losers: list[asyncio.Task[Connection]], won: Connection | None) -> None:
    """End the attempts that did not win; whoever gives up meanwhile has no use for the one that did."""
    for attempt in losers:
        attempt.cancel()
    try:
        await asyncio.gather(*losers, return_exceptions=True)
    except asyncio.CancelledError:
        if won is not None:
            won.abort()
        raise
    finally:
        for attempt in losers:
            if not attempt.cancelled() and attempt.exception() is None:
                attempt.result().abort()  # it stood as well, and a moment too late


def _unsent(error: OSError | UnicodeError) -> NotSent:
    """Return what is told of it; texts are our own, for those of the libraries name addresses."""
    if (refusal := refusal_of(error)) is not None:
        return NotSent(refusal, NotSentWhy.TRUST)
    if isinstance(error, TimeoutError):
        return NotSent("no connection to the gateway in time", NotSentWhy.TIMEOUT)
    if isinstance(error, socket.gaierror | UnicodeError):
        return NotSent("the gateway's host name does not resolve", NotSentWhy.CONNECT)
    if error.errno in _NO_DESCRIPTOR:
        return NotSent("this process may have no more connections: its limit of descriptors", NotSentWhy.CONNECT)
    if isinstance(error, ConnectionRefusedError):
        return NotSent("the gateway refused the connection", NotSentWhy.CONNECT)
    return NotSent("no connection to the gateway", NotSentWhy.CONNECT)
