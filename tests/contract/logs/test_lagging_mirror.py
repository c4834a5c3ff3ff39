"""A replica that hears no notices: a cursor of another replica is looked up before it counts as expired."""

from __future__ import annotations

import pytest

from qc_adapter.events.hub import Subscription
from qc_adapter.model.errors import CursorExpired, NotSignedIn


@pytest.fixture
async def reader(shelf, replica):
    """A replica that polls for inspector 101."""
    shelf.sign_in()
    made = replica("reader")
    made.lease = await made.win()
    return made


@pytest.fixture
async def lagging(replica, reader, take):
    """A replica whose mirror has the first entry of the log, and neither listens nor compares."""
    await reader.lease.keep(take.step("AgentState_1"))
    made = replica("lagging")
    made.feed = await made.mirror.follow("101")
    return made


async def test_a_look_at_redis_finds_the_cursor(reader, lagging, take):
    """What another replica has shown already is there after one look: no gap, and nothing a second time."""
    with Subscription(lagging.hub, lagging.feed, 0) as older:
        assert len(older.take()) == 1
        await reader.lease.keep(take.step("AgentState_2", "AgentState_3"))
        seen = f"{lagging.feed.epoch}-2"
        with pytest.raises(CursorExpired):
            (await lagging.mirror.follow("101")).locate(seen)
        assert await lagging.mirror.follow("101", fresh=True) is lagging.feed
        for _ in range(2):
            with Subscription(lagging.hub, lagging.feed, lagging.feed.locate(seen)) as resumed:
                assert [(entry.cursor, take.short(entry.item)) for entry in resumed.take()] == [
                    (f"{lagging.feed.epoch}-3", "AgentState_3")
                ]
        assert [take.short(entry.item) for entry in older.take()] == ["AgentState_2", "AgentState_3"]
    assert lagging.gaps == []


async def test_news_that_come_after_the_look_are_told_once(shelf, reader, lagging, take):
    """The notices of what was looked up arrive in the end: nothing stands there twice."""
    await reader.lease.keep(take.step("AgentState_2"))
    await lagging.mirror.follow("101", fresh=True)
    lines = b"\n".join(fields[b"e"] for _, fields in shelf.client.xrange("qc:events:101"))
    lagging.mirror.start()
    await take.until(lambda: shelf.client.pubsub_numsub("qc:notice:101")[0][1] == 1)
    shelf.client.publish("qc:notice:101", f"e {lagging.feed.epoch} 0\n".encode() + lines)
    await reader.lease.keep(take.step("AgentState_3"))
    await take.until(lambda: lagging.feed.position == 3)
    assert [take.short(entry.item) for entry in lagging.feed.read(0, 10)] == [f"AgentState_{n}" for n in (1, 2, 3)]
    assert lagging.gaps == []


async def test_a_look_at_what_is_known_changes_nothing(lagging, take):
    """Without news a fresh feed is the feed as it was."""
    for _ in range(3):
        feed = await lagging.mirror.follow("101", fresh=True)
    assert (feed is lagging.feed, feed.position) == (True, 1)
    assert lagging.gaps == []


async def test_a_log_that_nobody_followed_is_fresh_at_once(reader, replica, take):
    """The first reading has all that was in the log."""
    await reader.lease.keep(take.step("AgentState_1", "AgentState_2"))
    feed = await replica("two").mirror.follow("101", fresh=True)
    assert feed.locate(f"{feed.epoch}-2") == 2


async def test_a_look_finds_the_end_as_well(shelf, reader, lagging):
    """Who was signed out elsewhere is signed out here after one look."""
    shelf.sign_out()
    await reader.rota.retire("101")
    assert lagging.feed.ended is None
    assert isinstance((await lagging.mirror.follow("101", fresh=True)).ended, NotSignedIn)


async def test_a_cursor_that_was_never_given_out_has_expired(reader, lagging, take):
    """One look decides: what Redis does not know either leads to the end of the log."""
    await reader.lease.keep(take.step("AgentState_2"))
    feed = await lagging.mirror.follow("101", fresh=True)
    with pytest.raises(CursorExpired) as expired:
        feed.locate(f"{feed.epoch}-3")
    assert expired.value.go_on == f"{feed.epoch}-2"
