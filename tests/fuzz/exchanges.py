"""What a gateway sends, in pieces, through the connection that is in use; only its socket is none."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import strategies as st

from qc_adapter.gateway.connection import Connection
from qc_adapter.gateway.wire import RawReply, ReplyLost
from tests.fuzz.target import Target, head_and_rest, run

#: Below the limits of a head and of a body, where the pieces decide how much too much is read.
_MOST = 1 << 15
_LOOKED_AT = {b"set-guid", b"set-cookie", b"content-type"}


class _Wire(asyncio.Transport):
    """Takes what is sent, and notes the end."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = False
        self.written = 0

    def write(self, _data: Any) -> None:
        self.written += 1

    def get_write_buffer_size(self) -> int:
        return 0

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed


class _Keeper:
    def made(self, _connection: Connection) -> None: ...

    lost = made


def check_exchange(data: bytes) -> None:
    """
    Whatever comes, in whatever pieces, ends as one whole reply or as lost: the same one for any pieces.

    What follows the reply, or comes when nothing was asked for, ends the connection and is in no reply.
    """
    head, rest = head_and_rest(data[:_MOST])
    sizes = [1 + ord(size) for size in head[:32]]
    run(_check(rest, sizes))


async def _check(rest: bytes, sizes: list[int]) -> None:
    whole = await _exchange([rest] if rest else [])
    pieces, at = [], 0
    while at < len(rest):
        # The last size holds for what is left.
        size = sizes.pop(0) if len(sizes) > 1 else sizes[0] if sizes else 1
        pieces.append(rest[at : at + size])
        at += size
    assert await _exchange(pieces) == whole


async def _exchange(pieces: list[bytes]) -> tuple[Any, ...]:
    """Send a request, let the pieces come and the connection end; return what became of the request."""
    wire = _Wire()
    connection = Connection(_Keeper(), "117", None, 1 << 20)
    connection.connection_made(wire)
    sent: list[bool] = []
    waiter = connection.begin(b"x", lambda: sent.append(True))
    for piece in pieces:
        if wire.closed:
            break
        connection.data_received(piece)
    if not wire.closed:
        connection.eof_received()
    connection.connection_lost(None)
    assert not connection.usable
    assert waiter.done()
    assert (sent, wire.written) == ([True], 1)
    failure = waiter.exception()
    if failure is not None:
        assert isinstance(failure, ReplyLost)
        assert not failure.timed_out
        lines = failure.headers.lines
        told: tuple[Any, ...] = (failure.text, failure.answered)
    else:
        reply = waiter.result()
        assert isinstance(reply, RawReply)
        assert len(reply.body) <= sum(map(len, pieces))
        lines = reply.headers.lines
        told = (reply.status, reply.body)
    assert {name for name, _ in lines} <= _LOOKED_AT
    return (*told, lines)


_BODY = b'{"message":"","retcode":"0"}'
_lines = st.sampled_from(
    [
        b"Content-Length: 28",
        b"content-length:5",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: gzip, chunked",
        b"Connection: close",
        b"Connection: keep-alive",
        b"Upgrade: x",
        b"Set-GUID: JSESSIONID=abc.node1",
        b"Set-Cookie: a=b; Path=/",
        b"Content-Type: application/json;charset=UTF-8",
        b"X-Empty:",
        b" folded",
        b"\xff: \xff",
    ]
)
_firsts = st.sampled_from(
    [b"HTTP/1.1 200 OK"] * 4
    + [b"HTTP/1.1 204 No Content", b"HTTP/1.0 200 OK", b"HTTP/1.1 100 Continue", b"HTTP/1.1 101 X", b"HTTP/1.1 503 "]
)
_ends = st.sampled_from([b"\r\n"] * 4 + [b"\n"])
_bodies = st.sampled_from(
    [_BODY, b"1c\r\n" + _BODY + b"\r\n0\r\n\r\n", b"5;a=b\r\nabcde\r\n0\r\nSet-GUID: x\r\n\r\n", b""]
)
_one = st.builds(
    lambda first, lines, end, body: end.join([first, *lines, b"", b""]) + body,
    _firsts,
    st.lists(_lines, max_size=4),
    _ends,
    _bodies | st.binary(max_size=12),
)
_cuts = st.lists(st.integers(0, 40), max_size=6).map(lambda cuts: "".join(map(chr, cuts)).replace("\n", "\t").encode())


def _changed(data: bytes, at: int, splinter: bytes) -> bytes:
    at %= len(data) + 1
    return data[:at] + splinter + data[at + len(splinter) :]


def _exchanges() -> st.SearchStrategy[bytes]:
    whole = st.lists(_one, min_size=1, max_size=3).map(b"".join)
    odd = st.builds(_changed, whole, st.integers(0, 400), st.binary(max_size=3))
    return st.builds(lambda cuts, rest: cuts + b"\n" + rest, _cuts, whole | odd | st.binary(max_size=80))


TARGETS = (Target("exchange", check_exchange, _exchanges),)
