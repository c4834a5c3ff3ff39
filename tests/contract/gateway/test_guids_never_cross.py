"""Many inspectors, one client, and a network that delays, cuts and repeats: nobody gets what belongs to another."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter

import pytest

from qc_adapter.gateway import requests
from qc_adapter.model.deadline import Deadline
from qc_adapter.model.errors import AdapterError
from qc_adapter.model.session import Secret, Session
from qc_adapter.sessions.keeper import GuidKeeper
from qc_adapter.sessions.opening import open_store
from qc_adapter.store.opening import open_link
from tests.support.scripted import ScriptedGateway, reply

INSPECTORS = [str(number) for number in range(101, 109)]
ROUNDS = 25


class After(asyncio.Event):
    """A step of a script that takes a moment."""

    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds

    async def wait(self):
        await asyncio.sleep(self.seconds)


class Mischievous(ScriptedGateway):
    """Answers each request with a GUID and a cookie of its inspector, late, cut, twice, or not at all."""

    def begin(self, seed):
        self.chance = random.Random(seed)  # noqa: S311 - the same mischief each time
        self.strangers = []
        self.ends = Counter()
        self.given = 0

    async def _next(self, heard):
        inspector = heard.target.split("/")[4]
        # What it is sent with says whether something crossed in the adapter, also where it is not stored.
        self.strangers += [value for value in (heard.header("Guid"), heard.header("Cookie")) if inspector not in value]
        self.given += 1
        whole = reply(
            headers=[
                ("Set-Cookie", f"lb=of-{inspector}-{self.given}; Path=/"),
                ("Set-GUID", f"JSESSIONID={inspector}.{self.given}.AgentGateway0"),
            ]
        )
        cut = self.chance.randrange(len(whole))
        late = After(self.chance.random() * 0.01)
        end = self.chance.choice(["well", "well", "late", "cut", "reset", "silent", "twice", "twice late", "closed"])
        self.ends[end] += 1
        return {
            "well": whole,
            "late": (late, whole),
            "cut": (late, whole[:cut], self.CLOSE),
            "reset": (whole[:cut], self.RESET),
            "silent": self.STALL,
            "twice": whole + whole,
            "twice late": (whole, late, whole),
            "closed": (whole, self.CLOSE),
        }[end]


@pytest.fixture(params=["memory", "redis"])
async def store(request):
    """Both stores."""
    link = open_link(request.getfixturevalue("redis_url")) if request.param == "redis" else None
    opened = open_store(link)
    yield opened
    await opened.close()


@pytest.mark.parametrize("seed", [1, 2])
async def test_no_inspector_ever_gets_what_was_given_to_another(bench, store, seed):
    """Whatever becomes of requests and connections, each GUID and cookie is stored and sent for its inspector only."""
    gateway = Mischievous()
    gateway.begin(seed)
    await gateway.start()
    client = bench.client(
        gateway.url, request_timeout_seconds=0.1, connect_timeout_seconds=0.1, poll_margin_seconds=0.1
    )
    keeper = GuidKeeper(store)
    chance = random.Random(seed)  # noqa: S311 - the same mischief each time
    for inspector in INSPECTORS:
        await store.put(Session(inspector, Secret(f"{inspector}.0"), cookies=Secret(f"lb=of-{inspector}")))

    async def once(inspector, way):
        session = await store.get(inspector)
        try:
            if way == "poll":
                brought = await client.poll(session, hold_seconds=0.01)
            else:
                # Some callers are in a hurry.
                deadline = Deadline.after(chance.choice([0.004, 0.02, 5.0]))
                brought = await client.send(session, requests.listen(inspector, "291"), deadline)
        except AdapterError as failure:
            await keeper.absorb(session, getattr(failure, "renewal", None))
        else:
            await keeper.absorb(session, brought.renewal)

    async def keep_on(inspector, way):
        for _ in range(ROUNDS):
            task = asyncio.create_task(once(inspector, way))
            if chance.random() < 0.25:
                await asyncio.sleep(chance.random() * 0.01)
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            stored = await store.get(inspector)
            assert stored.guid.reveal().startswith(f"{inspector}.")
            assert stored.cookies.reveal().startswith(f"lb=of-{inspector}")

    ways = ["poll", "command", "command"]
    await asyncio.gather(*(keep_on(inspector, way) for inspector in INSPECTORS for way in ways))
    assert gateway.strangers == []
    assert len(gateway.heard) > len(INSPECTORS) * ROUNDS
    assert len(gateway.ends) == 8
    renewed = [await store.get(inspector) for inspector in INSPECTORS]
    assert all(session.guid != Secret(f"{session.agent_id}.0") for session in renewed)
    await keeper.close()
    await gateway.stop()
