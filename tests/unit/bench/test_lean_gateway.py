"""The lean gateway answers every request once, whatever else is measured with it."""

from __future__ import annotations

import asyncio
import json

import pytest

from bench.lean_gateway import STAMP, Connection, LeanGateway

HOLD_SECONDS = 0.2


@pytest.fixture
async def gateway():
    made = LeanGateway(HOLD_SECONDS, quiet_from=2000)
    made.server = await asyncio.get_running_loop().create_server(lambda: Connection(made), "127.0.0.1", 0)
    yield made
    made.quiet()
    made.server.close()


@pytest.fixture
async def client(gateway):
    """Makes clients, each a connection that sends a request and then reads the body of the reply."""
    opened = []

    async def make():
        reader, writer = await asyncio.open_connection(*gateway.server.sockets[0].getsockname())
        opened.append(writer)

        async def ask(method, path):
            writer.write(f"{method} /agentgateway/resource/{path} HTTP/1.1\r\nHost: stub\r\n\r\n".encode())
            async with asyncio.timeout(10):
                head = await reader.readuntil(b"\r\n\r\n")
                return json.loads(await reader.readexactly(int(head.rpartition(b":")[2])))

        return ask

    yield make
    for writer in opened:
        writer.close()


async def test_clients_that_poll_for_one_inspector_are_all_answered(gateway, client):
    """A poll is held to its end also when another one of the same inspector comes: several clients are compared."""
    polls = [asyncio.create_task((await client())("GET", "agentevent/101")) for _ in range(3)]
    assert [await poll for poll in polls] == [{"message": "", "retcode": "0"}] * 3
    assert gateway.counts() == {"commands": 0, "polls": 3, "waiting": 0, "held": 0}


async def test_an_intercept_brings_its_events_one_a_poll(gateway, client):
    """The poll that is held has the first event, the next one the second, of the same call."""
    polling, commanding = await client(), await client()
    held = asyncio.create_task(polling("GET", "agentevent/101"))
    while not gateway.counts()["held"]:  # noqa: ASYNC110 - it comes by a socket
        await asyncio.sleep(0)
    assert await commanding("PUT", "qualitycontrol/101/intercept/292") == {"message": "", "retcode": "0"}
    first, second = (await held)["event"], (await polling("GET", "agentevent/101"))["event"]
    assert [first["eventType"], second["eventType"]] == ["AgentEvent_Talking", "AgentMediaEvent_Record"]
    assert first["content"]["callid"] == second["content"]["callid"]
    assert second["content"]["agentid"] == first["workNo"] == "101"
    await commanding("PUT", "qualitycontrol/2000/intercept/292")
    assert gateway.counts() == {"commands": 2, "polls": 2, "waiting": 0, "held": 0}


async def test_an_event_waits_for_a_poll_whose_connection_ended(gateway, client):
    """What is told when nobody polls is kept for the next poll, and stamped when it is written."""
    polling = await client()
    held = asyncio.create_task(polling("GET", "agentevent/101"))
    while not gateway.counts()["held"]:  # noqa: ASYNC110 - it comes by a socket
        await asyncio.sleep(0)
    gateway.cut()
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await held
    assert not gateway.tell_one("101")
    assert gateway.tell("AgentEvent_Ringing", "1000", "101", "1")
    while not gateway.counts()["waiting"]:  # noqa: ASYNC110 - it is told by a task
        await asyncio.sleep(0)
    told = (await (await client())("GET", "agentevent/101"))["event"]
    assert told["eventType"] == "AgentEvent_Ringing"
    assert told["content"]["callid"].startswith(STAMP.decode())
