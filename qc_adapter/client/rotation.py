"""A caller's certificate, key and CAs in files that others renew: new calls go over a connection that shows the new."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import grpc
from grpc import StatusCode

if TYPE_CHECKING:
    from collections.abc import Callable

    from qc_adapter.client.failure import CallFailed
    from qc_adapter.client.token import Headers, Shown

_Stamp = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """PEM files: the CAs that sign adapters (the system's without), and the caller's own certificate with its key."""

    ca_file: str | Path | None = None
    cert_file: str | Path | None = None
    key_file: str | Path | None = None

    def read(self) -> grpc.ChannelCredentials:
        """Return what they hold; raises OSError when a file cannot be read, ValueError when the pair does not fit."""
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("certificate and key belong together: give both files or neither")
        ca, key, certificate = map(_content, (self.ca_file, self.key_file, self.cert_file))
        if self.cert_file is not None:
            self._check_pair()
        return grpc.ssl_channel_credentials(ca, key, certificate)

    def stamp(self) -> _Stamp:
        """Return what tells the files from those that lay there before."""
        found: list[tuple[int, int, int] | None] = []
        for path in (self.ca_file, self.cert_file, self.key_file):
            seen = None
            if path is not None:
                with contextlib.suppress(OSError):
                    status = Path(path).stat()
                    seen = (status.st_ino, status.st_mtime_ns, status.st_size)
            found.append(seen)
        return tuple(found)

    def _check_pair(self) -> None:
        try:
            # Without a password of its own OpenSSL would ask for one at the terminal.
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_cert_chain(str(self.cert_file), str(self.key_file), password=lambda: b"")
        except ssl.SSLError:
            raise ValueError(f"{self.cert_file} and {self.key_file} are no certificate and its key") from None


@dataclass(slots=True, eq=False)
class _Connection:
    """One of gRPC's channels, and how many calls are on it."""

    channel: grpc.aio.Channel
    calls: int = 0


class RotatingChannel:
    """
    A channel for stubs whose calls begin on the newest connection; gRPC's own channels keep their first certificate.

    Calls that have begun stay on the connection that they are on, which closes when the last of them has ended.
    """

    def __init__(
        self, open_channel: Callable[[grpc.ChannelCredentials], grpc.aio.Channel], files: CertificateFiles
    ) -> None:
        """Read the files; raises OSError and ValueError when they cannot be used."""
        self._open_channel = open_channel
        self._files = files
        self._stamp = files.stamp()
        self._newest = _Connection(open_channel(files.read()))
        self._turn = 0
        self._old: set[_Connection] = set()
        self._closing: set[asyncio.Task[None]] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._newest.channel, name)

    def newest_turn(self) -> int:
        """Take into use what lies in the files; returns how often that was something new."""
        stamp = self._files.stamp()
        if stamp == self._stamp:
            return self._turn
        try:
            credentials = self._files.read()
        except (OSError, ValueError):
            return self._turn  # one file of two is there, perhaps: the old ones are as good as before
        self._stamp = stamp
        self._turn += 1
        self._old.add(self._newest)
        self._close_if_left(self._newest)
        self._newest = _Connection(self._open_channel(credentials))
        return self._turn

    def unary_unary(self, *what: Any, **how: Any) -> Callable[..., Any]:
        """Return a call of that kind."""
        return self._calling("unary_unary", *what, **how)

    def unary_stream(self, *what: Any, **how: Any) -> Callable[..., Any]:
        """Return a call of that kind."""
        return self._calling("unary_stream", *what, **how)

    def stream_unary(self, *what: Any, **how: Any) -> Callable[..., Any]:
        """Return a call of that kind."""
        return self._calling("stream_unary", *what, **how)

    def stream_stream(self, *what: Any, **how: Any) -> Callable[..., Any]:
        """Return a call of that kind."""
        return self._calling("stream_stream", *what, **how)

    async def close(self, grace: float | None = None) -> None:
        """Close all connections."""
        left, self._old = self._old, set()
        for connection in (*left, self._newest):
            await connection.channel.close(grace)
        await asyncio.gather(*self._closing)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    def _calling(self, kind: str, *what: Any, **how: Any) -> Callable[..., Any]:
        def call(*request: Any, **options: Any) -> Any:
            self.newest_turn()
            connection = self._newest
            begun = getattr(connection.channel, kind)(*what, **how)(*request, **options)
            connection.calls += 1
            begun.add_done_callback(lambda _call: self._leave(connection))
            return begun

        return call

    def _leave(self, connection: _Connection) -> None:
        connection.calls -= 1
        self._close_if_left(connection)

    def _close_if_left(self, connection: _Connection) -> None:
        if connection in self._old and not connection.calls:
            self._old.discard(connection)
            closing = asyncio.get_running_loop().create_task(
                connection.channel.close(), name="close the old connection"
            )
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)


class Proofs:
    """What the streams of one watch or command prove: each the token and the certificate of its time."""

    def __init__(self, token: Shown, channel: grpc.aio.Channel | RotatingChannel) -> None:
        self._token = token
        self._channel = channel if isinstance(channel, RotatingChannel) else None
        self._turn = 0

    def headers(self) -> Headers:
        """Return the headers of the next stream; raises `CallFailed`."""
        if self._channel is not None:
            self._turn = self._channel.newest_turn()
        return self._token.headers()

    def renewed(self, failure: CallFailed) -> bool:
        """Whether the stream ended for what it proved, and there is something newer: then it may be opened anew."""
        if self._token.renewed(failure):
            return True
        if self._channel is None or failure.code is not StatusCode.UNAUTHENTICATED:
            return False
        return self._channel.newest_turn() != self._turn


def _content(path: str | Path | None) -> bytes | None:
    return None if path is None else Path(path).read_bytes()
