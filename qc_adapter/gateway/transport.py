"""The way to one gateway: requests become bytes here, and go out on connections of our own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

from qc_adapter.gateway.connections import Connections
from qc_adapter.gateway.connector import Connector
from qc_adapter.gateway.trust import Trust

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from qc_adapter.gateway.requests import GatewayRequest
    from qc_adapter.gateway.settings import GatewaySettings
    from qc_adapter.gateway.wire import RawReply


class GatewayTransport:
    """
    Commands and polls, each on connections and behind a gate of their own: polls never stand in a command's way.

    No two inspectors share a connection. Build it within a running event loop.
    """

    def __init__(self, settings: GatewaySettings) -> None:
        address = httpx.URL(settings.base_url)
        secure = address.scheme == "https"
        self._trust = Trust(settings)
        self._connector = Connector(
            address.raw_host.decode("ascii"), address.port or (443 if secure else 80), settings.connect_timeout_seconds
        )
        self._path = address.raw_path.decode("ascii")
        self._host = f"HTTP/1.1\r\nHost: {address.netloc.decode('ascii')}\r\n"
        self._polls = Connections(self._connector, self._trust, settings, settings.poll_slots)
        self._commands = Connections(self._connector, self._trust, settings, settings.command_slots)

    def send(
        self,
        request: GatewayRequest,
        headers: Mapping[str, str],
        timeout_seconds: float,
        on_send: Callable[[], None],
    ) -> Awaitable[RawReply]:
        """Carry a command; raises `NotSent` or `ReplyLost`."""
        return self._commands.exchange(_inspector(request), self._bytes_of(request, headers), timeout_seconds, on_send)

    def poll(
        self,
        request: GatewayRequest,
        headers: Mapping[str, str],
        timeout_seconds: float,
        on_send: Callable[[], None],
    ) -> Awaitable[RawReply]:
        """Carry a long poll, or a heartbeat; raises `NotSent` or `ReplyLost`."""
        return self._polls.exchange(_inspector(request), self._bytes_of(request, headers), timeout_seconds, on_send)

    def reload(self) -> None:
        """Read the certificates anew, for new connections; raises `ValueError` or `OSError` if they are of no use."""
        self._trust.reload()

    async def close(self) -> None:
        """Close all connections; requests under way end as lost."""
        await self._commands.close()
        await self._polls.close()
        await self._connector.close()

    def _bytes_of(self, request: GatewayRequest, headers: Mapping[str, str]) -> bytes:
        """Return the request as it goes out."""
        verb, query, body = request.operation.verb, request.query, request.body or b""
        target = f"{self._path}{request.path}?{query}" if query else f"{self._path}{request.path}"
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        length = "" if verb == "GET" else f"Content-Length: {len(body)}\r\n"
        return f"{verb} {target} {self._host}{lines}{length}\r\n".encode("ascii") + body


def _inspector(request: GatewayRequest) -> str:
    """Return whose request it is: in each path the inspector comes second."""
    return request.path.split("/", 3)[2]
