"""A failover took the end of a log along: whoever has seen it keeps its positions from being used again."""

from __future__ import annotations

import pytest

from qc_adapter.events.hub import Subscription


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
