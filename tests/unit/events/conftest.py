"""Pollers over a real store in memory and a gateway whose polls the test answers one by one."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

import pytest

from qc_adapter.events.hub import Hub
from qc_adapter.events.memory_leases import MemoryRota
from qc_adapter.events.reader import Pace, Reader
from qc_adapter.events.readers import Readers
from qc_adapter.gateway.client import PollReply
from qc_adapter.gateway.envelope import RawEvent
from qc_adapter.model.errors import GatewayRefused, StoreUnavailable
from qc_adapter.model.session import EventSource, Renewal, Secret, Session
from qc_adapter.sessions.memory import MemorySessionStore

FAST = Pace(
    pause_seconds=0.0,
    hold_seconds=0.01,
    first_backoff_seconds=0.002,
    last_backoff_seconds=0.008,
    misconfigured_seconds=0.002,
    store_backoff_seconds=0.002,
)


@dataclass
class Poll:
    """One poll that the gateway holds until the test answers it."""

    session: Session
    hold_seconds: float
    reply: asyncio.Future = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def bring(self, *events, guid=None, lost=False):
        """Answer with events; a text is the type of an event of the inspector who polls."""
        told = tuple(
            event if isinstance(event, RawEvent) else RawEvent(event, self.session.agent_id, None) for event in events
        )
        renewal = None if guid is None else Renewal(Secret(guid))
        self.reply.set_result(PollReply(told, renewal, lost))

    def refuse(self, retcode, guid=None, *, lost=False):
        renewal = None if guid is None else Renewal(Secret(guid))
        self.reply.set_exception(GatewayRefused("getAgentEvent", retcode, "", renewal, event_may_be_lost=lost))

    def fail(self, error):
        self.reply.set_exception(error)


class Mailbox:
    """Stands for the gateway's client: polls arrive here."""

    def __init__(self):
        self.polls = []
        self._arrived = asyncio.Queue()

    async def poll(self, session, *, hold_seconds):
        made = Poll(session, hold_seconds)
        self.polls.append(made)
        self._arrived.put_nowait(made)
        return await made.reply

    async def heartbeat(self, session):
        return (await self.poll(session, hold_seconds=0.0)).renewal

    async def arrived(self):
        """The next poll."""
        async with asyncio.timeout(5):
            return await self._arrived.get()


class Store(MemorySessionStore):
    """The store in memory, with a way to be away and to be slow in listing."""

    def __init__(self):
        super().__init__()
        self.away = False
        self.asked_while_away = 0
        self.listing = asyncio.Event()
        self.listing.set()
        self.lists = 0

    def _check(self, operation):
        if self.away:
            self.asked_while_away += 1
            raise StoreUnavailable(operation, "away")

    async def get(self, agent_id):
        self._check("get")
        return await super().get(agent_id)

    async def renew(self, agent_id, used, renewal):
        self._check("renew")
        return await super().renew(agent_id, used, renewal)

    async def agent_ids(self):
        self._check("list")
        found = await super().agent_ids()
        self.lists += 1
        await self.listing.wait()
        return found


class Counts:
    """What was counted."""

    def __init__(self):
        self.read = []
        self.foreign = 0
        self.gaps = []
        self.leases = []
        self.held = 0

    def event_read(self, _gateway, event_type):
        self.read.append(event_type)

    def event_foreign(self, _gateway):
        self.foreign += 1

    def gap(self, _gateway, reason):
        self.gaps.append(reason)

    def leases_held(self, counts):
        self.held = sum(counts.values())

    def sessions_unread(self, counts):
        self.unread = dict(counts)

    def lease_changed(self, _gateway, reason):
        self.leases.append(reason)


class Post:
    """Everything around pollers."""

    EventSource = EventSource

    def __init__(self):
        self.mailbox = Mailbox()
        self.store = Store()
        self.counts = Counts()
        self.hub = Hub()
        self.rota = MemoryRota(self.store, self.hub)
        self.feed = self.hub.feed("101")
        self.tasks: list[asyncio.Task[Any]] = []
        self.all_readers = []

    async def sign_in(self, guid="first", agent_id="101", source=EventSource.POLL):
        session = Session(agent_id, Secret(guid), source)
        await self.store.put(session)
        return session

    async def lease(self, agent_id="101"):
        """The right to poll for an inspector who is signed in."""
        await self.rota.enlist(agent_id)
        [claim] = (await self.rota.beat([], claiming=True)).claims
        return claim.lease

    async def reader(self, pace=FAST):
        """A reader of inspector 101 that is not running yet."""
        return Reader(await self.lease(), gateway=self.mailbox, counts=self.counts, pace=pace)

    async def start(self, pace=FAST):
        """Run a reader; returns it and its task."""
        reader = await self.reader(pace)
        task = asyncio.create_task(reader.run())
        self.tasks.append(task)
        return reader, task

    def readers(self, pace=FAST):
        made = Readers(gateway=self.mailbox, rota=self.rota, counts=self.counts, pace=pace)
        self.all_readers.append(made)
        return made

    async def look(self, readers, times=1):
        """Look at the store, and for free leases, as happens twice a second."""
        for _ in range(times):
            await self.rota.scan()
            await readers._beat()
            await self.several_turns()

    def told(self, agent_id="101"):
        """What stands in the inspector's log: event types, and `gap`."""
        feed = self.hub.feed(agent_id)
        return [getattr(entry.item, "event_type", "gap") for entry in feed.read(0, 100)]

    async def until(self, condition):
        """Wait until something is true."""
        ends = time.monotonic() + 5
        while not condition():
            assert time.monotonic() < ends, "the condition never came true"
            await asyncio.sleep(0.001)

    async def several_turns(self):
        """Give every task that can go on the chance to do so."""
        for _ in range(20):
            await asyncio.sleep(0)

    async def close(self):
        self.store.listing.set()
        for readers in self.all_readers:
            await readers.stop()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@pytest.fixture
async def post():
    """Inspector 101 is signed in; nothing runs yet."""
    made = Post()
    await made.sign_in()
    yield made
    await made.close()
