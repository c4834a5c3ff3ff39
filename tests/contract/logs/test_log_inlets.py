"""The way into a log in Redis for events that no poll brought, from any replica."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from qc_adapter.events.inlet import MOST_REMEMBERED, Logged, batch_of
from qc_adapter.events.leases import PollState, Step
from qc_adapter.events.model import GapReason
from qc_adapter.events.redis_inlet import RedisInlet
from qc_adapter.events.redis_lease import Book
from qc_adapter.gateway.envelope import RawEvent
from qc_adapter.model.errors import EventsReadElsewhere, NotSignedIn, SessionUnreadable, StoreUnavailable
from qc_adapter.model.session import EventSource, Secret, Session
from qc_adapter.store.opening import open_link
from tests.support.watching import until


def batch(*texts, **more):
    """Events that are told apart by their content."""
    return batch_of("101", [RawEvent("AgentEvent_Hold", "101", text) for text in texts], **more)


def stamped(*numbers):
    """Events that happen once: each has a time of its own. So soon the gateway repeats nothing."""
    events = [RawEvent("AgentEvent_Hold", "101", None, number) for number in numbers]
    return batch_of("101", events, repeats_after_seconds=60.0)


def contents(shelf):
    """The log in short."""
    return [getattr(item, "content", str(item)) for _, item in shelf.entries()]


@pytest.fixture
def inlet(replica):
    """Makes the inlet of a replica."""

    def make(name):
        one = replica(name)
        return RedisInlet(Book(one.link, one.terms, one.mirror), one.hub)

    return make


async def test_two_replicas_take_batches_of_one_inspector_in_turn(inlet, shelf):
    """Each batch is logged whole, wherever it comes in, and the positions have no hole."""
    shelf.sign_in(event_source="push")
    first, second = inlet("A"), inlet("B")
    taken = []
    for number in range(6):
        one = (first, second)[number % 2]
        taken.append(await one.take("101", EventSource.PUSH, batch(f"{number}a", f"{number}b")))
    assert [position for position, _ in shelf.entries()] == list(range(1, 13))
    assert contents(shelf) == [f"{number}{place}" for number in range(6) for place in "ab"]
    assert [int(one.cursor.rpartition("-")[2]) for one in taken] == [2, 4, 6, 8, 10, 12]


async def test_batches_at_the_same_time_are_all_logged(inlet, shelf):
    """A dozen at once from two replicas: none is lost, none comes between the events of another."""
    shelf.sign_in(event_source="push")
    inlets = [inlet("A"), inlet("B")]
    work = [inlets[n % 2].take("101", EventSource.PUSH, batch(f"{n}a", f"{n}b")) for n in range(12)]
    await asyncio.gather(*work)
    told = contents(shelf)
    assert sorted(told) == sorted(f"{n}{place}" for n in range(12) for place in "ab")
    assert all(told[place][:-1] == told[place + 1][:-1] for place in range(0, 24, 2))


async def test_a_batch_that_comes_again_elsewhere_is_not_logged_again(inlet, shelf):
    """It comes to another replica, with newer events behind: only those are logged. A part of it happened anew."""
    shelf.sign_in(event_source="push")
    await inlet("A").take("101", EventSource.PUSH, batch("1", "2"))
    again = await inlet("B").take("101", EventSource.PUSH, batch("1", "2", "3"))
    assert (again.new, again.repeated) == (1, 2)
    assert contents(shelf) == ["1", "2", "3"]
    for name, texts in (("C", ["1"]), ("A", ["2", "3", "4"])):
        assert (await inlet(name).take("101", EventSource.PUSH, batch(*texts))).repeated == 0
    assert contents(shelf) == ["1", "2", "3", "1", "2", "3", "4"]


async def test_what_comes_too_soon_for_a_repetition_is_logged(inlet, shelf):
    """The gateway repeats nothing so soon: it happened twice. The very same arrival is logged once all the same."""
    shelf.sign_in(event_source="push")
    one = inlet("A")
    for _ in range(2):
        await one.take("101", EventSource.PUSH, batch("1", repeats_after_seconds=60.0))
    assert contents(shelf) == ["1", "1"]
    same = batch("2", repeats_after_seconds=60.0)
    first, again = [await one.take("101", EventSource.PUSH, same) for _ in range(2)]
    assert (first.new, again) == (1, Logged(0, 1, first.cursor))
    assert contents(shelf) == ["1", "1", "2"]


async def test_a_copy_that_comes_late_is_not_logged_again(inlet, shelf):
    """A frozen replica wakes up with a push that another one has logged since, and newer ones: it adds what is new."""
    shelf.sign_in(event_source="push")
    thawed, other = inlet("A"), inlet("B")
    await other.take("101", EventSource.PUSH, stamped(1, 2))
    await other.take("101", EventSource.PUSH, stamped(3))
    late = await thawed.take("101", EventSource.PUSH, stamped(1, 2))
    assert (late.new, late.repeated) == (0, 2)
    again = await other.take("101", EventSource.PUSH, stamped(3, 4))
    assert (again.new, again.repeated) == (1, 1)
    for first in range(5, 5 + 2 * MOST_REMEMBERED, 50):
        await other.take("101", EventSource.PUSH, stamped(*range(first, first + 50)))
    assert len(shelf.head()["recent"].split()) <= MOST_REMEMBERED
    newest = max(position for position, _ in shelf.entries())
    assert (await thawed.take("101", EventSource.PUSH, stamped(newest))).new == 0


async def test_the_calls_of_a_pushed_inspector_are_kept(inlet, shelf):
    """Whoever looks later knows on which calls the inspector talks."""
    shelf.sign_in(event_source="push")
    talking = batch_of("101", [RawEvent("AgentEvent_Talking", "101", {"callid": "1-7"})])
    await inlet("A").take("101", EventSource.PUSH, talking)
    assert "1-7" in shelf.head()["talking"]
    await inlet("B").take("101", EventSource.PUSH, batch_of("101", [RawEvent("AgentEvent_Call_Release", "101", "1-7")]))
    assert "1-7" not in shelf.head()["talking"]


async def test_a_heartbeat_leaves_what_was_pushed_as_it_is(inlet, shelf, replica):
    """Also one that finds a record which another system made a polled one: it knows less than was pushed meanwhile."""
    shelf.sign_in(event_source="push")
    lease = await replica("A").win()
    talking = batch_of("101", [RawEvent("AgentEvent_Talking", "101", {"callid": "1-7"})])
    await inlet("B").take("101", EventSource.PUSH, talking)
    shelf.sign_in(event_source="poll")
    await lease.keep(Step(Session("101", Secret("first"), EventSource.PUSH), None, (), PollState.ACTIVE, ""))
    assert "1-7" in shelf.head()["talking"]


async def test_a_batch_needs_a_session_that_takes_it(inlet, shelf):
    """None, one of another source, one that is no hash: each says so, and nothing is logged; a sign-in takes it."""
    one = inlet("A")
    with pytest.raises(NotSignedIn):
        await one.take("101", EventSource.PUSH, batch("1"))
    shelf.sign_in()
    with pytest.raises(EventsReadElsewhere):
        await one.take("101", EventSource.NONE, batch("1"))
    shelf.sign_out()
    shelf.client.set("qc:session:101", "no hash")
    with pytest.raises(SessionUnreadable):
        await one.take("101", EventSource.PUSH, batch("1"))
    assert shelf.entries() == []
    shelf.sign_out()
    shelf.client.set("qc:busy:101", "mark")
    assert (await one.take("101", EventSource.PUSH, batch("1"))).new == 1


async def test_a_gap_in_a_batch_is_logged_in_its_place(inlet, shelf):
    """Entries that are no events leave a gap behind those that are, and are known again like them."""
    shelf.sign_in(event_source="push")
    torn = batch("1", unread=2)
    for expected in (2, 0):
        assert (await inlet("A").take("101", EventSource.PUSH, batch("1", unread=2))).new == expected
    assert [type(item) for item in torn.items] == [type(item) for _, item in shelf.entries()]


async def test_a_position_that_a_failover_lost_is_not_given_to_a_pushed_event(replica, shelf):
    """Callers have seen it: a gap takes the place behind, and the event comes after."""
    shelf.sign_in(event_source="push")
    one = replica("A")
    feed = await one.mirror.follow("101")
    inlet = RedisInlet(Book(one.link, one.terms, one.mirror), one.hub)
    for text in "1234":
        await inlet.take("101", EventSource.PUSH, batch(text))
    shelf.client.xtrim("qc:events:101", maxlen=0)
    shelf.client.execute_command("XSETID", "qc:events:101", "2-0")
    shelf.client.hset("qc:log:101", "n", 2)
    taken = await inlet.take("101", EventSource.PUSH, batch("new"))
    assert taken.cursor == feed.cursor(6)
    assert [(position, getattr(item, "content", item)) for position, item in shelf.entries()] == [
        (5, GapReason.LOG_LOST),
        (6, "new"),
    ]


async def test_a_sign_in_that_is_made_anew_takes_what_it_took_before(inlet, shelf):
    """That the gateway has forgotten it does not make its events those of another system."""
    mark = hashlib.sha1(b"first", usedforsecurity=False).hexdigest()
    shelf.sign_in(event_source="push", recovering=mark)
    with pytest.raises(EventsReadElsewhere):
        await inlet("A").take("101", EventSource.NONE, batch("1"))
    assert (await inlet("A").take("101", EventSource.PUSH, batch("1"))).new == 1


async def test_more_events_at_once_than_lua_unpacks(inlet, shelf, replica, take):
    """A batch or a poll's reply of many thousands of events is logged, not refused for ever."""
    shelf.sign_in(event_source="push")
    many = await inlet("A").take("101", EventSource.PUSH, batch(*map(str, range(9000))))
    lease = await replica("B").win()
    await lease.keep(take.step(*["AgentState_Ready"] * 9000))
    assert (many.new, shelf.head()["n"]) == (9000, "18000")


async def test_a_batch_that_redis_ran_late_is_not_logged_again(replica, shelf, own_redis_server):
    """Redis stood still with it and went on as the gateway pushed it again: both come to it at the same moment."""
    made = type(replica("A"))(own_redis_server.url, "A")
    link = open_link(own_redis_server.url, timeout_seconds=0.2)
    await made.mirror.follow("101")
    inlet = RedisInlet(Book(link, made.terms, made.mirror), made.hub)
    with own_redis_server.client() as client:
        there = type(shelf)(client)
        there.sign_in(event_source="push")
        await inlet.take("101", EventSource.PUSH, batch("0", repeats_after_seconds=60.0))
        own_redis_server.freeze()
        with pytest.raises(StoreUnavailable):
            await inlet.take("101", EventSource.PUSH, batch("1", repeats_after_seconds=60.0))
        own_redis_server.thaw()
        await until(lambda: contents(there) == ["0", "1"], "a late batch")
        again = await inlet.take("101", EventSource.PUSH, batch("1", "2", repeats_after_seconds=60.0))
        assert (again.new, again.repeated) == (1, 1)
        assert contents(there) == ["0", "1", "2"]
    await link.close()
    await made.close()
