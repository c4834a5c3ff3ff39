"""What the streams part of the bench counts is what happens."""

from __future__ import annotations

import json

import pytest

from bench.speed.stream_site import stream_site
from bench.speed.streams import NARROW

ONE = range(1000, 1001)
FED = range(1001, 1002)
STREAMS = 60
FEW = 5


@pytest.fixture
async def site(tmp_path):
    async with stream_site(tmp_path, 15.0) as processes:
        yield processes


async def test_one_event_reaches_every_stream_once(site):
    """Of the adapter and of the empty server alike, each stream gets an event once, with the time of its making."""
    await site.adopt(ONE, polled=True)
    for server, tell in ((site.adapter, lambda: site.tell(ONE[0])), (site.floor, lambda: site.floor.child.ask("tell"))):
        await site.open(server.name, server, STREAMS, ONE)
        for times in (1, 2):
            await tell()
            state = await site.until(server.name, "events", times * STREAMS)
            assert state["events"] == times * STREAMS
        assert state["first_ns"] <= state["last_ns"]
        assert not state["ends"]
    waits = await site.readers.ask("waits", "adapter")
    assert all(0 < wait < 60_000 for wait in waits)


async def test_a_slow_reader_ends_with_its_cursor_and_holds_nobody_up(site):
    """A stream that takes nothing misses what others get, and is told so and where it stopped when it reads on."""
    await site.adopt(FED, polled=False)
    await site.open("fast", site.adapter, FEW, FED)
    await site.open("slow", site.adapter, FEW, FED, NARROW)
    for turn in range(1, 14):
        content = {"callid": "stamp-" + "0" * 20, "turn": turn}  # a batch that equals the one before is its repetition
        event = {"eventType": "AgentEvent_Hold", "workNo": str(FED[0]), "content": content}
        await site.feed(FED[0], json.dumps({"retcode": "0", "eventList": [event] * 100}).encode())
        assert (await site.until("fast", "events", 100 * turn * FEW))["ends"] == {}
    await site.readers.ask("widen", "slow")
    assert (await site.until("slow", "ended", FEW))["ends"] == {"SLOW_CONSUMER with cursor": FEW}
