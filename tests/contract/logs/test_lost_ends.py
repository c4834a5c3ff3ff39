"""A failover took the end of a log along: whoever has seen it keeps its positions from being used again."""

from __future__ import annotations

import pytest

from qc_adapter.events.hub import Subscription
from qc_adapter.events.inlet import batch_of
from qc_adapter.events.leases import LeaseLost
from qc_adapter.events.redis_inlet import RedisInlet
from qc_adapter.events.redis_lease import Book
from qc_adapter.gateway.envelope import RawEvent
from qc_adapter.model.session import EventSource


def told(take, entries):
    """Positions and items in short."""
    return [(int(entry.cursor.rpartition("-")[2]), take.short(entry.item)) for entry in entries]


def fail_over(shelf, newest=1):
    """Let Redis be one that never got the entries behind that position."""
    lost = [f"{position}-0" for position, _ in shelf.entries() if position > newest]
    assert lost
    shelf.client.xdel("qc:events:101", *lost)
    shelf.client.execute_command("XSETID", "qc:events:101", f"{newest}-0")
    shelf.client.hset("qc:log:101", "n", newest)


@pytest.fixture
async def reader(shelf, replica, take):
    """A replica that polls, and logged three entries."""
    shelf.sign_in()
    made = replica("reader")
    made.lease = await made.win()
    for number in (1, 2, 3):
        await made.lease.keep(take.step(f"AgentState_{number}"))
    return made


@pytest.fixture
async def witness(reader, replica):
    """A replica that has shown these three to its callers."""
    made = replica("witness")
    made.feed = await made.mirror.follow("101")
    assert made.feed.position == 3
    return made


async def test_who_has_seen_more_than_redis_says_so(shelf, witness, take):
    """A look at the log puts a gap behind the last position that was given out, in Redis and in the feed."""
    fail_over(shelf)
    with Subscription(witness.hub, witness.feed, witness.feed.tail) as subscription:
        await witness.mirror._catch_up("101")
        assert told(take, subscription.take()) == [(4, "LOG_LOST")]
    assert [(position, take.short(item)) for position, item in shelf.entries()] == [
        (1, "AgentState_1"),
        (4, "LOG_LOST"),
    ]
    assert shelf.head()["n"] == "4"


@pytest.fixture(params=["its reader", "another reader"])
async def next_lease(request, reader, replica):
    """Gives out the lease of the same reader, or of another one."""

    async def lease():
        if request.param == "its reader":
            return reader.lease
        await reader.lease.release()
        reader.forget()
        return await replica("other").win()

    return lease


async def test_the_next_event_stands_behind_the_gap(shelf, witness, next_lease, take):
    """Positions that callers have are not given to other events, whoever polls on."""
    fail_over(shelf)
    await witness.mirror._catch_up("101")
    await (await next_lease()).keep(take.step("AgentState_4"))
    expected = [(1, "AgentState_1"), (4, "LOG_LOST"), (5, "AgentState_4")]
    assert [(position, take.short(item)) for position, item in shelf.entries()] == expected
    await witness.mirror._catch_up("101")
    assert told(take, witness.feed.read(3, 10)) == expected[1:]


def give_away(shelf, reader):
    """Let Redis be one that never got the last steps, and was told by another one that the lease is free."""
    reader.forget()
    shelf.client.hdel("qc:holders", "101")
    shelf.client.zadd("qc:leases", {"101": shelf.FREE})


async def test_a_reader_that_was_to_start_anew_goes_on_behind_what_was_seen(shelf, reader, witness, replica, take):
    """The claim comes before the look: the step of a reader that never saw the lost end stands behind it as well."""
    fail_over(shelf)
    give_away(shelf, reader)
    lease = await replica("other").win()
    await witness.mirror._catch_up("101")
    await lease.keep(take.step("AgentState_4"))
    await witness.mirror._catch_up("101")
    assert told(take, witness.feed.read(3, 10)) == [(4, "LOG_LOST"), (5, "AgentState_4")]


async def test_a_push_stands_behind_what_its_replica_logged_before(shelf, replica, take):
    """Whoever put events behind the end that is left says that they are lost; what comes again is no loss."""
    shelf.sign_in(event_source="push")
    made = replica("pushed to")
    inlet = RedisInlet(Book(made.link, made.terms, made.mirror), made.hub)

    async def push(*numbers):
        events = [RawEvent(f"AgentState_{number}", "101", None, number) for number in numbers]
        await inlet.take("101", EventSource.PUSH, batch_of("101", events))

    for numbers in ([1], [2, 3]):
        await push(*numbers)
    fail_over(shelf)
    await push(4)
    await push(4, 5)
    assert [(position, take.short(item)) for position, item in shelf.entries()] == [
        (1, "AgentState_1"),
        (4, "LOG_LOST"),
        (5, "AgentState_4"),
        (6, "AgentState_5"),
    ]


async def test_the_loss_is_told_once_however_many_saw_it(shelf, reader, witness, replica, take):
    """The second one that looks finds the gap of the first one, and so do looks that come later."""
    second = replica("second")
    feed = await second.mirror.follow("101")
    fail_over(shelf)
    for _ in range(2):
        for one in (witness, second):
            await one.mirror._catch_up("101")
    assert shelf.told() == ["AgentState_1", "LOG_LOST"]
    for seen in (witness.feed, feed):
        assert told(take, seen.read(3, 10)) == [(4, "LOG_LOST")]


async def test_others_hear_of_the_gap(shelf, witness, replica, take):
    """A replica that listens has it without looking."""
    other = replica("other")
    other.mirror.start()
    await take.until(lambda: other.mirror.listening)
    for loop in other.mirror._loops[1:]:
        loop.cancel()  # it neither compares nor reads: only the notice can tell it
    feed = await other.mirror.follow("101")
    await take.until(lambda: shelf.client.pubsub_numsub("qc:notice:101")[0][1] == 1)
    fail_over(shelf)
    await witness.mirror._catch_up("101")
    await take.until(lambda: told(take, feed.read(3, 10)) == [(4, "LOG_LOST")])


async def test_a_look_at_a_whole_log_adds_nothing(shelf, witness):
    """Who is behind, or has seen all, leaves the log as it is."""
    before = shelf.entries()
    for _ in range(2):
        await witness.mirror._catch_up("101")
    assert shelf.entries() == before


async def test_a_loss_that_nobody_saw_is_none(shelf, reader, replica, take):
    """Entries that no caller was shown may come again under their positions: the log goes on where Redis stands."""
    fail_over(shelf)
    feed = await replica("other").mirror.follow("101")
    assert feed.position == 1
    give_away(shelf, reader)
    await (await replica("third").win()).keep(take.step("AgentState_2"))
    assert [position for position, _ in shelf.entries()] == [1, 2]


async def test_who_hands_over_what_a_failover_cut_says_so(shelf, reader, witness, replica, take):
    """The next reader cannot know what the one before had logged: who leaves keeps its positions from being used."""
    fail_over(shelf)
    await reader.lease.release()
    reader.forget()
    await (await replica("other").win()).keep(take.step("AgentState_4"))
    await witness.mirror._catch_up("101")
    assert told(take, witness.feed.read(3, 10)) == [(4, "LOG_LOST"), (5, "AgentState_4")]


async def test_a_takeover_stands_behind_all_that_a_failover_took(shelf, reader, witness, replica, take):
    """Who saw more than the new reader found in the log gets the gap, and each event behind it."""
    fail_over(shelf)
    shelf.expire("101")
    reader.forget()
    claim = (await replica("other").beat())["101"]
    await claim.lease.keep(take.step("AgentState_4", "AgentState_5"))
    await witness.mirror._catch_up("101")
    assert [name for _, name in told(take, witness.feed.read(3, 10))] == ["TAKEOVER", "AgentState_4", "AgentState_5"]
    assert witness.gaps == []


# --- a failover that took a claim along


def forget_claim(shelf, lease):
    """Let Redis be one that never heard that the lease was given."""
    token = int(lease.holder.split(":")[1])
    shelf.client.set("qc:fence", token - 1)
    shelf.client.hdel("qc:holders", "101")
    shelf.client.zadd("qc:leases", {"101": shelf.FREE})


async def test_events_of_a_claim_that_was_forgotten_are_a_gap(shelf, reader, replica, take):
    """What the holder has in hand is lost with its claim: the next one is forced, and says so."""
    forget_claim(shelf, reader.lease)
    with pytest.raises(LeaseLost):
        await reader.lease.keep(take.step("AgentState_4", guid="second"))
    assert shelf.score() == shelf.REVOKED
    assert shelf.guid() == "second"
    claim = (await replica("other").beat())["101"]
    assert claim.forced is True
    await claim.lease.keep(take.step("AgentState_5", used="second"))
    assert shelf.told()[3:] == ["TAKEOVER", "AgentState_5"]


async def test_a_forgotten_claim_without_events_is_no_loss(shelf, reader, replica, take):
    """A poll that brought nothing took nothing away."""
    forget_claim(shelf, reader.lease)
    with pytest.raises(LeaseLost):
        await reader.lease.keep(take.step(guid="second"))
    assert shelf.score() == shelf.FREE
    assert (await replica("other").beat())["101"].forced is False


async def test_who_was_given_the_lease_meanwhile_keeps_it(shelf, reader, replica, take):
    """A claim that came after the failover stands; the events of the forgotten one are told to nobody."""
    forget_claim(shelf, reader.lease)
    newer = await replica("other").win()
    score = shelf.score()
    with pytest.raises(LeaseLost):
        await reader.lease.keep(take.step("AgentState_4"))
    assert (shelf.holder(), shelf.score()) == (newer.holder, score)


async def test_a_claim_that_is_known_and_over_marks_nothing(shelf, reader, take):
    """Who handed the lease back, or lost it in order, cannot bring a gap about."""
    lease = reader.forget()
    await lease.release()
    with pytest.raises(LeaseLost):
        await lease.keep(take.step("AgentState_4"))
    assert shelf.score() == shelf.FREE


async def test_cursors_of_before_are_good_on_every_replica(shelf, witness, replica, take):
    """Who resumes behind the lost end gets the gap and the rest, also on a replica that never saw that end."""
    cursor = witness.feed.cursor(3)
    fail_over(shelf)
    await witness.mirror._catch_up("101")
    other = replica("other")
    feed = await other.mirror.follow("101")
    for one, theirs in ((witness, witness.feed), (other, feed)):
        with Subscription(one.hub, theirs, theirs.locate(cursor)) as subscription:
            assert told(take, subscription.take()) == [(4, "LOG_LOST")]


async def test_a_mirror_that_was_behind_a_hole_tells_nothing_twice(shelf, reader, replica, take):
    """A replica that catches up over the place where positions are missing has the same cursors as all others."""
    behind = replica("behind")
    feed = await behind.mirror.follow("101")
    feed.__init__(1000, 600.0, feed.epoch, 0)  # as if it had followed before the first event
    fail_over(shelf)
    for number in (4, 5):
        await reader.lease.keep(take.step(f"AgentState_{number}"))
    assert [position for position, _ in shelf.entries()] == [1, 4, 5, 6]
    for _ in range(3):
        await behind.mirror._catch_up("101")
    events = [one for one in told(take, feed.read(0, 20)) if one[1].startswith("Agent")]
    assert events == [(1, "AgentState_1"), (5, "AgentState_4"), (6, "AgentState_5")]


async def test_a_mirror_that_begins_behind_a_hole_tells_nothing_twice(shelf, reader, replica, take):
    """A replica that reads a log with missing positions gives its events their own cursors."""
    fail_over(shelf)
    await reader.lease.keep(take.step("AgentState_4"))
    fresh = replica("fresh")
    feed = await fresh.mirror.follow("101")
    for _ in range(2):
        await fresh.mirror._catch_up("101")
    events = [one for one in told(take, feed.read(feed.head, 20)) if one[1].startswith("Agent")]
    assert events == [(1, "AgentState_1"), (5, "AgentState_4")]
