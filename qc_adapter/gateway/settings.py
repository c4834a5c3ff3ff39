"""Where the gateway is, how it is trusted and how long to wait for it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from urllib.parse import urlsplit

from qc_adapter.model.inspector import DEFAULT_GATEWAY
from qc_adapter.model.session import EventSource

_RESOURCE = "/agentgateway/resource"


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """
    The way to one gateway.

    `name` is what callers put before an inspector's id, and stands in keys, metrics and log lines.
    `/agentgateway/resource` is added to a `url` without a path. `command_slots` requests and `poll_slots` polls may be
    under way at once, and of one inspector `commands_per_inspector` commands. `keepalive_seconds` must stay below the
    gateway's own idle time, or commands meet connections that it has just closed and end with an unknown outcome.
    `agent_id_max` depends on its edition (CONTRACT 8); `event_source` is how the events of our own sign-ins come.
    `pins` are SHA-256 fingerprints in hex, one of which its certificate has to have; then neither an authority, nor its
    name, nor its dates count.
    """

    url: str
    name: str = DEFAULT_GATEWAY
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    pins: tuple[str, ...] = ()
    agent_id_max: int = 59_999
    event_source: EventSource = EventSource.POLL
    request_timeout_seconds: float = 10.0
    connect_timeout_seconds: float = 3.0
    poll_hold_seconds: float = 10.0
    poll_margin_seconds: float = 20.0
    command_slots: int = 256
    commands_per_inspector: int = 16
    poll_slots: int = 20_000
    keepalive_seconds: float = 15.0
    max_reply_bytes: int = 1 << 20

    def __post_init__(self) -> None:
        if problems := self.problems():
            raise ValueError("; ".join(problems))

    def problems(self) -> list[str]:
        """Return everything that is wrong, all at once."""
        found = _url_problems(self.url)
        for name in (
            "request_timeout_seconds",
            "connect_timeout_seconds",
            "poll_hold_seconds",
            "poll_margin_seconds",
            "command_slots",
            "commands_per_inspector",
            "poll_slots",
            "keepalive_seconds",
            "max_reply_bytes",
        ):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                found.append(f"{name} ({value}) must be a positive number")
        if self.connect_timeout_seconds > self.request_timeout_seconds:
            found.append(
                f"connect_timeout_seconds ({self.connect_timeout_seconds}) must not be longer than "
                f"request_timeout_seconds ({self.request_timeout_seconds})"
            )
        if self.key_file and not self.cert_file:
            found.append("key_file is of no use without cert_file")
        if self.pins and self.ca_file:
            found.append("ca_file is of no use with pins: the certificate itself counts then")
        return found

    @property
    def base_url(self) -> str:
        """The address that operation paths are added to, without a slash at its end."""
        parts = urlsplit(self.url)
        path = parts.path.rstrip("/") or _RESOURCE
        return f"{parts.scheme}://{parts.netloc}{path}"


def _url_problems(url: str) -> list[str]:
    """Say what is wrong with the address, without repeating it: it may hold credentials."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return ["url is not an address"]
    found = []
    if parts.scheme not in {"http", "https"}:
        found.append("url must begin with https:// (or http:// for a simulator)")
    if not parts.hostname or port == 0:
        found.append("url must name a host, and a port above 0 if any")
    if parts.username is not None or parts.password is not None:
        found.append("url must not hold a user name or password")
    if parts.query or parts.fragment:
        found.append("url must not have a query or fragment")
    return found
