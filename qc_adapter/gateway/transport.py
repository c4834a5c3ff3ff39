"""Carries requests over aiohttp's connections; the only file that knows the HTTP libraries."""

from __future__ import annotations

import asyncio
import math
import ssl
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import httpx
from yarl import URL

from qc_adapter.gateway.trust import Trust
from qc_adapter.gateway.wire import NotSent, NotSentWhy, RawReply, ReplyHeaders, ReplyLost

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from aiohttp.client_reqrep import ConnectionKey
    from aiohttp.connector import Connection

    from qc_adapter.gateway.requests import GatewayRequest
    from qc_adapter.gateway.settings import GatewaySettings

_Lines = tuple[tuple[bytes, bytes], ...]
#: So many connections in turn may have brought something before they were asked; then the gateway is not to be used.
_MOST_UNASKED: Final = 8


class CertificateRefused(httpx.ConnectError):
    """One side does not trust the other; nothing of the request was read."""


class ReplyCut(httpx.RemoteProtocolError):
    """The reply ended within its body, by a broken connection or by our timeout; its headers are whole."""

    def __init__(self, message: str, lines: _Lines, *, timed_out: bool) -> None:
        super().__init__(message)
        self.lines = lines
        self.timed_out = timed_out


class _Mark:
    """Notes the moment from which on bytes of one request may have gone out."""

    __slots__ = ("_on_send", "lines", "owner", "sent", "waiting_for_slot")

    def __init__(self, on_send: Callable[[], None], owner: int) -> None:
        self._on_send = on_send
        self.owner = owner
        self.sent = False
        self.waiting_for_slot = True
        self.lines: _Lines | None = None

    def note(self) -> None:
        if self.sent:
            raise aiohttp.ClientConnectionError("a request is sent once")
        self._on_send()
        self.sent = True

    async def __call__(self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> Any:
        """Put the mark on the request; aiohttp calls this as a middleware before it connects."""
        if isinstance(request, _Request):
            request.mark = self
        return await handler(request)


class _Unasked(aiohttp.ClientError):
    """A kept connection has brought something that nobody asked for: it would pass for the reply to this request."""


class _Request(aiohttp.ClientRequest):
    """Tells its mark when a connection is there and the first byte is about to go out."""

    mark: _Mark

    @property
    def connection_key(self) -> ConnectionKey:
        """Connections are shared only by requests with the same owner."""
        # The field is part of the key and of nothing else, as long as there is no proxy, and there is none.
        return super().connection_key._replace(proxy_headers_hash=self.mark.owner)

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        # aiohttp looks at this when a connection goes back into the pool, and not when it comes out again.
        if conn.protocol is None or conn.protocol.should_close:
            raise _Unasked
        self.mark.note()
        return await super().send(conn)


class _Pool:
    """Connections of one kind with a gate in front; a request that waits at the gate has not been sent."""

    def __init__(self, settings: GatewaySettings, trust: Trust, slots: int) -> None:
        self._slots = asyncio.Semaphore(slots)
        self._trust = trust
        self._max_bytes = settings.max_reply_bytes
        connector = aiohttp.TCPConnector(
            limit=0,  # the gate is ours: its wait counts against the request's own time
            keepalive_timeout=settings.keepalive_seconds,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),  # a shared jar would mix the inspectors' sessions
            trust_env=False,
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(
                total=None, connect=settings.connect_timeout_seconds, ceil_threshold=math.inf
            ),
            request_class=_Request,
            skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent"),
        )
        # aiohttp repeats a PUT, DELETE or GET by itself when a kept connection turns out to be closed. The
        # first one may have been executed, and a poll may have taken an event away. There is no public
        # switch in the 3.x series; `_Mark.note` refuses a second sending should this one disappear.
        self._session._retry_connection = False  # noqa: SLF001

    async def exchange(
        self,
        verb: str,
        url: URL,
        headers: Mapping[str, str] | list[tuple[str, str]],
        body: bytes | None,
        *,
        seconds: float,
        on_send: Callable[[], None],
        owner: int,
    ) -> tuple[int, _Lines, bytes]:
        """
        Send one request once and read its whole reply, within `seconds` all in all; raises httpx exceptions.

        It goes on a connection that carries only requests of its owner.
        """
        if self._session.closed:
            raise httpx.ConnectError("this adapter is shutting down")
        mark = _Mark(on_send, owner)
        try:
            async with asyncio.timeout(seconds), self._slots:
                mark.waiting_for_slot = False
                for _ in range(_MOST_UNASKED):
                    try:
                        return await self._once(verb, url, headers, body, mark)
                    except _Unasked:  # the connection is closed, and nothing was sent: another one will do
                        continue
                raise httpx.ConnectError("the gateway sends replies that nobody asked for")
        except (aiohttp.ClientError, OSError) as error:
            # TimeoutError is an OSError, ours as well as aiohttp's. The cause is dropped: aiohttp's errors
            # carry the request's headers, and with them the GUID.
            raise _as_httpx(error, mark) from None

    async def _once(
        self, verb: str, url: URL, headers: Mapping[str, str] | list[tuple[str, str]], body: bytes | None, mark: _Mark
    ) -> tuple[int, _Lines, bytes]:
        trust = self._trust.context
        async with self._session.request(
            verb,
            url,
            headers=headers,
            data=body,
            middlewares=(mark,),
            allow_redirects=False,
            ssl=True if trust is None else trust,
        ) as response:
            mark.lines = response.raw_headers
            return response.status, mark.lines, await self._body(response)

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        """Read until the end or just past the limit, where the connection is given up."""
        chunks: list[bytes] = []
        size = 0
        while chunk := await response.content.readany():
            chunks.append(chunk)
            size += len(chunk)
            if size > self._max_bytes:
                response.close()
                break
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def close(self) -> None:
        await self._session.close()


def _as_httpx(error: Exception, mark: _Mark) -> httpx.TransportError:
    """
    Return the httpx exception that says what happened.

    The mark decides whether something was sent, not the kind of error: a reset has the same type before
    and after. Texts are our own, for those of the libraries name addresses.
    """
    if (refusal := _certificate_refusal(error)) is not None:
        return CertificateRefused(refusal)
    timed_out = isinstance(error, TimeoutError)
    if not mark.sent:
        if mark.waiting_for_slot:
            return httpx.PoolTimeout("no slot for another request became free in time")
        if timed_out:
            return httpx.ConnectTimeout("no connection to the gateway in time")
        return httpx.ConnectError(_connect_text(error))
    if mark.lines is not None:
        return ReplyCut("the reply broke off in its body", mark.lines, timed_out=timed_out)
    if timed_out:
        return httpx.ReadTimeout("no reply in time")
    if isinstance(error, aiohttp.ClientConnectionResetError):
        return httpx.WriteError("the connection was closed while the request was written")
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return httpx.RemoteProtocolError("the connection was closed without a reply")
    if isinstance(error, OSError):
        return httpx.ReadError("the connection was reset before a reply")
    return httpx.RemoteProtocolError("the reply is not HTTP")


def _certificate_refusal(error: BaseException) -> str | None:
    """Say which side does not trust the other, if that is what happened."""
    cause = error.__cause__
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        cause = error.certificate_error
    elif isinstance(error, aiohttp.ClientConnectorError):
        cause = error.os_error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"the gateway's certificate is not trusted: {cause.verify_message.strip('. ')}"
    if not isinstance(cause, ssl.SSLError) or cause.reason is None:
        return None
    if "ALERT" in cause.reason and ("CERT" in cause.reason or "UNKNOWN_CA" in cause.reason):
        # With TLS 1.3 the other side judges our certificate after we have begun to write. It has not
        # read the request by then: this is a refusal although the mark is set.
        return "the gateway does not accept this adapter's client certificate"
    if "HANDSHAKE_FAILURE" in cause.reason:
        return "the gateway declines the TLS handshake: it may want a client certificate, or other ciphers"
    if "VERSION" in cause.reason or "PROTOCOL" in cause.reason:
        return "the gateway does not speak TLS 1.2 or newer on this port"
    return None


def _connect_text(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "the gateway's host name does not resolve"
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, ConnectionRefusedError):
        return "the gateway refused the connection"
    return "no connection to the gateway"


class AiohttpTransport(httpx.AsyncBaseTransport):
    """
    An httpx transport for commands over aiohttp's connections.

    The address is prepared once; the path comes in the request's `target` extension, as in httpcore. Its `on_send`
    extension is told when bytes may go out, `owner` says whose connections it takes. It never sends twice and keeps no
    cookies.
    """

    def __init__(self, pool: _Pool, base: str) -> None:
        self._pool = pool
        self._base = base

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request once."""
        extensions = request.extensions
        stream = request.stream
        body = stream.body if isinstance(stream, _Whole) else await request.aread()
        status, lines, content = await self._pool.exchange(
            request.method,
            URL(self._base + extensions["target"], encoded=True),
            [(name.decode("ascii"), value.decode("ascii")) for name, value in request.headers.raw],
            body or None,
            seconds=extensions["timeout"]["read"],
            on_send=extensions["on_send"],
            owner=extensions["owner"],
        )
        return httpx.Response(status, headers=lines, stream=_Whole(content), request=request)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._pool.close()


class _Whole(httpx.AsyncByteStream):
    """A body that is all there."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.body


class GatewayTransport:
    """
    The way to one gateway: commands through httpx types, polls on aiohttp itself, each on its own connections.

    Polls are many and long: they pay for no object they do not need and never stand in a command's way. No two
    inspectors share a connection, so that no mishap on one brings an inspector the reply, and the GUID, of another.
    Build it within a running event loop.
    """

    def __init__(self, settings: GatewaySettings) -> None:
        self._trust = trust = Trust(settings)
        self._base = settings.base_url
        self._address = httpx.URL(self._base)
        self._polls = _Pool(settings, trust, settings.poll_slots)
        self._commands = AiohttpTransport(_Pool(settings, trust, settings.command_slots), self._base)

    async def send(
        self,
        request: GatewayRequest,
        headers: Mapping[str, str],
        timeout_seconds: float,
        on_send: Callable[[], None],
    ) -> RawReply:
        """Carry a command; raises `NotSent` or `ReplyLost`."""
        prepared = httpx.Request(
            request.operation.verb,
            self._address,
            headers=headers,
            stream=_Whole(request.body or b""),
            extensions={
                "target": _target(request),
                "timeout": {"read": timeout_seconds},
                "on_send": on_send,
                "owner": _owner(request),
            },
        )
        try:
            response = await self._commands.handle_async_request(prepared)
        except httpx.TransportError as error:
            raise _as_failure(error) from error
        content = response.stream.body if isinstance(response.stream, _Whole) else await response.aread()
        return RawReply(response.status_code, ReplyHeaders(tuple(response.headers.raw)), content)

    async def poll(
        self,
        request: GatewayRequest,
        headers: Mapping[str, str],
        timeout_seconds: float,
        on_send: Callable[[], None],
    ) -> RawReply:
        """Carry a long poll, or a heartbeat; raises `NotSent` or `ReplyLost`."""
        url = URL(self._base + _target(request), encoded=True)
        try:
            status, lines, body = await self._polls.exchange(
                request.operation.verb,
                url,
                headers,
                None,
                seconds=timeout_seconds,
                on_send=on_send,
                owner=_owner(request),
            )
        except httpx.TransportError as error:
            raise _as_failure(error) from error
        return RawReply(status, ReplyHeaders(lines), body)

    def reload(self) -> None:
        """Read the certificates anew, for new connections; raises `ValueError` or `OSError` if they are of no use."""
        self._trust.reload()

    async def close(self) -> None:
        """Close all connections; requests under way end as lost."""
        await self._commands.aclose()
        await self._polls.close()


def _owner(request: GatewayRequest) -> int:
    """Return what tells the inspector of a request from others: in each path it comes second."""
    return hash(request.path.split("/", 3)[2])


def _target(request: GatewayRequest) -> str:
    return f"{request.path}?{request.query}" if request.query else request.path


def _as_failure(error: httpx.TransportError) -> NotSent | ReplyLost:
    """Return what the port knows of an httpx exception."""
    text = str(error)
    if isinstance(error, CertificateRefused):
        return NotSent(text, NotSentWhy.TRUST)
    if isinstance(error, httpx.PoolTimeout):
        return NotSent(text, NotSentWhy.NO_SLOT)
    if isinstance(error, httpx.ConnectTimeout):
        return NotSent(text, NotSentWhy.TIMEOUT)
    if isinstance(error, httpx.ConnectError):
        return NotSent(text, NotSentWhy.CONNECT)
    if isinstance(error, ReplyCut):
        return ReplyLost(text, timed_out=error.timed_out, headers=ReplyHeaders(error.lines))
    return ReplyLost(text, timed_out=isinstance(error, httpx.ReadTimeout))
