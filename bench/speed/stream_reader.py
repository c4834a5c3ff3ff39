"""
Readers of many `Watch` streams, as a process of the streams part: prepared frames on plain sockets.

A reader costs so little that the process under test is what is measured. Streams come in groups by name. Events
that arrive hold the time of their making.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import struct
import time
from array import array
from collections import Counter
from typing import Any, Final

import uvloop
from hpack import Decoder, Encoder

from bench.answers import answer
from bench.lean_gateway import STAMP, STAMP_DIGITS
from bench.limits import raise_descriptors
from bench.speed.frames import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    FIRST_WINDOW,
    HEAD_BYTES,
    HEADERS,
    PING,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
)
from qc_adapter.v1 import events_pb2 as pb

WATCH: Final = "/qc_adapter.v1.InspectorEvents/Watch"
#: Streams that one connection may have; the server allows as many.
STREAMS_OF_A_CONNECTION: Final = 1000
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_INITIAL_WINDOW_SIZE: Final = 4
_WIDE: Final = 1 << 30
_BATCH: Final = 50
_HEADERS_OF_A_CALL: Final = (
    (":method", "POST"),
    (":scheme", "http"),
    (":path", WATCH),
    (":authority", "localhost"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
)


class Group:
    """Streams that are counted together."""

    def __init__(self) -> None:
        self.begun = 0
        self.standing = 0
        self.ends: Counter[str] = Counter()
        #: Monotonic nanoseconds of the first and the last event since `mark`.
        self.first_ns = self.last_ns = 0
        #: Milliseconds from the making of each event to its arrival.
        self.waits = array("d")
        self.connections: list[Connection] = []
        #: Set when a stream stands or ends.
        self.news = asyncio.Event()

    def mark(self) -> None:
        """Count from here."""
        self.first_ns = self.last_ns = 0
        self.waits = array("d")


class Connection(asyncio.Protocol):
    """One connection of a group. With a `window` of some bytes its streams take no more until `widen`."""

    def __init__(self, group: Group, window: int) -> None:
        self._group = group
        self._window = window
        self._transport: Any = None
        self._rest = b""
        self._decoder = Decoder()
        self._encoder = Encoder()
        self._numbers = itertools.count(1, 2)
        self._silent: set[int] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        self._transport = transport
        more = struct.pack(">I", _WIDE - FIRST_WINDOW)
        self._transport.write(_PREFACE + _window(self._window or _WIDE) + frame(WINDOW_UPDATE, 0, 0, more))

    def watch(self, agent_id: str) -> None:
        """Begin one stream."""
        number = next(self._numbers)
        self._silent.add(number)
        self._group.begun += 1
        head = self._encoder.encode(_HEADERS_OF_A_CALL)
        request = pb.WatchRequest(agent_id=agent_id).SerializeToString()
        data = b"\0" + struct.pack(">I", len(request)) + request
        self._transport.write(frame(HEADERS, END_HEADERS, number, head) + frame(DATA, END_STREAM, number, data))

    def widen(self) -> None:
        """Take all that comes from now on."""
        self._transport.write(_window(_WIDE))

    def close(self) -> None:
        """Leave."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take the frames that are whole."""
        now = time.monotonic_ns()
        data = self._rest + data if self._rest else data
        at, end = 0, len(data)
        while at + HEAD_BYTES <= end:
            length = int.from_bytes(data[at : at + 3], "big")
            if at + HEAD_BYTES + length > end:
                break
            payload = data[at + HEAD_BYTES : at + HEAD_BYTES + length]
            self._take(data[at + 3], data[at + 4], int.from_bytes(data[at + 5 : at + 9], "big"), payload, now)
            at += HEAD_BYTES + length
        self._rest = data[at:]

    def _take(self, kind: int, flags: int, number: int, payload: bytes, now: int) -> None:
        group = self._group
        if kind == DATA:
            if number in self._silent:
                self._silent.discard(number)
                group.standing += 1
                group.news.set()
            place = payload.find(STAMP)
            if place >= 0:
                made = int(payload[place + len(STAMP) : place + len(STAMP) + STAMP_DIGITS])
                group.waits.append((now - made) / 1e6)
                group.first_ns = group.first_ns or now
                group.last_ns = now
        elif kind == HEADERS:
            headers = dict(self._decoder.decode(payload, raw=True))
            if flags & END_STREAM:
                group.ends[_ending(headers)] += 1
                group.news.set()
        elif kind == RST_STREAM:
            group.ends["RST_STREAM"] += 1
        elif kind in (SETTINGS, PING) and not flags & ACK:
            self._transport.write(frame(kind, ACK, 0, payload if kind == PING else b""))


def _window(octets: int) -> bytes:
    return frame(SETTINGS, 0, 0, struct.pack(">HI", _INITIAL_WINDOW_SIZE, octets))


def _ending(headers: dict[bytes, bytes]) -> str:
    """Return the reason that a stream ended for, and whether its cursor was told."""
    details = headers.get(b"grpc-status-details-bin", b"")
    details = base64.b64decode(details + b"=" * (-len(details) % 4))
    reason = next((name for name in ("SLOW_CONSUMER", "DRAINING") if name.encode() in details), "other")
    return reason + (" with cursor" if b"cursor" in details else "")


class Readers:
    """All groups."""

    def __init__(self) -> None:
        self._groups: dict[str, Group] = {}
        self._opening: set[asyncio.Task[None]] = set()

    def open(self, name: str, port: str, count: str, inspectors: str, window: str = "0") -> bool:
        """Begin so many streams, in turns of the inspectors from `first-last`; `state` says when they stand."""
        group = self._groups.setdefault(name, Group())
        first, last = (int(number) for number in inspectors.split("-"))
        agents = [str(first + place % (last - first + 1)) for place in range(int(count))]
        task = asyncio.create_task(self._open(group, int(port), agents, int(window)))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        return True

    async def _open(self, group: Group, port: int, agents: list[str], window: int) -> None:
        loop = asyncio.get_running_loop()
        for begin in range(0, len(agents), STREAMS_OF_A_CONNECTION):
            _, connection = await loop.create_connection(lambda: Connection(group, window), "127.0.0.1", port)
            group.connections.append(connection)
            mine = agents[begin : begin + STREAMS_OF_A_CONNECTION]
            for start in range(0, len(mine), _BATCH):
                for agent_id in mine[start : start + _BATCH]:
                    connection.watch(agent_id)
                while group.standing < group.begun and not group.ends:
                    group.news.clear()
                    await group.news.wait()

    def state(self, name: str) -> dict[str, Any]:
        """Say how a group stands."""
        group = self._groups[name]
        return {
            "standing": group.standing,
            "events": len(group.waits),
            "first_ns": group.first_ns,
            "last_ns": group.last_ns,
            "ended": group.ends.total(),
            "ends": dict(group.ends),
        }

    def mark(self, name: str) -> bool:
        """Count from here."""
        self._groups[name].mark()
        return True

    def waits(self, name: str) -> list[float]:
        """Return the milliseconds from the making of each stamped message to its arrival."""
        return [round(wait, 3) for wait in self._groups[name].waits]

    def widen(self, name: str) -> bool:
        """Let a group take all that comes."""
        for connection in self._groups[name].connections:
            connection.widen()
        return True

    def close(self, name: str) -> bool:
        """Leave."""
        for connection in self._groups.pop(name).connections:
            connection.close()
        return True


async def run() -> None:
    """Answer the parent until it closes the pipe."""
    raise_descriptors()
    readers = Readers()
    questions = ("open", "state", "mark", "waits", "widen", "close")
    await answer({name: getattr(readers, name) for name in questions})


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
