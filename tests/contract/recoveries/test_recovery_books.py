"""What every book of recoveries promises, in memory and on a real Redis: one at a time, and nothing by who is late."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from qc_adapter.events.activity import InspectorState
from qc_adapter.events.hub import Hub
from qc_adapter.events.inlet import MemoryInlet, batch_of
from qc_adapter.events.leases import PollState, SessionGone, Step, Taken
from qc_adapter.events.memory_leases import MemoryRota
from qc_adapter.events.memory_recoveries import MemoryRecoveries
from qc_adapter.events.model import Gap
from qc_adapter.events.redis_inlet import RedisInlet
from qc_adapter.events.redis_recoveries import RedisRecoveries
from qc_adapter.gateway.envelope import RawEvent
from qc_adapter.model.session import EventSource, Renewal, Secret, Session
from qc_adapter.sessions.memory import MemorySessionStore
from qc_adapter.sessions.monitored import MemoryMonitored, RedisMonitored
from qc_adapter.sessions.orders import Kept, SealedOrders, Stage

LONG = 60.0


class Desk:
    """Inspector 101, whose sign-in may be lost, and the book of what is done about it."""

    def __init__(self, store, rota, book, monitored):
        self.store, self.rota, self.book, self.monitored = store, rota, book, monitored

    async def sign_in(self, guid="first", orders="sealed", **more):
        session = Session("101", Secret(guid), signed_in_at=time.time(), **more)
        await self.store.put(session, SealedOrders(orders) if orders else None)
        return session

    async def lose(self, session):
        """Let the gateway say that it does not know the session."""
        await self.rota.enlist("101")
        [claim] = await self.read_on()
        return await claim.lease.end(session, "100-006", "forgotten")

    async def lost(self, **more):
        """An inspector with two monitored agents is lost; it was signed in some time ago."""
        session = await self.sign_in(**more)
        await self.monitored.begin("101", ["293", "292"])
        await self.age()
        assert await self.lose(session) is PollState.RECOVERING
        return session

    async def read_on(self):
        """Let whoever wins the lease begin to read."""
        return (await self.rota.beat([], claiming=True)).claims

    async def one(self, claim_seconds=LONG):
        [case] = await self.book.due(10, claim_seconds, ())
        return case

    async def told(self):
        status = (await self.rota.statuses(["101"]))["101"]
        return status.state, status.detail

    async def shown(self):
        return (await self.book.kept(["101"])).get("101", Kept())


class MemoryDesk(Desk):
    """The desk of the only replica."""

    def __init__(self):
        store, self.hub = MemorySessionStore(), Hub()
        rota = MemoryRota(store, self.hub)
        super().__init__(store, rota, MemoryRecoveries(store, rota), MemoryMonitored(store))
        self.inlet = MemoryInlet(store, self.hub)

    async def age(self, seconds=60.0):
        self.store.orders["101"].tried_at = time.monotonic() - seconds

    async def ripen(self):
        self.store.orders["101"].due_at = 0.0

    def gaps(self):
        return [entry.item.reason for entry in self.hub.feed("101").read(0, 9)]

    async def kinds(self):
        items = [entry.item for entry in self.hub.feed("101").read(0, 9)]
        return [str(one.reason) if isinstance(one, Gap) else one.event_type for one in items]

    async def ended(self):
        ended = self.hub.feed("101").ended
        return type(ended).__name__, ended.retcode


class RedisDesk(Desk):
    """The desk of a replica among others."""

    def __init__(self, replica, shelf):
        self.shelf = shelf
        book = RedisRecoveries(replica.rota._book)
        super().__init__(replica.store, replica.rota, book, RedisMonitored(replica.link))
        self.inlet = RedisInlet(replica.rota._book, Hub())

    async def age(self, seconds=60.0):
        self.shelf.client.hset("qc:orders:101", "tried_at", self.shelf.now_ms() - int(seconds * 1000))

    async def ripen(self):
        self.shelf.client.zadd("qc:recovering", {"101": 0})

    def gaps(self):
        return self.shelf.told()

    async def kinds(self):
        return self.shelf.told()

    async def ended(self):
        how, retcode = self.shelf.head()["ended"].split()
        return {"lost": "SessionLost", "conflict": "SessionConflict"}[how], retcode


@pytest.fixture(params=["memory", "redis"])
def desk(request):
    if request.param == "memory":
        return MemoryDesk()
    return RedisDesk(request.getfixturevalue("replica")("one"), request.getfixturevalue("shelf"))


async def test_a_loss_with_orders_is_due_with_all_that_is_kept(desk):
    """The session says that it recovers, no stream ends, and what is claimed is nobody else's."""
    await desk.lost()
    assert (await desk.store.get("101")).recovering
    assert desk.gaps() == []
    case = await desk.one()
    assert (case.agent_id, case.stage, case.sealed) == ("101", Stage.SIGNING_IN, "sealed")
    assert (case.retcode, case.attempts, case.doubtful) == ("100-006", 0, False)
    assert (case.taken_ago_seconds, case.monitored) == (None, ("292", "293"))
    assert await desk.book.due(10, LONG, ()) == []
    assert await desk.shown() == Kept(True, 2)
    assert await desk.told() == (PollState.RECOVERING, "forgotten")


async def test_a_loss_without_orders_is_none_of_this_book(desk):
    """The inspector is lost, and nothing is due."""
    session = await desk.sign_in(orders=None)
    assert await desk.lose(session) is PollState.LOST
    assert await desk.book.due(10, LONG, ()) == []
    assert await desk.ended() == ("SessionLost", "100-006")
    assert not (await desk.shown()).again


async def test_a_recovery_goes_from_step_to_step(desk):
    """Signed in again, after a gap, with orders and monitoring as they were; then restored; then nothing is due."""
    await desk.lost()
    new = Session("101", Secret("second"), signed_in_at=time.time())
    assert await desk.book.signed_in(await desk.one(), new, forced=True)
    assert await desk.store.get("101") == new
    [claim] = await desk.read_on()
    assert [str(one) for one in desk.gaps()] == ["TAKEOVER"]
    await claim.lease.keep(Step(new, None, (), PollState.ACTIVE))
    assert await desk.told() == (PollState.RECOVERING, "")
    case = await desk.one()
    assert (case.stage, case.sealed, case.monitored) == (Stage.RESTORING, "sealed", ("292", "293"))
    assert 0 <= case.taken_ago_seconds < 60
    assert await desk.book.settle(case, "no skills")
    assert await desk.told() == (PollState.DEGRADED, "no skills")
    assert await desk.book.due(10, LONG, ()) == []
    assert await desk.shown() == Kept(True, 2)


async def test_who_does_not_get_in_leaves_a_recovery_as_it_was(desk):
    """A caller's sign-in or sign-out that failed takes nothing away from what is told, and nobody reads."""
    await desk.lost()
    await desk.rota.leaving("101")
    await desk.rota.enlist("101")
    assert await desk.read_on() == []
    assert await desk.told() == (PollState.RECOVERING, "forgotten")
    assert (await desk.one()).stage is Stage.SIGNING_IN


@pytest.mark.parametrize("taken", [Taken.NOT, Taken.REPLACED, Taken.REVOKED])
async def test_whoever_comes_after_a_loss_begins_with_a_gap(desk, taken):
    """A sign-in, a session that is adopted: the streams went on, and are told once what they may have missed."""
    await desk.lost()
    await desk.sign_in("callers", orders=None)
    await desk.rota.enlist("101", taken)
    assert len(await desk.read_on()) == 1
    await desk.rota.enlist("101")
    assert [str(one) for one in desk.gaps()] == ["TAKEOVER"]


@pytest.mark.parametrize("last_words", [[], ["AgentState_Work"]])
async def test_what_is_pushed_first_has_the_gap_before_it(desk, last_words):
    """
    Events may come before the reply to the sign-in, and look like those of the one before: they are new.

    The last words of the lost one are not what the gap waits for.
    """
    batch = batch_of("101", [RawEvent("AgentState_Ready", "101", None, None)])
    await desk.sign_in(event_source=EventSource.PUSH)
    assert (await desk.inlet.take("101", EventSource.PUSH, batch)).new == 1
    await desk.age()
    await desk.lose(await desk.store.get("101"))
    for event_type in last_words:
        late = batch_of("101", [RawEvent(event_type, "101", None, None)])
        assert (await desk.inlet.take("101", EventSource.PUSH, late)).new == 1
    await desk.store.begin("101", "mark", LONG)
    again = replace(batch, nonce="another")
    assert (await desk.inlet.take("101", EventSource.PUSH, again)).new == 1
    expected = ["AgentState_Ready", *last_words, "TAKEOVER", "AgentState_Ready"]
    assert await desk.kinds() == expected
    new = Session("101", Secret("second"), EventSource.PUSH, signed_in_at=time.time())
    assert await desk.book.signed_in(await desk.one(), new, forced=False)
    assert len(await desk.read_on()) == 1
    assert await desk.kinds() == expected


async def test_a_sign_in_in_place_of_a_pushed_one_keeps_what_came_before_its_reply(desk):
    """Its first batch may look like that of the older one, and what it says of the inspector stays."""
    batch = batch_of("101", [RawEvent(one, "101", None, None) for one in ("AgentOther_InService", "AgentState_Ready")])
    await desk.sign_in(event_source=EventSource.PUSH, orders=None)
    assert (await desk.inlet.take("101", EventSource.PUSH, batch)).new == 2
    await desk.rota.leaving("101")
    assert (await desk.inlet.take("101", EventSource.PUSH, replace(batch, nonce="another"))).new == 2
    await desk.sign_in("second", event_source=EventSource.PUSH, orders=None)
    await desk.rota.enlist("101", Taken.REPLACED)
    [claim] = await desk.read_on()
    assert claim.lease.activity.state is InspectorState.IDLE


async def test_what_is_put_off_is_due_later(desk):
    """It comes back with its new stage and one attempt more, not before."""
    await desk.lost()
    assert await desk.book.put_off(await desk.one(), Stage.TAKING_OVER, "elsewhere", LONG, doubtful=False)
    assert await desk.book.due(10, LONG, ()) == []
    assert await desk.told() == (PollState.RECOVERING, "elsewhere")
    await desk.lost()
    assert await desk.book.put_off(await desk.one(), Stage.TAKING_OVER, "elsewhere", 0, doubtful=False)
    case = await desk.one()
    assert (case.stage, case.attempts, case.doubtful) == (Stage.TAKING_OVER, 1, False)


async def test_who_lost_the_claim_changes_nothing(desk):
    """A claim lapses, and the next one knows that the attempt before may have signed in. The first one is too late."""
    await desk.lost()
    late = await desk.one(claim_seconds=0)
    case = await desk.one()
    assert (case.doubtful, late.doubtful) == (True, False)
    new = Session("101", Secret("late"), signed_in_at=time.time())
    assert not await desk.book.signed_in(late, new, forced=False)
    assert not await desk.book.put_off(late, Stage.SIGNING_IN, "late", 0, doubtful=False)
    assert not await desk.book.settle(late, "")
    assert not await desk.book.give_up(late, "100-004", "late", conflict=False)
    assert (await desk.store.get("101")).guid == Secret("first")
    assert await desk.book.settle(case, "")


@pytest.mark.parametrize("how", ["another sign-in", "sign-out"])
async def test_what_a_caller_does_counts_more(desk, how):
    """A sign-in or sign-out that came meanwhile ends the recovery, whatever it has reached."""
    await desk.lost()
    case = await desk.one()
    if how == "sign-out":
        await desk.store.remove("101")
    else:
        await desk.sign_in("callers", orders=None)
    assert not await desk.book.signed_in(case, Session("101", Secret("second")), forced=False)
    assert await desk.book.due(10, LONG, ()) == []
    assert await desk.shown() == Kept()
    found = await desk.store.get("101")
    assert found is None if how == "sign-out" else found.guid == Secret("callers")


@pytest.mark.parametrize("conflict", [False, True])
async def test_who_is_given_up_is_lost(desk, conflict):
    """Streams end with why, and nothing is kept any more."""
    await desk.lost()
    assert await desk.book.give_up(await desk.one(), "100-002", "elsewhere", conflict=conflict)
    assert await desk.ended() == ("SessionConflict" if conflict else "SessionLost", "100-002")
    assert await desk.shown() == Kept()
    assert not (await desk.store.get("101")).recovering
    assert await desk.told() == (PollState.LOST, "elsewhere")
    await desk.rota.scan()
    assert await desk.read_on() == []
    await desk.sign_in("callers", orders=None)
    await desk.rota.enlist("101", Taken.REPLACED)
    assert len(await desk.read_on()) == 1
    assert desk.gaps() == []  # the streams have ended


@pytest.mark.parametrize("first", ["the receipt", "the loss"])
async def test_who_was_signed_out_by_force_is_lost(desk, first):
    """Whichever is heard of first: the orders are dropped, the streams end, and an attempt under way is undone."""
    session = await desk.sign_in()
    await desk.age()
    if first == "the receipt":
        await desk.book.dismiss("101")
        assert await desk.lose(session) is PollState.LOST
    else:
        assert await desk.lose(session) is PollState.RECOVERING
        case = await desk.one()
        await desk.book.dismiss("101")
        assert not await desk.book.signed_in(case, Session("101", Secret("second")), forced=False)
    assert await desk.ended() == ("SessionLost", "100-006")
    assert await desk.shown() == Kept()
    assert await desk.book.due(10, LONG, ()) == []
    await desk.book.dismiss("101")


async def test_a_sign_out_that_was_told_may_be_one_by_force(desk):
    """The receipt of whoever ended it is on its way: a recovery gives it a moment."""
    gone = batch_of("101", [RawEvent("AgentOther_ShutdownService", "101", None, None)])
    session = await desk.sign_in(event_source=EventSource.PUSH)
    await desk.age()
    await desk.inlet.take("101", EventSource.PUSH, gone)
    assert await desk.lose(session) is PollState.RECOVERING
    assert await desk.book.due(10, LONG, ()) == []
    await desk.book.dismiss("101")
    assert await desk.ended() == ("SessionLost", "100-006")


async def test_a_sign_in_that_does_not_last_is_not_made_anew_at_once(desk):
    """Losses soon after a recovery wait, each longer: a gateway that forgets all at once must not be stormed."""
    await desk.lost()
    assert await desk.book.put_off(await desk.one(), Stage.SIGNING_IN, "away", 0, doubtful=True)
    for number, too_early in enumerate((0.0, 1.5, 3.5), start=1):
        new = Session("101", Secret(f"number-{number}"), signed_in_at=time.time())
        assert await desk.book.signed_in(await desk.one(), new, forced=False)
        if too_early:
            await desk.age(too_early)
        assert await desk.lose(new) is PollState.RECOVERING
        assert await desk.book.due(10, LONG, ()) == []
        await desk.ripen()
        case = await desk.one()
        assert (case.attempts, case.doubtful) == (0, False)
        assert await desk.book.put_off(case, Stage.SIGNING_IN, "away", 0, doubtful=False)


async def test_an_end_that_was_wanted_is_no_loss(desk):
    """While a sign-out is under way the gateway's word is what it brings: nobody signs in again, no stream ends."""
    session = await desk.sign_in()
    await desk.age()
    await desk.rota.enlist("101")
    [claim] = await desk.read_on()
    await desk.rota.leaving("101")
    with pytest.raises(SessionGone):
        await claim.lease.end(session, "100-006", "out")
    assert await desk.book.due(10, LONG, ()) == []
    assert not (await desk.store.get("101")).recovering


async def test_after_a_sign_out_nothing_is_left_of_a_recovery(desk):
    """The next sign-in begins without a gap: the streams of the one before have ended."""
    await desk.lost()
    await desk.store.remove("101")
    await desk.rota.retire("101")
    await desk.sign_in("callers", orders=None)
    await desk.rota.enlist("101")
    assert len(await desk.read_on()) == 1
    assert desk.gaps() == []


async def test_what_is_wanting_does_not_hide_what_is_worse(desk):
    """It is told while all else is well."""
    await desk.lost()
    new = Session("101", Secret("second"), signed_in_at=time.time())
    assert await desk.book.signed_in(await desk.one(), new, forced=False)
    [claim] = await desk.read_on()
    assert await desk.book.settle(await desk.one(), "no skills")
    await claim.lease.keep(Step(new, None, (), PollState.DEGRADED, "away"))
    assert await desk.told() == (PollState.DEGRADED, "away")


async def test_monitoring_belongs_to_a_session(desk):
    """Without one nobody is remembered; agents that are taken away are; the next sign-in begins without any."""
    await desk.monitored.begin("101", ["292"])
    await desk.sign_in()
    assert (await desk.shown()).monitored == 0
    await desk.monitored.begin("101", ["292", "293", "292"])
    await desk.monitored.end("101", ["293", "294"])
    assert (await desk.shown()).monitored == 1
    await desk.sign_in("second")
    assert (await desk.shown()).monitored == 0


@pytest.mark.parametrize("how", ["a new record", "a new GUID"])
async def test_a_session_that_another_system_wrote_is_not_recovered(replica, shelf, how):
    """It took the session over: the orders were for another sign-in, and its own is used."""
    desk = RedisDesk(replica("one"), shelf)
    await desk.lost()
    if how == "a new record":
        shelf.client.delete("qc:session:101")
    shelf.sign_in(guid="theirs")
    assert await desk.book.due(10, LONG, ()) == []
    found = await desk.store.get("101")
    assert (found.guid, found.recovering) == (Secret("theirs"), False)
    assert await desk.shown() == Kept()
    await desk.rota.scan()
    assert len(await desk.read_on()) == 1
    assert desk.gaps() == ["TAKEOVER"]


async def test_a_session_that_another_system_wrote_is_not_given_skills(replica, shelf):
    """It came between the new sign-in and what was to follow: the orders were not for it."""
    desk = RedisDesk(replica("one"), shelf)
    await desk.lost()
    new = Session("101", Secret("second"), signed_in_at=time.time())
    assert await desk.book.signed_in(await desk.one(), new, forced=False)
    shelf.client.delete("qc:session:101")
    shelf.sign_in(guid="theirs")
    assert await desk.book.due(10, LONG, ()) == []
    assert await desk.shown() == Kept()


async def test_what_is_said_twice_counts_once(replica, shelf):
    """A reply of Redis got lost: the repetition says the same, though a poll has renewed the GUID since."""
    desk = RedisDesk(replica("one"), shelf)
    await desk.lost()
    case = await desk.one()
    for _ in range(2):
        assert await desk.book.put_off(case, Stage.SIGNING_IN, "away", 0, doubtful=False)
    case = await desk.one()
    assert case.attempts == 1
    new = Session("101", Secret("second"), signed_in_at=time.time())
    assert await desk.book.signed_in(case, new, forced=True)
    await desk.store.renew("101", new.guid, Renewal(guid=Secret("third")))
    assert await desk.book.signed_in(case, new, forced=True)
    assert (await desk.store.get("101")).guid == Secret("third")
    case = await desk.one()
    for _ in range(2):
        assert await desk.book.settle(case, "")
    assert await desk.shown() == Kept(True, 2)


async def test_a_sign_in_of_another_system_is_not_made_anew(replica, shelf):
    """Orders that were kept for the sign-in before it are not for this one."""
    desk = RedisDesk(replica("one"), shelf)
    await desk.sign_in()
    shelf.client.delete("qc:session:101")
    shelf.sign_in(guid="theirs")
    assert await desk.lose(Session("101", Secret("theirs"))) is PollState.LOST


async def test_who_has_not_the_key_leaves_it_to_others(replica, shelf):
    """A case of another key is not claimed and holds up none behind it; orders without a key's name are for all."""
    desk = RedisDesk(replica("one"), shelf)
    await desk.lost(orders="ab12:text")
    other = Session("102", Secret("other"), signed_in_at=time.time())
    await desk.store.put(other, SealedOrders("cd34:text"))
    await desk.rota.enlist("102")
    [claim] = await desk.read_on()
    assert await claim.lease.end(other, "100-006", "forgotten") is PollState.RECOVERING
    shelf.client.zadd("qc:recovering", {"101": 1, "102": 2})
    assert await desk.book.due(10, LONG, ()) == []
    assert [case.agent_id for case in await desk.book.due(1, LONG, ["cd34"])] == ["102"]
    assert (await desk.shown()).again
    assert await desk.told() == (PollState.RECOVERING, "forgotten")
    [case] = await desk.book.due(10, LONG, ["ef56", "ab12"])
    assert (case.agent_id, case.doubtful, case.attempts) == ("101", False, 0)
    await desk.lost(orders="text")
    assert len(await desk.book.due(10, LONG, ["ab12"])) == 1


async def test_waiting_for_a_key_is_told_once_and_ends(replica, shelf):
    """After a while the session says what it waits for; after a long one it is claimed, for nobody else has come."""
    desk = RedisDesk(replica("one"), shelf)
    await desk.lost(orders="ab12:text")

    async def waited(seconds):
        shelf.client.hset("qc:orders:101", "waits_since", shelf.now_ms() - seconds * 1000)
        with capture_logs() as lines:
            cases = await desk.book.due(10, LONG, ["cd34"])
        return len(cases), [line["event"] for line in lines]

    assert await waited(1) == (0, [])
    assert await waited(10) == (0, ["recovery_waits_for_key"])
    state, detail = await desk.told()
    assert state is PollState.RECOVERING
    assert "QC_SEAL_KEYS" in detail
    assert await waited(290) == (0, [])
    assert await waited(310) == (1, [])
    assert not shelf.client.hexists("qc:orders:101", "waits_since")


async def test_nobody_is_given_up_while_a_replica_with_the_key_is_at_work(replica, shelf):
    """It may have more to do than it can at once, as when a gateway with thousands of inspectors hangs."""
    desk = RedisDesk(replica("one"), shelf)
    await desk.lost(orders="ab12:text")
    assert len(await desk.book.due(10, 0, ["ab12"])) == 1
    shelf.client.hset("qc:orders:101", "waits_since", 1)
    assert await desk.book.due(10, LONG, ["cd34"]) == []
    shelf.client.delete("qc:seal:ab12")
    assert len(await desk.book.due(10, LONG, ["cd34"])) == 1
