"""How very many streams wait, and are woken."""

import asyncio

import pytest

from qc_adapter.events import pacing as pacing_module
from qc_adapter.events.hub import Hub, Subscription
from qc_adapter.events.model import AgentEvent
from qc_adapter.events.pacing import WOKEN_AT_ONCE
from qc_adapter.model.errors import Draining, NotSignedIn

EVENT = AgentEvent("AgentEvent_Hold", "101", None, None, 0.0)
MANY = 4 * WOKEN_AT_ONCE


@pytest.fixture
def hub():
    return Hub()


def subscribed(hub, agent_id="101"):
    """A reader that begins now."""
    feed = hub.feed(agent_id)
    return Subscription(hub, feed, feed.tail)


async def waiting(hub, count, agent_id="101", seconds=15.0):
    """Tasks of so many streams, all of which wait already."""

    async def wait():
        return await subscribed(hub, agent_id).wait_about(seconds)

    tasks = [asyncio.create_task(wait()) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


def ended(tasks):
    """How many of them have ended."""
    return sum(task.done() for task in tasks)


async def test_an_event_wakes_many_streams_a_few_at_a_time(hub):
    """Between two handfuls of them whatever else is ready has its turn, and in the end all are awake."""
    tasks = await waiting(hub, MANY)
    hub.feed("101").append(EVENT)
    seen = []
    while ended(tasks) < MANY:
        await asyncio.sleep(0)
        seen.append(ended(tasks))
    assert len(seen) >= MANY // WOKEN_AT_ONCE
    assert max(after - before for before, after in zip([0, *seen], seen, strict=False)) <= WOKEN_AT_ONCE
    assert await asyncio.gather(*tasks) == [True] * MANY


async def test_a_command_does_not_wait_for_the_streams(hub):
    """Whoever waits for the proof of a command is awake before the streams have all been woken."""
    tasks = await waiting(hub, MANY)
    command = asyncio.create_task(subscribed(hub).wait(5.0))
    await asyncio.sleep(0)
    hub.feed("101").append(EVENT)
    assert await command is True
    assert ended(tasks) < MANY
    await asyncio.gather(*tasks)


async def test_events_of_other_inspectors_go_on_between(hub):
    """A stream of another inspector is woken behind a large group, not never."""
    many = await waiting(hub, MANY)
    (other,) = await waiting(hub, 1, "102")
    hub.feed("101").append(EVENT)
    hub.feed("102").append(EVENT)
    assert await other is True
    await asyncio.gather(*many)


async def test_draining_wakes_every_stream(hub):
    """All of them end, whatever they follow; those that come later do not begin to wait."""
    tasks = [task for agent_id in range(101, 101 + MANY) for task in await waiting(hub, 1, str(agent_id))]
    hub.drain()
    assert await asyncio.gather(*tasks) == [True] * MANY
    with pytest.raises(Draining):
        subscribed(hub).wait_about(15.0)


async def test_a_stream_of_an_ended_log_does_not_wait(hub):
    """The end is told at once."""
    hub.feed("101").end(NotSignedIn("101"))
    with pytest.raises(NotSignedIn):
        subscribed(hub).wait_about(15.0)


async def test_one_timer_ends_the_waits_of_all_when_their_time_comes(hub, monkeypatch):
    """Long waits end by the time although none has a timer of its own; the timer rests when nobody waits."""
    monkeypatch.setattr(pacing_module, "GRAIN_SECONDS", 0.01)
    monkeypatch.setattr(pacing_module, "_SHORTEST_SECONDS", 0.02)
    tasks = await waiting(hub, MANY, seconds=0.05)
    assert await asyncio.gather(*tasks) == [False] * MANY
    async with asyncio.timeout(5):
        while hub.pacing._timer is not None:  # noqa: ASYNC110 - the condition is in another party's state
            await asyncio.sleep(0.005)
    (again,) = await waiting(hub, 1, seconds=0.05)
    assert await again is False


async def test_a_short_wait_keeps_its_time(hub):
    """What is too short for the timer of all has its own."""
    (task,) = await waiting(hub, 1, seconds=0.01)
    assert hub.pacing._timer is None
    assert await task is False


@pytest.mark.parametrize("woken", [False, True])
async def test_a_stream_that_goes_away_leaves_nothing(hub, woken):
    """One that is cancelled, also while it is just to be woken, is held nowhere, and the others are woken."""
    tasks = await waiting(hub, MANY)
    if woken:
        hub.feed("101").append(EVENT)
    for task in tasks[1:]:
        task.cancel()
    await asyncio.wait(tasks[1:])
    hub.feed("101").append(EVENT)
    assert await tasks[0] is True
    await asyncio.sleep(0)
    assert not hub.feed("101").followed
    assert not any(hub.pacing._due.values())
    assert not hub.pacing._woken
