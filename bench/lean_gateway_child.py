"""
A gateway that costs next to nothing, for measuring the adapter: every intercept is accepted and has its two events.

It knows two requests, reads only their first line, and checks nothing. The simulator is the faithful one.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import deque
from typing import Final

from bench.answers import answer

HOLD_SECONDS: Final = 10.0
_EMPTY: Final = b'{"message":"","retcode":"0"}'


class Floor:
    """The inspectors' events and the polls that wait for them."""

    def __init__(self) -> None:
        self._events: dict[str, deque[bytes]] = {}
        self._held: dict[str, tuple[Connection, asyncio.TimerHandle]] = {}
        self._numbers = itertools.count(1)
        self.intercepts = 0
        self.polls = 0

    def intercept(self, agent_id: str) -> None:
        """Queue what an intercept brings to the inspector."""
        self.intercepts += 1
        call_id = f"1456401416-{next(self._numbers)}"
        talking = {"callid": call_id, "caller": "13800000000", "called": "70092", "callFeature": 0}
        record = {"callid": call_id, "recordID": f"record-{call_id}", "agentid": agent_id, "currentTime": 0}
        for event_type, content in (("AgentEvent_Talking", talking), ("AgentMediaEvent_Record", record)):
            event = {"eventType": event_type, "workNo": agent_id, "content": content}
            body = json.dumps({"message": "", "retcode": "0", "event": event}).encode()
            self._events.setdefault(agent_id, deque()).append(body)
        held = self._held.pop(agent_id, None)
        if held is not None:
            held[1].cancel()
            held[0].reply(self._events[agent_id].popleft())

    def poll(self, agent_id: str, connection: Connection) -> None:
        """Answer with the oldest event, or hold."""
        self.polls += 1
        waiting = self._events.get(agent_id)
        if waiting:
            connection.reply(waiting.popleft())
            return
        timer = asyncio.get_running_loop().call_later(HOLD_SECONDS, self._give_up, agent_id)
        self._held[agent_id] = (connection, timer)

    def _give_up(self, agent_id: str) -> None:
        self._held.pop(agent_id)[0].reply(_EMPTY)


class Connection(asyncio.Protocol):
    """One connection; requests come one after the other and fit into one read."""

    def __init__(self, floor: Floor) -> None:
        self._floor = floor
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Take a whole request."""
        verb, path, _ = data.split(b"\r\n", 1)[0].decode().split(" ")
        parts = path.split("/")
        if verb == "GET":
            self._floor.poll(parts[-1], self)
            return
        self.reply(_EMPTY)
        if "intercept" in parts:
            self._floor.intercept(parts[parts.index("qualitycontrol") + 1])

    def reply(self, body: bytes) -> None:
        """Send a reply."""
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json;charset=UTF-8\r\nContent-Length: %d\r\n\r\n" % len(
            body
        )
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(head + body)


async def run() -> None:
    """Serve until the parent closes the pipe."""
    floor = Floor()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(floor), "127.0.0.1", 0, backlog=4096)
    port = server.sockets[0].getsockname()[1]
    async with server:
        await answer(
            {"url": lambda: f"http://127.0.0.1:{port}", "counts": lambda: [floor.intercepts, floor.polls]},
        )


if __name__ == "__main__":
    asyncio.run(run())
