"""Every replica shows the same log: same entries, same cursors, same gaps, whatever it missed."""

from __future__ import annotations

import asyncio

import pytest

from qc_adapter.events.feed import OLDEST
from qc_adapter.events.hub import Subscription
from qc_adapter.events.leases import PollState, Taken
from qc_adapter.model.errors import CursorExpired, NotSignedIn, SessionLost, StoreUnavailable
from qc_adapter.store.opening import open_link


def told(take, feed, after=0):
    """What a feed holds behind a sequence, with cursors."""
    return [(entry.cursor, take.short(entry.item)) for entry in feed.read(max(after, feed.head), 1000)]


def names(take, feed, after=0):
    return [name for _, name in told(take, feed, after)]


@pytest.fixture
async def reader(shelf, replica):
    """A replica that polls for inspector 101."""
    shelf.sign_in()
    made = replica("reader")
    made.lease = await made.win()
    return made


@pytest.fixture
async def watching(replica, take):
    """Makes replicas that listen and compare."""

    async def make(name, **terms):
        made = replica(name, **terms)
        made.mirror.start()
        await take.until(lambda: made.mirror.listening)
        return made

    return make


async def test_a_log_is_read_when_somebody_follows_it(reader, replica, take):
    """A replica that never heard of the inspector shows all that the log keeps, at the log's own cursors."""
    await reader.lease.keep(take.step("AgentState_Busy", "AgentState_Ready"))
    feed = await replica("two").mirror.follow("101")
    epoch = feed.epoch
    assert told(take, feed) == [(f"{epoch}-1", "AgentState_Busy"), (f"{epoch}-2", "AgentState_Ready")]
    assert feed.locate("") == 2
    assert feed.locate(OLDEST) == 0
    assert feed.locate(f"{epoch}-1") == 1


async def test_the_calls_before_are_known(reader, replica, take):
    """A command on a replica that just began to follow must not take an older call for its own."""
    talking = take.event("AgentEvent_Talking", content={"callid": "7-1"})
    await reader.lease.keep(take.step(talking))
    assert (await replica("two").mirror.follow("101")).talking == {"7-1"}


async def test_an_inspector_without_entries_has_a_log_with_a_name(shelf, replica):
    """Two replicas that ask first agree on the name of a log that begins."""
    shelf.sign_in()
    one, two = [await replica(name).mirror.follow("101") for name in ("one", "two")]
    assert one.cursor(0) == two.cursor(0)


async def test_many_who_follow_at_once_share_one_reading(reader, replica):
    """The feed of an inspector is one, also for those who come while it is read; one who leaves harms nobody."""
    two = replica("two")
    tasks = [asyncio.create_task(two.mirror.follow("101")) for _ in range(5)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    first, *feeds = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(first, asyncio.CancelledError)
    assert len({id(feed) for feed in feeds}) == 1


async def test_a_log_that_cannot_be_read_is_no_empty_log(replica, own_redis_server):
    """Without the store nobody is told that there is nothing."""
    two = replica("two")
    await two.link.close()
    with pytest.raises(StoreUnavailable):
        await two.mirror.follow("101")
    assert two.hub.find("101") is None


async def test_all_replicas_show_the_same(reader, watching, take):
    """News reach every replica that follows, in order, with the same cursors, and so they do the reader's own."""
    reader.mirror.start()
    others = [await watching(name) for name in ("two", "three")]
    feeds = [await one.mirror.follow("101") for one in (reader, *others)]
    brought = [f"AgentState_{number}" for number in range(20)]
    for number in range(0, 20, 2):
        await reader.lease.keep(take.step(*brought[number : number + 2]))
    for feed in feeds:
        await take.until(lambda feed=feed: feed.position == 20)
    assert [told(take, feed) for feed in feeds] == [
        [(f"{feeds[0].epoch}-{number + 1}", name) for number, name in enumerate(brought)]
    ] * 3
    assert [one.gaps for one in (reader, *others)] == [[], [], []]


async def test_a_takeover_reaches_those_who_watch(shelf, reader, watching, take):
    """The gap that a forced takeover leaves stands in every stream."""
    two = await watching("two")
    feed = await two.mirror.follow("101")
    shelf.expire("101")
    reader.forget()
    await two.beat()
    await take.until(lambda: names(take, feed) == ["TAKEOVER"])
    gap = feed.read(0, 1)[0].item
    assert (gap.from_cursor, gap.to_cursor) == (f"{feed.epoch}-0", f"{feed.epoch}-1001")


async def test_a_broken_subscription_loses_nothing(shelf, reader, watching, take):
    """What was told while the connection for notices was down is read from the log."""
    two = await watching("two")
    feed = await two.mirror.follow("101")
    shelf.client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    await reader.lease.keep(take.step("AgentState_Busy"))
    await take.until(lambda: names(take, feed) == ["AgentState_Busy"])
    await take.until(lambda: two.mirror.listening)
    await reader.lease.keep(take.step("AgentState_Ready"))
    await take.until(lambda: names(take, feed) == ["AgentState_Busy", "AgentState_Ready"])
    assert two.gaps == []


async def test_after_a_broken_subscription_channels_are_heard_again(shelf, reader, watching, take):
    """Channels that were added later are subscribed to anew as well, and what is cached is asked for again."""
    two = await watching("two")
    await two.mirror.follow("101")
    subscribers = lambda: shelf.client.pubsub_numsub("qc:notice:101")[0][1]  # noqa: E731
    await take.until(lambda: subscribers() == 1)
    shelf.client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    two.changed.clear()
    await take.until(lambda: subscribers() == 1 and "101" in two.changed)


async def test_without_notices_the_comparison_finds_all(reader, watching, take):
    """A replica that hears nothing at all is behind by one comparison, and misses nothing."""
    two = await watching("two")
    two.mirror._loops[0].cancel()
    await take.until(lambda: not two.mirror.listening)
    feed = await two.mirror.follow("101")
    for name in ("AgentState_Busy", "AgentState_Ready"):
        await reader.lease.keep(take.step(name))
    await take.until(lambda: names(take, feed) == ["AgentState_Busy", "AgentState_Ready"])


async def test_a_log_that_was_trimmed_under_a_replica_has_a_gap(shelf, replica, take):
    """What a slow replica did not see any more is said to be missing, to whom had read all too; then it goes on."""
    shelf.sign_in()
    one, two = replica("one", capacity=3), replica("two", capacity=3)
    lease = await one.win()
    await lease.keep(take.step("AgentState_1"))
    feed = await two.mirror.follow("101")
    with Subscription(two.hub, feed, feed.tail) as subscription:
        for number in range(2, 8):
            await lease.keep(take.step(f"AgentState_{number}"))
        two.mirror.start()
        await take.until(lambda: feed.position == 7)
        found = [(entry.cursor, take.short(entry.item)) for entry in subscription.take()]
    epoch = feed.epoch
    assert found == [(f"{epoch}-5", "CURSOR_EXPIRED"), (f"{epoch}-6", "AgentState_6"), (f"{epoch}-7", "AgentState_7")]
    assert two.gaps == ["cursor_expired"]
    assert feed.locate(f"{epoch}-1") == feed.head  # the gap comes next
    assert feed.locate(f"{epoch}-5") == feed.tail - 2


async def test_the_gap_of_a_trimmed_log_says_from_where_to_where(shelf, replica, take):
    """A reader in the middle of the log gets the gap before what is kept."""
    shelf.sign_in()
    one, two = replica("one", capacity=3), replica("two")
    lease = await one.win()
    await lease.keep(take.step("AgentState_1"))
    feed = await two.mirror.follow("101")
    with Subscription(two.hub, feed, feed.tail) as subscription:
        for number in range(2, 8):
            await lease.keep(take.step(f"AgentState_{number}"))
        await two.mirror._catch_up("101")
        gap, *events = subscription.take()
    assert gap.item.reason == "CURSOR_EXPIRED"
    assert (gap.item.from_cursor, gap.item.to_cursor) == (f"{feed.epoch}-1", f"{feed.epoch}-4")
    assert [take.short(entry.item) for entry in events] == ["AgentState_5", "AgentState_6", "AgentState_7"]


async def test_a_redis_that_lost_everything_is_a_gap(shelf, reader, watching, take):
    """Streams say that the log was lost, go on with the new one, and cursors of the old one are refused."""
    reader.mirror.start()
    two = await watching("two")
    feeds = [await one.mirror.follow("101") for one in (reader, two)]
    await reader.lease.keep(take.step("AgentState_Busy"))
    await take.until(lambda: feeds[1].position == 1)
    older = feeds[1].cursor(1)
    shelf.client.flushall()
    await reader.lease.keep(take.step("AgentState_Ready"))
    for feed in feeds:
        await take.until(lambda feed=feed: names(take, feed)[-1] == "AgentState_Ready")
        assert names(take, feed) == ["AgentState_Busy", "LOG_LOST", "AgentState_Ready"]
        with pytest.raises(CursorExpired):
            feed.locate(older)
    assert feeds[0].cursor(3) == feeds[1].cursor(3) == f"{shelf.head()['epoch']}-1"
    assert two.gaps == ["log_lost"]


async def test_the_end_and_the_new_begin_of_a_session_reach_every_replica(shelf, reader, watching, take):
    """Streams end with the session wherever they are, and a new sign-in opens the log for all."""
    two = await watching("two")
    feed = await two.mirror.follow("101")
    assert await reader.lease.end(take.step().used, "100-006", "") is PollState.LOST
    reader.forget()
    await take.until(lambda: isinstance(feed.ended, SessionLost))
    assert feed.ended.retcode == "100-006"
    shelf.sign_in(guid="second")
    await reader.rota.enlist("101", Taken.REPLACED)
    await take.until(lambda: feed.ended is None)
    shelf.sign_out()
    await reader.rota.retire("101")
    await take.until(lambda: isinstance(feed.ended, NotSignedIn))
    shelf.sign_in(guid="third")
    assert (await two.mirror.follow("101")).ended is None  # before any look at the records
    assert shelf.score() == shelf.FREE


async def test_whoever_follows_a_lost_session_is_told_so(reader, replica, take):
    """A replica that begins to follow afterwards knows how the session ended."""
    await reader.lease.end(take.step().used, "000-003", "")
    feed = await replica("two").mirror.follow("101")
    assert isinstance(feed.ended, SessionLost)
    assert feed.ended.retcode == "000-003"


async def test_a_changed_session_is_told(shelf, reader, watching, take):
    """Whoever changes a session through us is heard of by those who follow: no command uses an old GUID for long."""
    two = await watching("two")
    await two.mirror.follow("101")
    await take.until(lambda: shelf.client.pubsub_numsub("qc:notice:101")[0][1] == 1)
    two.changed.clear()
    await reader.lease.keep(take.step(guid="second"))
    await take.until(lambda: two.changed == ["101"])


async def test_a_log_that_nobody_follows_is_dropped(shelf, reader, watching, take):
    """A while after the last call the replica neither keeps the log nor listens; a reader keeps it."""
    shelf.sign_in("102")
    two = await watching("two")
    idle, read = await two.mirror.follow("101"), await two.mirror.follow("102")
    await take.until(lambda: shelf.client.pubsub_numsub("qc:notice:101")[0][1] == 1)
    with Subscription(two.hub, read, 0):
        idle.touched_at -= 3600.0
        read.touched_at -= 3600.0
        await take.until(lambda: two.hub.find("101") is None)
        await take.until(lambda: shelf.client.pubsub_numsub("qc:notice:101")[0][1] == 0)
        assert two.hub.find("102") is read
    await reader.lease.keep(take.step("AgentState_Busy"))
    again = await two.mirror.follow("101")
    assert again is not idle
    assert names(take, again) == ["AgentState_Busy"]


async def test_notices_that_make_no_sense_are_left_alone(shelf, reader, watching, take):
    """What another system publishes on our channels, or a broken entry, stops nothing."""
    two = await watching("two")
    feed = await two.mirror.follow("101")
    for notice in (b"", b"e", b"\xff\xfe", b"e x y", b"e 0 5\n{}", b"zz 1 2 3"):
        shelf.client.publish("qc:notice:101", notice)
    shelf.client.publish("qc:replica:two", b"\xff")
    await reader.lease.keep(take.step("AgentState_Busy"))
    await take.until(lambda: names(take, feed) == ["AgentState_Busy"])
    assert two.mirror.listening


async def test_a_notice_that_comes_twice_or_late_changes_nothing(shelf, reader, watching, take):
    """Entries are known by their position."""
    two = await watching("two")
    feed = await two.mirror.follow("101")
    await reader.lease.keep(take.step("AgentState_Busy", "AgentState_Ready"))
    await take.until(lambda: feed.position == 2)
    lines = b"\n".join(fields[b"e"] for _, fields in shelf.client.xrange("qc:events:101"))
    notice = f"e {feed.epoch} 0\n".encode() + lines
    for _ in range(3):
        shelf.client.publish("qc:notice:101", notice)
    await reader.lease.keep(take.step("AgentState_Work"))
    await take.until(lambda: feed.position == 3)
    assert names(take, feed) == ["AgentState_Busy", "AgentState_Ready", "AgentState_Work"]


async def test_stopping_leaves_no_task(redis_url, replica, take):
    """After `stop` nothing of the mirror runs or listens."""
    before = asyncio.all_tasks()
    two = replica("two")
    two.mirror.start()
    await take.until(lambda: two.mirror.listening)
    await two.mirror.follow("101")
    await two.mirror.stop()
    assert not two.mirror.listening
    await two.link.close()  # a command that was under way is the link's, which reads its reply
    assert asyncio.all_tasks() == before


async def test_a_mirror_waits_for_a_redis_that_is_away(replica, own_redis_server, take):
    """A replica that starts before its Redis listens as soon as there is one, and hears after a restart too."""
    two = replica("two")
    two.link = two.mirror._link = two.mirror._notices._link = open_link(own_redis_server.url)
    own_redis_server.stop()
    two.mirror.start()
    own_redis_server.start()
    await take.until(lambda: two.mirror.listening)
    own_redis_server.stop()
    await take.until(lambda: not two.mirror.listening)
    own_redis_server.start()
    await take.until(lambda: two.mirror.listening)


async def test_another_replica_that_listens_is_told_at_once(shelf, watching, take):
    """Whether the one that polls listens itself or not, an event reaches the feeds of the others with a notice."""
    shelf.sign_in()
    one, two = await watching("one"), await watching("two")
    lease = await one.win()
    await lease.keep(take.step())
    feed = await two.mirror.follow("101")
    await take.until(lambda: shelf.client.pubsub_numsub("qc:notice:101")[0][1] == 1)
    before = shelf.client.info("commandstats")["cmdstat_publish"]["calls"]
    await lease.keep(take.step("AgentState_Busy"))
    await take.until(lambda: names(take, feed) == ["AgentState_Busy"])
    await one.mirror.follow("101")
    await take.until(lambda: shelf.client.pubsub_numsub("qc:notice:101")[0][1] == 2)
    await lease.keep(take.step("AgentState_Ready"))
    await take.until(lambda: names(take, feed) == ["AgentState_Busy", "AgentState_Ready"])
    assert shelf.client.info("commandstats")["cmdstat_publish"]["calls"] == before + 2
