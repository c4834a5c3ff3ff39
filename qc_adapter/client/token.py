"""The token that a caller shows with each call: read anew each time, and never sent where others can read it."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from grpc import StatusCode

from qc_adapter.client.failure import TOKEN_UNUSABLE, CallFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_SCHEME: Final = re.compile(r"(?:dns|ipv4|ipv6):(?://[^/]*/)?")
#: What adapters take.
_LONGEST: Final = 7 * 1024


class TokenExposed(ValueError):
    """A token would cross a network readable."""


Headers = tuple[tuple[str, str], ...]


class Token:
    """A token, or the file that it is in: whoever renews it there need not tell us."""

    def __init__(self, text: str | None = None, file: str | Path | None = None) -> None:
        if text is not None and file is not None:
            raise ValueError("give token or token_file, not both")
        self._text = text
        self._file = None if file is None else Path(file)

    def read(self) -> str:
        """Return the token as it is now; raises `CallFailed` when there is none. The error does not repeat it."""
        text = self._text or ""
        if self._file is not None:
            try:
                with self._file.open("rb") as opened:
                    text = opened.read(_LONGEST + 1).decode("ascii")
            except OSError as error:
                raise _unusable(f"{self._file} cannot be read: {error.strerror}") from None
            except UnicodeDecodeError:
                raise _unusable(f"{self._file} holds no token") from None
        text = text.strip()
        if not text or len(text) > _LONGEST or not text.isascii() or not text.isprintable() or " " in text:
            raise _unusable(f"{self._file} holds no token" if self._file else "what was given is no token")
        return text


class Shown:
    """What the streams of one watch or command show: each the token of its time."""

    def __init__(self, token: Token | None) -> None:
        self._token = token
        self._last = ""

    def headers(self) -> Headers:
        """Return the headers of the next stream; raises `CallFailed`."""
        if self._token is None:
            return ()
        self._last = self._token.read()
        return (("authorization", f"Bearer {self._last}"),)

    def renewed(self, failure: CallFailed) -> bool:
        """Whether the stream ended for its token, and there is another one now: then it may be opened anew."""
        if self._token is None or failure.code is not StatusCode.UNAUTHENTICATED or failure.reason == TOKEN_UNUSABLE:
            return False
        try:
            return self._token.read() != self._last
        except CallFailed:
            return False


def check_way(replicas: Sequence[str], *, encrypted: bool) -> None:
    """Raise `TokenExposed` when a token would cross a network readable."""
    away = [] if encrypted else [one for one in replicas if not on_this_machine(one)]
    if away:
        raise TokenExposed(f"a token is not sent unencrypted to {away[0]}: use TLS")


def on_this_machine(target: str) -> bool:
    """Whether all addresses of a target are of this machine."""
    if target.startswith("unix:"):
        return True
    rest = _SCHEME.sub("", target, count=1)
    return all(_is_loopback(one) for one in rest.split(","))


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0] or address
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


class Showing:
    """A channel for stubs whose calls show the token; everything else is the channel's own."""

    def __init__(self, channel: Any, token: Token) -> None:
        self._channel = channel
        self._token = token

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)

    async def __aenter__(self) -> Any:
        await self._channel.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._channel.__aexit__(*error)

    def unary_unary(self, *what: Any, **how: Any) -> Callable[..., Any]:
        """Return a call of that kind."""
        return self._with_token(self._channel.unary_unary(*what, **how))

    def unary_stream(self, *what: Any, **how: Any) -> Callable[..., Any]:
        """Return a call of that kind."""
        return self._with_token(self._channel.unary_stream(*what, **how))

    def stream_unary(self, *what: Any, **how: Any) -> Callable[..., Any]:
        """Return a call of that kind."""
        return self._with_token(self._channel.stream_unary(*what, **how))

    def stream_stream(self, *what: Any, **how: Any) -> Callable[..., Any]:
        """Return a call of that kind."""
        return self._with_token(self._channel.stream_stream(*what, **how))

    def _with_token(self, begin: Callable[..., Any]) -> Callable[..., Any]:
        def call(*request: Any, metadata: Any = None, **options: Any) -> Any:
            return begin(*request, metadata=(*(metadata or ()), *Shown(self._token).headers()), **options)

        return call


def _unusable(why: str) -> CallFailed:
    return CallFailed(StatusCode.UNAUTHENTICATED, f"no token to show: {why}", TOKEN_UNUSABLE)
