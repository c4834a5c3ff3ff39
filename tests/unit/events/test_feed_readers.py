"""How readers of a log wait, wake and end."""

import asyncio

import pytest

from qc_adapter.events.hub import Hub, Subscription
from qc_adapter.events.model import AgentEvent
from qc_adapter.model.errors import Draining, NotSignedIn

EVENT = AgentEvent("AgentEvent_Hold", "101", None, None, 0.0)


@pytest.fixture
def hub():
    return Hub()


def subscribed(hub, agent_id="101"):
    """A reader that begins now."""
    feed = hub.feed(agent_id)
    return Subscription(hub, feed, feed.tail)


async def waiting(subscription, timeout_seconds=5.0, **how):
    """A task that waits already."""
    task = asyncio.create_task(subscription.wait(timeout_seconds, **how))
    await asyncio.sleep(0)
    return task


async def test_an_event_wakes_every_reader(hub):
    """Each reader gets the event, whoever read it first."""
    readers = [subscribed(hub) for _ in range(3)]
    tasks = [await waiting(reader) for reader in readers]
    hub.feed("101").append(EVENT)
    assert await asyncio.gather(*tasks) == [True] * 3
    assert [len(reader.take()) for reader in readers] == [1, 1, 1]


async def test_a_wait_ends_with_its_time(hub):
    """An idle reader gets its turn to send a sign of life."""
    reader = subscribed(hub)
    assert await reader.wait(0.001) is False
    assert await reader.wait(0.0) is False
    assert not hub.feed("101").followed


async def test_a_wait_without_a_deadline_has_no_special_case(hub):
    """Infinity is a time like any other."""
    reader = subscribed(hub)
    task = await waiting(reader, float("inf"))
    hub.feed("101").append(EVENT)
    assert await task is True


async def test_a_cancelled_wait_leaves_nothing(hub):
    """A reader that goes away is not woken any more."""
    task = await waiting(subscribed(hub))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert not hub.feed("101").followed
    hub.feed("101").append(EVENT)


async def test_an_end_comes_after_the_last_event(hub):
    """A reader gets all that was told before it learns of the end, which also holds for those who come later."""
    feed = hub.feed("101")
    reader = subscribed(hub)
    task = await waiting(reader)
    feed.append(EVENT)
    feed.end(NotSignedIn("101"))
    assert await task is True
    assert len(reader.take()) == 1
    with pytest.raises(NotSignedIn):
        await reader.wait(5.0)
    with pytest.raises(NotSignedIn):
        await subscribed(hub).wait(5.0)


async def test_a_reader_may_outlive_the_end(hub):
    """A command whose outcome is open waits on: the end of the session may come before the proof."""
    feed = hub.feed("101")
    feed.end(NotSignedIn("101"))
    task = await waiting(subscribed(hub), to_the_end=False)
    feed.reopen()
    feed.append(EVENT)
    assert await task is True


async def test_reopening_takes_the_end_back(hub):
    """After a new sign-in readers wait for events again."""
    feed = hub.feed("101")
    feed.end(NotSignedIn("101"))
    feed.reopen()
    assert await subscribed(hub).wait(0.001) is False


async def test_draining_ends_present_and_future_readers(hub):
    """Draining is a state, not a signal: who comes after it ends as well, with the cursor to resume from."""
    early = subscribed(hub)
    task = await waiting(early)
    entry = hub.feed("101").append(EVENT)
    hub.drain()
    assert await task is True
    early.take()
    for reader in (early, subscribed(hub)):
        with pytest.raises(Draining) as leaving:
            await reader.wait(5.0)
        assert leaving.value.cursor == entry.cursor


async def test_only_silent_logs_that_nobody_follows_are_forgotten():
    """A log lives while it is young, followed, listened to or polled for."""
    hub = Hub()
    task = await waiting(subscribed(hub))
    hub.feed("102").listeners.add(lambda _entry: None)
    kept = [hub.feed(agent_id) for agent_id in ("101", "102", "103")]
    dropped = hub.feed("104")
    assert hub.prune(-1.0, keep={"103"}.__contains__) == ["104"]
    assert [hub.feed(agent_id) for agent_id in ("101", "102", "103")] == kept
    assert hub.feed("104") is not dropped
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_young_log_is_kept():
    """A reader who comes back soon finds its place."""
    hub = Hub()
    feed = hub.feed("101")
    assert hub.prune(60.0) == []
    assert hub.feed("101") is feed


async def test_a_listener_hears_before_readers_wake(hub):
    """Who decides on an event has decided when its readers see it."""
    feed = hub.feed("101")
    order = []

    async def read():
        await subscribed(hub).wait(5.0)
        order.append("reader")

    task = asyncio.create_task(read())
    await asyncio.sleep(0)
    feed.listeners.add(lambda _entry: order.append("listener"))
    feed.append(EVENT)
    await task
    assert order == ["listener", "reader"]


async def test_an_end_told_many_times_keeps_no_frames(hub):
    """Callers that come back again and again to a lost session leave nothing behind."""
    hub.feed("101").end(NotSignedIn("101"))
    lengths = set()
    for _ in range(20):
        with pytest.raises(NotSignedIn) as ended:
            await subscribed(hub).wait(1.0)
        lengths.add(len(ended.traceback))
    assert len(lengths) == 1
