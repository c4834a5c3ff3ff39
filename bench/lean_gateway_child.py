"""
A gateway that costs next to nothing, for measuring the adapter: every intercept is accepted and has its two events.

It knows two requests, reads only their first line, and checks nothing. The simulator is the faithful one. It listens
on as many loopback addresses as it is told, because one address has ports for some 28,000 connections only.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import ssl
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import trustme
import uvloop

from bench.answers import answer
from bench.limits import raise_descriptors

if TYPE_CHECKING:
    from collections.abc import Sequence

HOLD_SECONDS: Final = 10.0
#: Inspectors from this one on get no events: for commands that are measured without them.
QUIET_FROM: Final = 40_000
_EMPTY: Final = b'{"message":"","retcode":"0"}'
_HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json;charset=UTF-8\r\nContent-Length: "
_TICK_SECONDS: Final = 0.005


def _reply(body: bytes) -> bytes:
    return b"%s%d\r\n\r\n%s" % (_HEAD, len(body), body)


_EMPTY_REPLY: Final = _reply(_EMPTY)


class Floor:
    """The inspectors' events and the polls that wait for them."""

    def __init__(self, hold_seconds: float = HOLD_SECONDS) -> None:
        self._hold_seconds = hold_seconds
        self._events: dict[str, deque[bytes]] = {}
        self._held: dict[str, tuple[Connection, asyncio.TimerHandle]] = {}
        self._numbers = itertools.count(1)
        self._stream: asyncio.Task[None] | None = None
        self.intercepts = 0
        self.polls = 0

    def intercept(self, agent_id: str) -> None:
        """Queue what an intercept brings to the inspector."""
        self.intercepts += 1
        if int(agent_id) >= QUIET_FROM:
            return
        call_id = f"1456401416-{next(self._numbers)}"
        talking = {"callid": call_id, "caller": "13800000000", "called": "70092", "callFeature": 0}
        record = {"callid": call_id, "recordID": f"record-{call_id}", "agentid": agent_id, "currentTime": 0}
        self.tell(agent_id, "AgentEvent_Talking", talking)
        self.tell(agent_id, "AgentMediaEvent_Record", record)

    def tell(self, agent_id: str, event_type: str, content: dict[str, object]) -> None:
        """Give an event to the poll that waits, or queue it."""
        event = {"eventType": event_type, "workNo": agent_id, "content": content}
        body = json.dumps({"message": "", "retcode": "0", "event": event}, separators=(",", ":")).encode()
        held = self._held.pop(agent_id, None)
        if held is None:
            self._events.setdefault(agent_id, deque()).append(_reply(body))
            return
        held[1].cancel()
        held[0].send(_reply(body))

    def poll(self, agent_id: str, connection: Connection) -> None:
        """Answer with the oldest event, or hold."""
        self.polls += 1
        waiting = self._events.get(agent_id)
        if waiting:
            connection.send(waiting.popleft())
            return
        timer = asyncio.get_running_loop().call_later(self._hold_seconds, self._give_up, agent_id, connection)
        self._held[agent_id] = (connection, timer)

    def _give_up(self, agent_id: str, connection: Connection) -> None:
        held = self._held.get(agent_id)
        if held is not None and held[0] is connection:
            del self._held[agent_id]
        connection.send(_EMPTY_REPLY)

    def waiting(self) -> int:
        """Return how many events nobody has taken yet."""
        return sum(map(len, self._events.values()))

    def events_of(self, per_second: str, first: str, count: str) -> int:
        """
        Bring that many events a second, spread over `count` inspectors from `first` on; 0 ends it.

        Each carries as `callid` the monotonic clock in nanoseconds when it was made, the same for all processes of a
        machine. Returns how many polls are held now.
        """
        if self._stream is not None:
            self._stream.cancel()
            self._stream = None
        if float(per_second):
            self._stream = asyncio.get_running_loop().create_task(
                self._tell_steadily(float(per_second), int(first), int(count))
            )
        return len(self._held)

    async def _tell_steadily(self, per_second: float, first: int, count: int) -> None:
        began, sent = time.monotonic(), 0
        while True:
            due = int((time.monotonic() - began) * per_second)
            for number in range(sent, due):
                stamp = str(time.monotonic_ns())
                self.tell(str(first + number % count), "AgentEvent_Talking", {"callid": stamp, "called": "70092"})
            sent = due
            await asyncio.sleep(_TICK_SECONDS)


class Connection(asyncio.Protocol):
    """One connection; requests come one after the other and fit into one read."""

    def __init__(self, floor: Floor) -> None:
        self._floor = floor
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport

    def connection_lost(self, _cause: Exception | None) -> None:
        """Forget the transport."""
        self._transport = None

    def data_received(self, data: bytes) -> None:
        """Take a whole request."""
        path = data[: data.index(b" HTTP/")].decode()
        if path.startswith("GET"):
            self._floor.poll(path.rpartition("/")[2], self)
            return
        self.send(_EMPTY_REPLY)
        if "/intercept/" in path:
            self._floor.intercept(path.partition("/qualitycontrol/")[2].partition("/")[0])

    def send(self, reply: bytes) -> None:
        """Send a reply."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(reply)


def _server_context(addresses: Sequence[str], ca_file: Path) -> ssl.SSLContext:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(ca_file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*addresses, "localhost").configure_cert(context)
    return context


async def serve(options: argparse.Namespace, folder: Path) -> None:
    """Serve until the parent closes the pipe."""
    floor = Floor(options.hold)
    ca_file = folder / "ca.pem"
    context = _server_context(options.addresses, ca_file) if options.tls else None
    servers = [
        await asyncio.get_running_loop().create_server(lambda: Connection(floor), address, 0, backlog=8192, ssl=context)
        for address in options.addresses
    ]
    scheme = "https" if options.tls else "http"
    urls = [f"{scheme}://{host}:{port}" for host, port, *_ in (one.sockets[0].getsockname() for one in servers)]
    await answer(
        {
            "url": lambda: urls[0],
            "urls": lambda: urls,
            "ca": lambda: str(ca_file) if options.tls else "",
            "counts": lambda: [floor.intercepts, floor.polls],
            "waiting": floor.waiting,
            "events": floor.events_of,
        }
    )
    floor.events_of("0", "0", "1")
    for server in servers:
        server.close()


def main() -> None:
    """Read the options and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("addresses", nargs="*", default=["127.0.0.1"], help="loopback addresses, a port on each")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--hold", type=float, default=HOLD_SECONDS, help="seconds that a poll waits for an event")
    options = parser.parse_args()
    raise_descriptors()
    with (
        tempfile.TemporaryDirectory(prefix="qc-load-") as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(serve(options, Path(folder)))


if __name__ == "__main__":
    main()
