"""A plain HTTP client of a simulated gateway, which sees whole replies."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

EMPTY_POLL = b'{"message":"","retcode":"0"}'
BASE = "/agentgateway/resource"


@dataclass(frozen=True)
class Reply:
    """A whole reply."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def content_type(self):
        return self.headers["Content-Type"].split(";")[0]

    @property
    def json(self):
        return json.loads(self.body)


class Client:
    """Talks to a simulator in the way a test needs: whole replies, header case kept."""

    def __init__(self, simulator, session):
        self.simulator = simulator
        self.session = session

    async def send(self, verb, path, guid=None, headers=None, **more):
        sent = dict(headers or {}) | ({"Guid": guid} if guid else {})
        url = self.simulator.url + BASE + path
        async with self.session.request(verb, url, headers=sent, allow_redirects=False, **more) as reply:
            return Reply(reply.status, reply.headers, await reply.read())

    async def code(self, verb, path, guid=None, **more):
        reply = await self.send(verb, path, guid, **more)
        return reply.json["retcode"]

    async def sign_in(self, agent_id="101", way="", **fields):
        reply = await self.send(
            "PUT", f"/onlineagent/{agent_id}{way}", json={"password": "x", "phonenum": "1"} | fields
        )
        assert reply.json["retcode"] == "0"
        return reply.headers["Set-GUID"].removeprefix("JSESSIONID=")

    async def poll(self, agent_id, guid):
        return (await self.send("GET", f"/agentevent/{agent_id}", guid)).body

    async def event_types(self, agent_id, guid, count):
        return [json.loads(await self.poll(agent_id, guid))["event"]["eventType"] for _ in range(count)]

    async def control(self, verb, path, body=None):
        async with self.session.request(verb, self.simulator.url + "/simulator" + path, json=body) as reply:
            return reply.status, await reply.json()


async def until(condition, seconds=5.0):
    """Wait for a condition."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "the condition never came true"
        await asyncio.sleep(0.005)


async def raw(simulator, request):
    """Send bytes as they are and return all bytes that come back until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(simulator.url.rsplit(":", 1)[1]))
    writer.write(request)
    try:
        async with asyncio.timeout(5):
            return await reader.read()
    finally:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)
