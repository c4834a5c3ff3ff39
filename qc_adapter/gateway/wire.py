"""The port to the network: what comes back, and the two ways an exchange can fail."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from qc_adapter.gateway.requests import GatewayRequest


@dataclass(frozen=True, slots=True)
class ReplyHeaders:
    """The header lines of a reply that somebody looks at; names ignore case. They hold GUIDs, so they do not print."""

    lines: tuple[tuple[bytes, bytes], ...] = field(default=(), repr=False)

    def all(self, name: str) -> list[str]:
        """Return every value of a header, in order."""
        wanted = name.lower().encode("ascii")
        return [value.decode("latin-1").strip() for line, value in self.lines if line.lower() == wanted]

    def first(self, name: str) -> str:
        """Return the first value of a header, or an empty text."""
        found = self.all(name)
        return found[0] if found else ""


@dataclass(frozen=True, slots=True)
class RawReply:
    """A reply as it came. A body longer than the limit is cut right after it, so it shows as too long."""

    status: int
    headers: ReplyHeaders = field(repr=False)
    body: bytes = field(repr=False)


class NotSentWhy(StrEnum):
    """Why no byte of a request went out."""

    CONNECT = "connect"
    TIMEOUT = "timeout"
    NO_SLOT = "no_slot"
    TRUST = "trust"


class NotSent(Exception):
    """No byte of the request went out."""

    def __init__(self, text: str, why: NotSentWhy) -> None:
        super().__init__(text)
        self.text = text
        self.why = why


class ReplyLost(Exception):
    """
    The request may have arrived and no whole reply came back.

    `headers` are there when the reply was cut in its body: a new GUID in them still counts.
    """

    def __init__(self, text: str, *, timed_out: bool = False, headers: ReplyHeaders | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.timed_out = timed_out
        #: Whether the head of a reply came.
        self.answered = headers is not None
        self.headers = headers or ReplyHeaders()


class Transport(Protocol):
    """
    Carries one request to the gateway and never repeats it.

    No two inspectors' requests share a connection. `on_send` is called exactly once, right before the first byte may go
    out; never for `NotSent`.
    """

    def send(
        self,
        request: GatewayRequest,
        headers: Mapping[str, str],
        timeout_seconds: float,
        on_send: Callable[[], None],
    ) -> Awaitable[RawReply]:
        """Carry a command; raises `NotSent` or `ReplyLost`."""

    def poll(
        self,
        request: GatewayRequest,
        headers: Mapping[str, str],
        timeout_seconds: float,
        on_send: Callable[[], None],
    ) -> Awaitable[RawReply]:
        """Carry a long poll or heartbeat, on connections of their own; raises `NotSent` or `ReplyLost`."""

    def reload(self) -> None:
        """Read the certificates anew; raises `ValueError` or `OSError`, and changes nothing, if they are of no use."""

    async def close(self) -> None:
        """Close all connections."""


def carriable(value: str) -> bool:
    """Whether a header may carry the value: no line break, no control character, no foreign letter."""
    return value.isascii() and value.isprintable()
