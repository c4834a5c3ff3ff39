"""Which sessions are polled: all that are stored and to be polled, each once, and no others."""

import asyncio

import pytest

from qc_adapter.events.poller import Pace, PollState
from qc_adapter.gateway.envelope import RawEvent
from qc_adapter.model.errors import NotSignedIn, SessionLost


async def test_stored_sessions_are_found(post):
    """Sessions that another system wrote are polled, each by one poller."""
    await post.sign_in("other", "102")
    readers = post.readers()
    readers.start()
    polled = {(await post.mailbox.arrived()).session.agent_id for _ in range(2)}
    assert polled == {"101", "102"}
    seen = post.store.lists
    await post.until(lambda: post.store.lists > seen + 3)
    assert len(post.mailbox.polls) == 2
    assert readers.counts()[PollState.STARTING] == 2


async def test_a_noticed_session_is_polled_at_once(post):
    """A sign-in through this replica does not wait for the next look, and is polled once."""
    readers = post.readers(look_seconds=3600.0)
    session = await post.store.get("101")
    readers.notice(session)
    readers.notice(session)
    await post.mailbox.arrived()
    await post.several_turns()
    assert len(post.mailbox.polls) == 1
    assert readers.status("101").state is PollState.STARTING
    assert readers.status("102") is None


async def test_a_new_sign_in_does_not_wait_for_the_poll_of_the_old_one(post):
    """A gateway may hold the older poll for long: it is given up, which is a gap, and the new session is polled."""
    readers = post.readers(look_seconds=3600.0)
    readers.notice(await post.store.get("101"))
    older = await post.mailbox.arrived()
    readers.replaced(await post.sign_in("second"))
    newer = await post.mailbox.arrived()
    assert newer.session.guid.reveal() == "second"
    await post.until(older.reply.cancelled)
    newer.bring("AgentState_Ready")
    await post.mailbox.arrived()
    assert post.told() == ["gap", "AgentState_Ready"]


async def test_a_removed_session_is_forgotten(post):
    """When a session is gone from the store its poll is given up and its streams end."""
    readers = post.readers()
    readers.start()
    poll = await post.mailbox.arrived()
    await post.store.remove("101")
    await post.until(poll.reply.cancelled)
    assert isinstance(post.feed.ended, NotSignedIn)
    assert readers.status("101") is None


async def test_a_session_that_came_during_the_look_is_kept(post):
    """A listing that began before a sign-in says nothing about it."""
    await post.store.remove("101")
    readers = post.readers()
    post.store.listing.clear()
    readers.start()
    await post.until(lambda: post.store.lists == 1)
    readers.notice(await post.sign_in())
    poll = await post.mailbox.arrived()
    post.store.listing.set()
    await post.until(lambda: post.store.lists >= 3)
    assert not poll.reply.done()
    assert post.feed.ended is None


async def test_a_session_without_events_is_not_polled(post):
    """With event_source none nobody polls, and its log is open for whoever watches."""
    await post.sign_in(source=post.EventSource.NONE)
    post.feed.end(NotSignedIn("101"))
    readers = post.readers()
    readers.start()
    await post.until(lambda: post.store.lists >= 3)
    assert post.mailbox.polls == []
    assert post.feed.ended is None


async def test_a_lost_session_is_left_alone_until_its_guid_changes(post):
    """A refused sign-in is not polled again; a new GUID is a new sign-in."""
    readers = post.readers()
    readers.start()
    (await post.mailbox.arrived()).refuse("100-006")
    await post.until(lambda: readers.counts()[PollState.LOST] == 1)
    seen = post.store.lists
    await post.until(lambda: post.store.lists > seen + 3)
    assert len(post.mailbox.polls) == 1
    assert isinstance(post.feed.ended, SessionLost)
    await post.sign_in("second")
    (await post.mailbox.arrived()).bring("AgentOther_InService")
    await post.mailbox.arrived()
    assert post.feed.ended is None
    assert readers.counts()[PollState.LOST] == 0


async def test_a_lost_session_that_is_adopted_without_events_is_not_lost(post):
    """What polling found out about an older sign-in says nothing about one that is not polled."""
    readers = post.readers()
    readers.start()
    (await post.mailbox.arrived()).refuse("100-006")
    await post.until(lambda: readers.counts()[PollState.LOST] == 1)
    readers.notice(await post.sign_in("second", source=post.EventSource.NONE))
    assert readers.status("101") is None
    assert post.feed.ended is None


async def test_a_defect_in_a_poller_is_healed_by_the_next_look(post, monkeypatch):
    """An unforeseen failure ends one poller; the next look starts another."""
    readers = post.readers()
    readers.start()
    (await post.mailbox.arrived()).fail(ZeroDivisionError("a defect"))
    (await post.mailbox.arrived()).bring("AgentState_Busy")
    await post.mailbox.arrived()
    assert post.told() == ["AgentState_Busy"]


async def test_the_store_may_be_away_for_a_look(post):
    """Looking goes on when the store comes back."""
    post.store.away = True
    readers = post.readers()
    readers.start()
    await post.until(lambda: post.store.asked_while_away >= 3)
    post.store.away = False
    await post.mailbox.arrived()


async def test_a_draining_replica_begins_no_poll(post):
    """A session that comes while this replica leaves is another one's."""
    readers = post.readers()
    post.hub.drain()
    readers.notice(await post.store.get("101"))
    await post.several_turns()
    assert post.mailbox.polls == []


async def test_stopping_waits_for_every_poller(post):
    """After `stop` no task of the readers is left, also not of an inspector who was just forgotten."""
    await post.sign_in("other", "102")
    readers = post.readers()
    readers.start()
    await post.mailbox.arrived()
    await post.mailbox.arrived()
    readers.forget("102")
    await readers.stop()
    left = [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith(("poller", "readers"))]
    assert left == []


async def test_the_oldest_poll_age_is_of_living_sessions(post):
    """A lost session does not make the age of polls grow."""
    readers = post.readers()
    assert readers.oldest_poll_seconds() == 0.0
    readers.start()
    (await post.mailbox.arrived()).bring()
    poll = await post.mailbox.arrived()
    assert 0.0 < readers.oldest_poll_seconds() < 60.0
    poll.refuse("100-006")
    await post.until(lambda: readers.counts()[PollState.LOST] == 1)
    assert readers.oldest_poll_seconds() == 0.0


@pytest.mark.parametrize("count", [50])
async def test_many_inspectors_do_not_mix(post, count):
    """Each inspector's events stand in its own log, in its own order."""
    agents = [str(200 + number) for number in range(count)]
    await post.store.remove("101")
    for agent_id in agents:
        await post.sign_in(f"guid-{agent_id}", agent_id)
    readers = post.readers(pace=Pace(pause_seconds=3600.0))
    readers.start()
    polls = [await post.mailbox.arrived() for _ in agents]
    for poll in polls:
        assert poll.session.guid.reveal() == f"guid-{poll.session.agent_id}"
        mine = poll.session.agent_id
        poll.bring(*(RawEvent(f"Event_{mine}_{number}", mine, None) for number in range(3)))
    await post.until(lambda: readers.counts()[PollState.ACTIVE] == count)
    for agent_id in agents:
        assert post.told(agent_id) == [f"Event_{agent_id}_{number}" for number in range(3)]
