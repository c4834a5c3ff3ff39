"""Beside the wire: replies that go wrong on purpose."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, Final

import orjson
from aiohttp import web

from qc_adapter.simulator.faults import HANG_LIMIT_SECONDS, Fault

if TYPE_CHECKING:
    from multidict import CIMultiDict

    from qc_adapter.simulator.replies import Encoder, Reply

_PAGE: Final = "<html><head><title>{0} {1}</title></head><body><center><h1>{0} {1}</h1></center><hr>nginx</body></html>"
_REASONS: Final = {
    403: "Forbidden",
    404: "Not Found",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Temporarily Unavailable",
    504: "Gateway Time-out",
}
_LINGER_ZERO: Final = struct.pack("ii", 1, 0)


class Damage:
    """Writes replies as a broken network, balancer or gateway would."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End all pauses."""
        self._stopping.set()

    async def pause(self, seconds: float) -> None:
        """Wait, but not beyond the simulator's own end."""
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return

    def cut(self, http: web.BaseRequest) -> web.StreamResponse:
        """Reset the connection; nothing more is sent."""
        transport = http.transport
        if transport is not None:
            sock = transport.get_extra_info("socket")
            if sock is not None:
                # With no time to linger the kernel sends a reset, not a polite end.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
            transport.abort()
        return _unsent()

    async def reply(
        self, http: web.BaseRequest, fault: Fault, reply: Reply, headers: CIMultiDict[str]
    ) -> web.StreamResponse:
        """Answer in the way of the fault."""
        match fault.action:
            case "reset_after":
                return self.cut(http)
            case "hang":
                return await self._hang(http, fault)
            case "html":
                page = _PAGE.format(fault.status, _REASONS.get(fault.status, "Error"))
                return web.Response(status=fault.status, text=page, content_type="text/html")
            case "redirect":
                return web.Response(status=302, headers={"Location": fault.location})
            case "empty200":
                return web.Response(status=200)
            case "cut_json":
                return await self._cut_short(http, self._encoder.body(reply), headers)
            case "slow_drip":
                return await self._drip(http, self._encoder.body(reply), headers, fault.seconds)
            case "foreign_json":
                foreign = [1, 2] if fault.body is None else fault.body
                return web.Response(body=orjson.dumps(foreign), headers=headers)
            case "raw_body":
                return web.Response(body=str(fault.body or "").encode(), headers=headers)
            case _:
                return _recoded(self._encoder.body(reply), headers, fault)

    async def _hang(self, http: web.BaseRequest, fault: Fault) -> web.StreamResponse:
        limit = min(fault.seconds or HANG_LIMIT_SECONDS, HANG_LIMIT_SECONDS)
        loop = asyncio.get_running_loop()
        ends = loop.time() + limit
        while http.transport is not None and loop.time() < ends and not self._stopping.is_set():
            await self.pause(0.05)
        return self.cut(http)

    async def _cut_short(self, http: web.BaseRequest, body: bytes, headers: CIMultiDict[str]) -> web.StreamResponse:
        response = web.StreamResponse(headers=headers)
        response.content_length = len(body)
        await response.prepare(http)
        await response.write(body[: max(1, len(body) * 2 // 3)])
        if http.transport is not None:
            http.transport.close()
        return response

    async def _drip(
        self, http: web.BaseRequest, body: bytes, headers: CIMultiDict[str], seconds: float
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers=headers)
        response.content_length = len(body)
        await response.prepare(http)
        for position in range(len(body)):
            await response.write(body[position : position + 1])
            await self.pause(seconds / len(body))
        return response


def _recoded(body: bytes, headers: CIMultiDict[str], fault: Fault) -> web.StreamResponse:
    """Put words into the message that only the named charset, or none, can read."""
    words = {"gbk": "\u4f60\u597d".encode("gbk"), "undecodable": b"\xff\xfe\x80", "bom": b""}[fault.charset]
    if fault.charset == "bom":
        return web.Response(body=b"\xef\xbb\xbf" + body + b"\n", headers=headers)
    headers["Content-Type"] = "application/json;charset=" + ("GBK" if fault.charset == "gbk" else "UTF-8")
    start = body.index(b'"message":"') + len(b'"message":"')
    end = body.index(b'"', start)
    return web.Response(body=body[:start] + words + body[end:], headers=headers)


def _unsent() -> web.Response:
    """Return what aiohttp wants to have although the connection is gone."""
    response = web.Response()
    response.force_close()
    return response
