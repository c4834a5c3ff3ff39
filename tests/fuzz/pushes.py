"""Pushed events: a whole HTTP request, through the real server and reader into a log in memory."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import structlog
from hypothesis import strategies as st

from qc_adapter.environment import Listen
from qc_adapter.events.hub import Hub
from qc_adapter.events.inlet import MemoryInlet
from qc_adapter.model.session import EventSource, Secret, Session
from qc_adapter.push import PushServer
from qc_adapter.sessions.memory import MemorySessionStore
from qc_adapter.settings import PushSettings
from qc_adapter.telemetry import logs
from tests.fuzz.replies import envelopes
from tests.fuzz.target import CANARY, Target, run

_TOKEN = CANARY.encode()
_SUCCESS = b'"retcode":"0"'
_LONGEST_REFUSAL = 4096
_TURNS = 20


class _Counts:
    def event_read(self, *_what: Any) -> None:
        pass

    event_foreign = push_received = gap = event_read


class _Wire(asyncio.Transport):
    """Keeps what the server writes."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.written = bytearray()
        self.closed = False

    def write(self, data: Any) -> None:
        self.written += data

    def writelines(self, data: Any) -> None:
        self.written += b"".join(data)

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading

    def get_write_buffer_size(self) -> int:
        return 0


def check_push(data: bytes) -> None:
    """
    No request breaks the server; only one with the token is answered with success, and no line shows the token.

    What is logged is of the inspector who takes pushes, and refusals are short. What is no HTTP the library answers,
    and shows whoever sent it the line that it could not read.
    """
    run(_push(data))


async def _push(data: bytes) -> None:
    lines = io.BytesIO()
    logs.configure("debug", lines)
    structlog.configure(cache_logger_on_first_use=False)
    store, hub = MemorySessionStore(), Hub(capacity=64)
    await store.put(Session("101", Secret("g"), EventSource.PUSH))
    settings = PushSettings(Listen("127.0.0.1", 0), "http://127.0.0.1:1/events", Secret(CANARY), None)
    push = PushServer(settings, ["default", "north"], MemoryInlet(store, hub), _Counts())
    await push.start()
    try:
        written = await _exchange(push, data)
    finally:
        await push.stop()
        logs.reset()
    assert _TOKEN not in written or b"400 Bad Request" in written
    assert _TOKEN not in lines.getvalue()
    assert b"Traceback" not in lines.getvalue(), lines.getvalue()
    assert b"HTTP/1.1 500" not in written
    if _SUCCESS in written:
        assert _TOKEN in data
    else:
        assert not hub.find("101")
        assert len(written) <= _LONGEST_REFUSAL * (1 + data.count(b"HTTP/1"))
    assert {agent_id for agent_id, _ in hub.feeds()} <= {"101"}


async def _exchange(push: PushServer, data: bytes) -> bytes:
    """Hand the bytes to the server as a connection does, and leave."""
    runner: Any = push._listener._runner
    protocol, wire = runner.server(), _Wire()
    protocol.connection_made(wire)
    for start in (0, len(data) // 2):
        end = len(data) // 2 if not start else len(data)
        if not wire.closed and start < end:
            protocol.data_received(data[start:end])
        for _ in range(_TURNS):
            await asyncio.sleep(0)
    if not wire.closed:
        protocol.eof_received()
    protocol.connection_lost(None)
    for _ in range(_TURNS):
        await asyncio.sleep(0)
    return bytes(wire.written)


def _requests() -> st.SearchStrategy[bytes]:
    lines = st.lists(
        st.sampled_from(
            [b"Content-Type: application/json;charset=UTF-8", b"Content-Encoding: gzip", b"Transfer-Encoding: chunked",
             b"Expect: 100-continue", b"Content-Length: 7", b"X: \x01", b"Connection: close"]
        ),
        max_size=2,
    )  # fmt: skip

    def build(where: tuple[bytes, bytes], token: bytes, more: list[bytes], body: bytes, length: int) -> bytes:
        head = [b"%s %s HTTP/1.1" % where, b"Host: a", b"service_token: " + token, *more]
        return b"\r\n".join([*head, b"Content-Length: %d" % (len(body) + length), b"", body])

    return st.builds(
        build,
        st.tuples(
            st.sampled_from([b"POST", b"POST", b"POST", b"GET", b"\x00"]),
            st.sampled_from([b"/events", b"/events/", b"/events/north", b"/", b"/%00", b"//a", b"*"]),
        ),
        st.sampled_from([_TOKEN, _TOKEN, _TOKEN, b"", b"wrong", b"\xff\xfe"]),
        lines,
        envelopes() | st.sampled_from([b'{"workNo":"101","eventList":[{"eventType":"AgentState_Busy"}]}']),
        st.sampled_from([0, 0, 0, 0, 5, -3]),
    )


TARGETS = (Target("push", check_push, _requests),)
