"""How long a call waits for its request."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import grpc

from qc_adapter.model.errors import InvalidRequest

_MOMENT_SECONDS: Final = 0.05


async def request_of(context: grpc.aio.ServicerContext[Any, Any], seconds: float) -> bytes:
    """Return the request's bytes; raises `InvalidRequest` if it does not come in that time."""
    try:
        async with asyncio.timeout(seconds):
            request: Any = await context.read()
    except TimeoutError:
        raise InvalidRequest([("request", f"did not come within {seconds:g} s")]) from None
    if request is grpc.aio.EOF:
        # The call may have ended under it, or grpc has refused to read so much: then this is cancelled in a moment.
        await asyncio.sleep(_MOMENT_SECONDS)
        raise InvalidRequest([("request", "is missing")])
    return bytes(request)
