"""Replicas that share a real Redis, and Redis as another system sees it."""

from __future__ import annotations

import asyncio
import time

import pytest

from qc_adapter.events import lease_scripts, log_scripts
from qc_adapter.events.hub import Hub
from qc_adapter.events.leases import PollState, Step
from qc_adapter.events.mirror import Mirror
from qc_adapter.events.model import AgentEvent
from qc_adapter.events.redis_lease import Book, LeaseTerms
from qc_adapter.events.redis_rota import RedisRota
from qc_adapter.events.stored import from_line
from qc_adapter.events.translate import translate
from qc_adapter.gateway.envelope import RawEvent
from qc_adapter.model.session import EventSource, Renewal, Secret, Session
from qc_adapter.sessions.records import Records
from qc_adapter.sessions.redis import RedisSessionStore
from qc_adapter.store.opening import open_link

FREE, REVOKED, PARKED = 0.0, 1.0, float("inf")


def event(name, work_no="101", content=None):
    """An event as a poll brings it."""
    return translate(RawEvent(name, work_no, content), time.time())


def short(item):
    """An event's type, or why there is a gap."""
    return item.event_type if isinstance(item, AgentEvent) else str(getattr(item, "reason", item))


async def until(condition):
    """Wait until something is true."""
    ends = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < ends, "the condition never came true"
        await asyncio.sleep(0.005)


class Shelf:
    """What stands in Redis."""

    def __init__(self, client):
        self.client = client

    def sign_in(self, agent_id="101", guid="first", **fields):
        """Write a record as another system does."""
        self.client.hset(f"qc:session:{agent_id}", mapping={"agent_id": agent_id, "guid": guid} | fields)

    def sign_out(self, agent_id="101"):
        self.client.delete(f"qc:session:{agent_id}")

    def guid(self, agent_id="101"):
        found = self.client.hget(f"qc:session:{agent_id}", "guid")
        return None if found is None else found.decode()

    def holder(self, agent_id="101"):
        found = self.client.hget("qc:holders", agent_id)
        return None if found is None else found.decode()

    def score(self, agent_id="101"):
        return self.client.zscore("qc:leases", agent_id)

    def head(self, agent_id="101"):
        """The head of a log."""
        found = self.client.hgetall(f"qc:log:{agent_id}")
        return {name.decode(): value.decode() for name, value in found.items()}

    def entries(self, agent_id="101"):
        """Positions and items of a log."""
        found = self.client.xrange(f"qc:events:{agent_id}")
        return [(int(name.split(b"-")[0]), from_line(fields[b"e"])) for name, fields in found]

    def told(self, agent_id="101"):
        """The log in short."""
        return [short(item) for _, item in self.entries(agent_id)]

    def expire(self, *agent_ids):
        """Let leases end."""
        for agent_id in agent_ids:
            assert self.client.zadd("qc:leases", {agent_id: self.now_ms() - 1}, xx=True, ch=True)

    def silence(self, replica):
        """Let a replica be silent for so long that it counts as gone."""
        assert self.client.zadd("qc:replicas", {replica: self.now_ms() - 1}, xx=True, ch=True)

    def now_ms(self):
        seconds, micros = self.client.time()
        return seconds * 1000 + micros // 1000


class Replica:
    """What one replica has of leases and logs; its loops run when the test starts them."""

    def __init__(self, url, name, *, records=None, **terms):
        self.name = name
        self.link = open_link(url)
        self.records = records or Records()
        self.store = RedisSessionStore(self.link, self.records)
        # A test that is slow for once must not make replicas count as gone.
        self.terms = LeaseTerms(name, **({"gone_seconds": 60.0} | terms))
        self.hub = Hub(self.terms.capacity, self.terms.retention_seconds)
        self.gaps = []
        self.changed = []
        self.revoked = []
        self.woken = 0
        self.mirror = Mirror(self.link, self.hub, self, replica=name, session_changed=self.changed.append)
        self.mirror.tell(revoked=lambda *lease: self.revoked.append(lease), woken=self._wake)
        self.rota = RedisRota(Book(self.link, self.terms, self.mirror, records=self.records))
        self.held = {}

    def gap(self, _gateway, reason):
        self.gaps.append(reason)

    def _wake(self):
        self.woken += 1

    async def beat(self, *, claiming=True):
        """Beat with all that is held; returns what was won."""
        beat = await self.rota.beat(list(self.held.values()), claiming=claiming)
        for agent_id in beat.lost:
            self.held.pop(agent_id, None)
        self.held |= {claim.lease.agent_id: claim.lease for claim in beat.claims}
        self.share = beat.share
        self.lost = beat.lost
        return {claim.lease.agent_id: claim for claim in beat.claims}

    async def win(self, agent_id="101"):
        """Put an inspector on the books and claim the lease."""
        await self.rota.enlist(agent_id)
        return (await self.beat())[agent_id].lease

    def forget(self, agent_id="101"):
        """Lose sight of a lease, as a replica does that is killed."""
        return self.held.pop(agent_id)

    async def run(self, script, *arguments):
        return await self.link.script(
            "test", getattr(lease_scripts, script, None) or getattr(log_scripts, script), *arguments
        )

    async def close(self):
        await self.mirror.stop()
        await self.link.close()


def step(*items, used="first", guid=None, agent_id="101", state=PollState.ACTIVE, detail=""):
    """What a poll brought; a text is the type of an event."""
    brought = tuple(
        event(item, agent_id) if isinstance(item, str) and item.startswith("Agent") else item for item in items
    )
    renewal = None if guid is None else Renewal(Secret(guid))
    return Step(Session(agent_id, Secret(used), EventSource.POLL), renewal, brought, state, detail)


@pytest.fixture
def shelf(redis_server, redis_url):
    with redis_server.client() as client:
        made = Shelf(client)
        made.FREE, made.REVOKED, made.PARKED = FREE, REVOKED, PARKED
        yield made


@pytest.fixture
def take():
    """What tests build and wait with."""

    class Take:
        step = staticmethod(step)
        event = staticmethod(event)
        short = staticmethod(short)
        until = staticmethod(until)

    return Take


@pytest.fixture
async def replica(redis_url):
    """Makes replicas by name."""
    made = []

    def make(name, **terms):
        made.append(Replica(redis_url, name, **terms))
        return made[-1]

    yield make
    for one in made:
        await one.close()
