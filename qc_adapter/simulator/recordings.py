"""Beside the replies: a recording as a file, sent in chunks and without a length."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from aiohttp import web

from qc_adapter.simulator.replies import Reply, refused

if TYPE_CHECKING:
    from qc_adapter.simulator.gateway import Gateway
    from qc_adapter.simulator.requests import GatewayRequest

CHUNK_BYTES: Final = 16_384
# The name of the parameter is in no page; clients know these.
_NAMES: Final = ("fileName", "filename", "recordID", "recordid")


def judge(gateway: Gateway, request: GatewayRequest) -> Reply:
    """Tell whether the file will be sent."""
    if not gateway.roster.agent(request.agent_id).inspector:
        return refused("104-002")
    return Reply() if _name(request) else refused("104-003")


async def send(
    http: web.BaseRequest, gateway: Gateway, request: GatewayRequest, *, cut: bool = False
) -> web.StreamResponse:
    """Send the file; a name always means the same bytes. A cut file ends in the middle of a chunk."""
    size, limit = gateway.settings.record_file_bytes, gateway.settings.record_file_cut_after
    # Equal names are equal files; nothing here is secret.
    noise = random.Random(_name(request)).randbytes(CHUNK_BYTES)  # noqa: S311
    end = size // 2 if cut else min(size, size if limit is None else limit)
    response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
    response.enable_chunked_encoding()
    await response.prepare(http)
    for start in range(0, end, CHUNK_BYTES):
        await response.write(noise[: min(CHUNK_BYTES, end - start)])
    if end < size and http.transport is not None:
        http.transport.close()
        return response
    await response.write_eof()
    return response


def _name(request: GatewayRequest) -> str:
    return next((request.query[name] for name in _NAMES if request.query.get(name)), "")
