"""How a request comes in: once it is known who calls and that there is room for it, within a time, and decoded."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import grpc
from google.protobuf.message import DecodeError

from qc_adapter.model.errors import InvalidRequest
from qc_adapter.model.time_limit import TimeLimit

if TYPE_CHECKING:
    from collections.abc import Iterable

_MOMENT_SECONDS: Final = 0.05


class Requests:
    """Reads requests, each within the same time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._limit = TimeLimit(seconds)

    async def read(self, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        """Return the request's bytes; raises `InvalidRequest` if it does not come in time."""
        try:
            with self._limit:
                request: Any = await context.read()
        except TimeoutError:
            raise InvalidRequest([("request", f"did not come within {self._seconds:g} s")]) from None
        if request is grpc.aio.EOF:
            # The call may have ended under it, or grpc has refused to read so much: then this is cancelled in a moment.
            await asyncio.sleep(_MOMENT_SECONDS)
            raise InvalidRequest([("request", "is missing")])
        return bytes(request)


def decoded(decode: Any, request: bytes) -> Any:
    """Return the message; raises `InvalidRequest`."""
    try:
        return request if decode is None else decode(request)
    except DecodeError:
        raise InvalidRequest([("request", "is no message of this method's type: use the same proto file")]) from None


def texts(shown: Iterable[tuple[str, str | bytes]]) -> dict[str, str]:
    """Return the headers that are text; one that comes several times is told as HTTP has it, so that none gets lost."""
    found: dict[str, str] = {}
    for key, value in shown:
        if isinstance(value, str):
            found[key] = f"{found[key]}, {value}" if key in found else value
    return found
