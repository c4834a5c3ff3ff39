"""
The gateway that costs next to nothing, as a process.

It listens on as many loopback addresses as it is told, because one address has ports for some 28,000 connections only.
"""

from __future__ import annotations

import argparse
import asyncio
import ssl
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import trustme
import uvloop

from bench.answers import answer
from bench.lean_gateway import HOLD_SECONDS, QUIET_FROM, Connection, LeanGateway
from bench.limits import raise_descriptors

if TYPE_CHECKING:
    from collections.abc import Sequence


class Doors:
    """Where it listens: a port on each address, the same ones after it was away."""

    def __init__(self, gateway: LeanGateway, addresses: Sequence[str], context: ssl.SSLContext | None) -> None:
        self._gateway = gateway
        self._context = context
        self._places = [(address, 0) for address in addresses]
        self._servers: list[asyncio.Server] = []
        self._away: asyncio.Task[None] | None = None

    @property
    def urls(self) -> list[str]:
        """All of them."""
        scheme = "http" if self._context is None else "https"
        return [f"{scheme}://{address}:{port}" for address, port in self._places]

    async def open(self) -> None:
        """Listen."""
        loop = asyncio.get_running_loop()
        self._servers = [
            await loop.create_server(lambda: Connection(self._gateway), address, port, backlog=8192, ssl=self._context)
            for address, port in self._places
        ]
        self._places = [server.sockets[0].getsockname()[:2] for server in self._servers]

    def go_away(self, seconds: str) -> bool:
        """Cut all connections and refuse new ones for so long."""
        self._away = asyncio.create_task(self._be_away(float(seconds)))
        return True

    async def _be_away(self, seconds: float) -> None:
        self._shut()
        self._gateway.cut()
        await asyncio.sleep(seconds)
        await self.open()

    async def close(self) -> None:
        """Listen no more."""
        if self._away is not None:
            self._away.cancel()
            await asyncio.gather(self._away, return_exceptions=True)
        self._shut()

    def _shut(self) -> None:
        for server in self._servers:
            server.close()


def _server_context(addresses: Sequence[str], ca_file: Path) -> ssl.SSLContext:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(ca_file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*addresses, "localhost").configure_cert(context)
    return context


async def serve(options: argparse.Namespace, folder: Path) -> None:
    """Serve until the parent closes the pipe."""
    gateway = LeanGateway(options.hold, options.quiet_from)
    ca_file = folder / "ca.pem"
    doors = Doors(gateway, options.addresses, _server_context(options.addresses, ca_file) if options.tls else None)
    await doors.open()
    try:
        await answer(
            {
                "url": lambda: doors.urls[0],
                "urls": lambda: doors.urls,
                "ca": lambda: str(ca_file) if options.tls else "",
                "counts": gateway.counts,
                "opened": gateway.opened,
                "tell": gateway.tell,
                "tell_held": gateway.tell_held,
                "tell_one": gateway.tell_one,
                "quiet": gateway.quiet,
                "go_away": doors.go_away,
            }
        )
    finally:
        gateway.quiet()
        await doors.close()


def main() -> None:
    """Read the options and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("addresses", nargs="*", default=["127.0.0.1"], help="loopback addresses, a port on each")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--hold", type=float, default=HOLD_SECONDS, help="seconds that a poll waits for an event")
    parser.add_argument(
        "--quiet-from", type=int, default=QUIET_FROM, help="intercepts of inspectors from this one on bring no events"
    )
    options = parser.parse_args()
    raise_descriptors()
    with (
        tempfile.TemporaryDirectory(prefix="qc-load-") as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(serve(options, Path(folder)))


if __name__ == "__main__":
    main()
