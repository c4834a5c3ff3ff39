"""Whole readers that share inspectors: who polls, and what is handed over how."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from qc_adapter.events.reader import Pace
from qc_adapter.events.readers import Readers
from qc_adapter.gateway.client import PollReply
from qc_adapter.gateway.envelope import RawEvent
from qc_adapter.model.errors import GatewayRefused
from qc_adapter.model.session import Renewal, Secret, Session

FAST = Pace(pause_seconds=0.0, hold_seconds=0.01)


@dataclass
class Poll:
    """One poll that the gateway holds until the test answers it."""

    by: str
    session: Session
    reply: asyncio.Future = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def bring(self, *names, guid=None):
        told = tuple(RawEvent(name, self.session.agent_id, None) for name in names)
        self.reply.set_result(PollReply(told, None if guid is None else Renewal(Secret(guid)), False))


class Gateway:
    """Stands for the gateway: polls of all replicas arrive here."""

    def __init__(self):
        self.polls = []
        self._arrived = asyncio.Queue()

    def seen_by(self, name):
        """The gateway's client of one replica."""

        class Client:
            @staticmethod
            async def poll(session, **_hold):
                made = Poll(name, session)
                self.polls.append(made)
                self._arrived.put_nowait(made)
                return await made.reply

        return Client

    async def arrived(self):
        """The next poll."""
        async with asyncio.timeout(10):
            return await self._arrived.get()

    def open(self):
        """Polls that are held now."""
        return [poll for poll in self.polls if not poll.reply.done()]


class Counts:
    """What one replica counted."""

    def __init__(self):
        self.gaps = []
        self.leases = []
        self.held = 0

    def event_read(self, _gateway, event_type):
        """Nothing is asked about it."""

    def event_foreign(self, _gateway):
        """There are none."""

    def gap(self, _gateway, reason):
        self.gaps.append(reason)

    def leases_held(self, counts):
        self.held = sum(counts.values())

    def sessions_unread(self, counts):
        self.unread = dict(counts)

    def lease_changed(self, _gateway, reason):
        self.leases.append(reason)


@pytest.fixture
def gateway():
    return Gateway()


@pytest.fixture
async def readers(replica, gateway, take):
    """Makes replicas that read."""
    made = []

    async def make(name):
        one = replica(name)
        one.counts = Counts()
        one.readers = Readers(gateway=gateway.seen_by(name), rota=one.rota, counts=one.counts, pace=FAST)
        one.mirror.tell(revoked=one.readers.revoked, woken=one.readers.wake)
        one.mirror.start()
        one.readers.start()
        await take.until(lambda: one.mirror.listening)
        made.append(one)
        return one

    yield make
    for one in made:
        await one.readers.stop()


async def test_one_replica_polls_for_an_inspector(shelf, readers, gateway, take):
    """However many replicas there are, the gateway sees one poll."""
    for name in ("one", "two", "three"):
        await readers(name)
    shelf.sign_in()
    poll = await gateway.arrived()
    for number in range(5):
        poll.bring(f"AgentState_{number}", guid=f"guid{number}")
        poll = await gateway.arrived()
        assert poll.session.guid.reveal() == f"guid{number}"
        assert gateway.open() == [poll]
    assert shelf.told() == [f"AgentState_{number}" for number in range(5)]


async def test_a_lease_is_handed_over_when_the_poll_has_ended(shelf, readers, gateway):
    """A drained replica keeps what its last poll brings, and another one goes on at once: nothing is lost."""
    one = await readers("one")
    shelf.sign_in()
    poll = await gateway.arrived()
    await readers("two")
    leaving = asyncio.create_task(one.readers.hand_over(3600.0))
    await asyncio.sleep(0)
    assert not leaving.done()
    poll.bring("AgentState_Busy", guid="second")
    await leaving
    poll = await gateway.arrived()
    assert (poll.by, poll.session.guid.reveal()) == ("two", "second")
    poll.bring("AgentState_Ready")
    await gateway.arrived()
    assert shelf.told() == ["AgentState_Busy", "AgentState_Ready"]
    assert one.counts.leases == ["won", "released"]
    assert one.counts.held == 0


async def test_a_draining_replica_begins_no_poll(shelf, readers, gateway):
    """A session that comes while a replica leaves is another one's, also if that one signed it in."""
    one = await readers("one")
    await one.readers.hand_over(3600.0)
    session = Session("101", Secret("first"))
    await one.store.put(session)
    await one.readers.notice(session)
    await one.readers._beat()
    assert gateway.polls == []
    await readers("two")
    assert (await gateway.arrived()).by == "two"


async def test_a_newcomer_gets_its_share_between_two_polls(shelf, readers, gateway, take):
    """A new replica takes over half of the inspectors, each when its poll has ended, without a gap."""
    one = await readers("one")
    agents = [str(101 + number) for number in range(4)]
    for agent_id in agents:
        shelf.sign_in(agent_id)
    for _ in agents:
        await gateway.arrived()
    two = await readers("two")
    await take.until(lambda: [reader.leaving for reader in one.readers._reading.values()].count(True) == 2)
    for poll in gateway.open():
        poll.bring("AgentState_Busy")
    await take.until(lambda: two.counts.held == 2 and len(gateway.open()) == 4)
    assert sorted(poll.by for poll in gateway.open()) == ["one", "one", "two", "two"]
    assert {tuple(shelf.told(agent_id)) for agent_id in agents} == {("AgentState_Busy",)}


async def test_a_new_sign_in_elsewhere_cuts_the_old_poll_off(shelf, readers, gateway, take):
    """A sign-in through another replica does not wait for the poll that this one's gateway holds."""
    one = await readers("one")
    shelf.sign_in()
    older = await gateway.arrived()
    two = await readers("two")
    session = Session("101", Secret("second"))
    await two.store.put(session)
    await two.readers.replaced(session)
    newer = await gateway.arrived()
    await take.until(older.reply.cancelled)
    assert newer.session.guid.reveal() == "second"
    newer.bring("AgentState_Ready")
    await gateway.arrived()
    assert shelf.told() == ["TAKEOVER", "AgentState_Ready"]
    assert one.counts.gaps + two.counts.gaps == ["takeover"]


async def test_a_poll_that_is_cut_off_at_the_end_is_a_gap(shelf, readers, gateway):
    """A replica that stops in the middle of a poll says so, and the next one need not wait for its lease to end."""
    one = await readers("one")
    shelf.sign_in()
    await gateway.arrived()
    await readers("two")
    await one.readers.stop()
    assert (await gateway.arrived()).by == "two"
    assert shelf.told() == ["TAKEOVER"]


async def test_a_replica_that_goes_silent_is_replaced(shelf, readers, replica, gateway, take):
    """When its lease has run out, another one polls; what the silent one brings later is told to nobody."""
    one = replica("silent")
    shelf.sign_in()
    lease = await one.win()
    two = await readers("two")
    shelf.silence("silent")
    shelf.expire("101")
    poll = await gateway.arrived()
    assert poll.by == "two"
    assert two.counts.leases == ["taken_over"]
    await take.until(lambda: shelf.told() == ["TAKEOVER"])
    await lease.release()
    assert shelf.holder().startswith("two:")


async def test_a_session_that_goes_is_not_polled_for_any_more(shelf, readers, gateway, take):
    """Whoever removes a session, the poll for it is given up, on whatever replica."""
    await readers("one")
    shelf.sign_in()
    poll = await gateway.arrived()
    two = await readers("two")
    shelf.sign_out()
    await two.readers.forget("101")
    await take.until(poll.reply.cancelled)
    assert shelf.holder() is None


async def test_a_lost_session_is_counted_until_it_is_back(shelf, readers, gateway, take):
    """The replica that saw the session end says so until somebody polls for it again."""
    one = await readers("one")
    shelf.sign_in()
    poll = await gateway.arrived()
    poll.reply.set_exception(GatewayRefused("getAgentEvent", "100-006", "", None))
    await take.until(lambda: one.readers.counts()["default", "lost"] == 1)
    assert shelf.head()["ended"] == "lost 100-006"
    shelf.sign_in(guid="second")
    assert (await gateway.arrived()).session.guid.reveal() == "second"
    assert one.readers.counts()["default", "lost"] == 0


@pytest.mark.parametrize("heard", ["under way", "before it is told"])
async def test_a_sign_out_that_the_poll_hears_of_first_is_no_loss(shelf, readers, gateway, take, heard):
    """A replica whose poll ends with the sign-in, before it hears of the sign-out elsewhere, counts no lost session."""
    one, two = await readers("one"), await readers("two")
    shelf.sign_in()
    poll = await gateway.arrived()
    reading = one if poll.by == "one" else two
    await two.readers.leaving("101")
    if heard == "before it is told":
        shelf.sign_out()
    poll.reply.set_exception(GatewayRefused("getAgentEvent", "100-006", "", None))
    await take.until(lambda: reading.counts.leases == ["won", "session_gone"])
    assert reading.readers.counts()["default", "lost"] == 0
    shelf.sign_out()
    await two.readers.forget("101")
    assert shelf.head()["ended"] == "gone"


async def test_a_session_that_cannot_be_read_is_counted_as_lost(shelf, readers, gateway, take):
    """Whom nobody polls for because of his record is in the numbers as lost, until the record is mended."""
    one = await readers("one")
    shelf.sign_in()
    shelf.client.hset("qc:session:101", "version", "2")
    await take.until(lambda: one.readers.counts()["default", "lost"] == 1)
    shelf.client.hset("qc:session:101", "version", "1")
    assert (await gateway.arrived()).session.agent_id == "101"
    assert one.readers.counts()["default", "lost"] == 0


async def test_a_redis_that_lost_everything_is_given_the_sessions_back(shelf, readers, gateway, take):
    """Polls go on under a Redis that came back empty, with the newest GUIDs, and no inspector is signed out."""
    await readers("one")
    await readers("two")
    agents = [str(101 + number) for number in range(4)]
    for agent_id in agents:
        shelf.sign_in(agent_id, guid=f"guid-of-{agent_id}")
    for _ in agents:
        await gateway.arrived()
    await take.until(lambda: len(gateway.open()) == 4)
    shelf.client.flushall()
    for poll in gateway.open():
        poll.bring("AgentState_Busy", guid=f"next-of-{poll.session.agent_id}")
    for _ in agents:
        await gateway.arrived()
    assert {agent_id: shelf.guid(agent_id) for agent_id in agents} == {one: f"next-of-{one}" for one in agents}
    assert {tuple(shelf.told(agent_id)) for agent_id in agents} == {("AgentState_Busy",)}


async def test_the_beat_alone_gives_a_redis_that_lost_everything_the_sessions_back(shelf, readers, gateway, take):
    """The gateway holds every poll on: commands have their session and GUID again before any of them ends."""
    one, two = [await readers(name) for name in ("one", "two")]
    agents = [str(101 + number) for number in range(4)]
    for agent_id in agents:
        shelf.sign_in(agent_id, guid=f"guid-of-{agent_id}")
    for _ in agents:
        await gateway.arrived()
    await take.until(lambda: len(gateway.open()) == 4)
    held = gateway.open()
    shelf.client.flushall()
    await take.until(lambda: all(shelf.guid(agent_id) == f"guid-of-{agent_id}" for agent_id in agents))
    await take.until(lambda: shelf.client.zcount("qc:leases", shelf.now_ms(), "inf") == 4)
    holders = {agent_id: shelf.holder(agent_id).split(":")[0] for agent_id in agents}
    assert holders == {poll.session.agent_id: poll.by for poll in held}
    assert gateway.open() == held
    for agent_id in agents:
        assert (await two.store.get(agent_id)).guid.reveal() == f"guid-of-{agent_id}"
        assert shelf.told(agent_id) == []
    assert one.counts.gaps + two.counts.gaps == []


async def test_many_free_leases_are_claimed_one_batch_after_the_other(shelf, readers, gateway, monkeypatch):
    """Nobody waits for the next look while more inspectors wait than are handed out at once."""
    for number in range(250):
        shelf.sign_in(str(1000 + number))
    await readers("one")
    await gateway.arrived()  # the first look has been
    monkeypatch.setattr("qc_adapter.events.readers._BEAT_SECONDS", 3600.0)
    for _ in range(249):
        await gateway.arrived()


async def test_a_poll_that_is_cut_off_meanwhile_is_not_forgotten(shelf, readers):
    """While one lease is given up, another one is added: both are given up, each once."""
    one = await readers("one")
    given_up = []

    class Cut:
        def __init__(self, name, meanwhile=None):
            self.name, self.meanwhile = name, meanwhile

        async def abandon(self):
            given_up.append(self.name)
            if self.meanwhile is not None:
                one.readers._cut_off.append(self.meanwhile)

    one.readers._cut_off.append(Cut("first", Cut("second")))
    await one.readers._abandon()
    assert given_up == ["first", "second"]
    assert not one.readers._cut_off
