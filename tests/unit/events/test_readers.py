"""Which sessions are polled: all that are stored and to be polled, each once, and no others."""

import asyncio

import pytest

from qc_adapter.events.leases import PollState
from qc_adapter.events.reader import Pace
from qc_adapter.gateway.envelope import RawEvent
from qc_adapter.model.errors import NotSignedIn, SessionLost, StoreUnavailable
from qc_adapter.model.session import Secret, Session
from qc_adapter.sessions.orders import SealedOrders


async def test_stored_sessions_are_found(post):
    """Sessions that another system wrote are polled, each by one poller."""
    await post.sign_in("other", "102")
    readers = post.readers()
    readers.start()
    polled = {(await post.mailbox.arrived()).session.agent_id for _ in range(2)}
    assert polled == {"101", "102"}
    await post.look(readers, times=3)
    assert len(post.mailbox.polls) == 2
    assert readers.counts()["default", "starting"] == 2
    assert post.counts.leases == ["won", "won"]
    assert post.counts.held == 2


async def test_a_noticed_session_is_polled_at_once(post):
    """A sign-in through this replica does not wait for the next look, and is polled once."""
    readers = post.readers()
    post.store.listing.clear()  # no look at the store ever ends
    readers.start()
    session = await post.store.get("101")
    await readers.notice(session)
    await readers.notice(session)
    await post.mailbox.arrived()
    await post.several_turns()
    assert len(post.mailbox.polls) == 1
    assert readers.counts()["default", "starting"] == 1


async def test_the_status_is_told_from_the_first_answer_on(post):
    """How polling goes is known for those whose poll was answered, and for nobody else."""
    readers = post.readers()
    readers.start()
    poll = await post.mailbox.arrived()
    assert await readers.statuses(["101", "102"]) == {}
    poll.bring()
    await post.mailbox.arrived()
    [(agent_id, status)] = (await readers.statuses(["101", "102"])).items()
    assert (agent_id, status.state, status.detail) == ("101", PollState.ACTIVE, "")
    assert status.answered_time > 0


async def test_a_new_sign_in_does_not_wait_for_the_poll_of_the_old_one(post):
    """A gateway may hold the older poll for long: it is given up, which is a gap, and the new session is polled."""
    readers = post.readers()
    readers.start()
    older = await post.mailbox.arrived()
    await readers.replaced(await post.sign_in("second"))
    newer = await post.mailbox.arrived()
    assert newer.session.guid.reveal() == "second"
    await post.until(older.reply.cancelled)
    newer.bring("AgentState_Ready")
    await post.mailbox.arrived()
    assert post.told() == ["gap", "AgentState_Ready"]
    assert post.feed.read(0, 1)[0].item.reason == "TAKEOVER"
    assert post.counts.gaps == ["takeover"]


async def test_a_removed_session_is_forgotten(post):
    """When a session is gone from the store its poll is given up and its streams end."""
    readers = post.readers()
    readers.start()
    poll = await post.mailbox.arrived()
    await post.store.remove("101")
    await post.look(readers)
    await post.until(poll.reply.cancelled)
    assert isinstance(post.feed.ended, NotSignedIn)
    assert await readers.statuses(["101"]) == {}
    assert post.told() == []


async def test_a_session_that_came_during_the_look_is_kept(post):
    """A listing that began before a sign-in says nothing about it."""
    await post.store.remove("101")
    readers = post.readers()
    post.store.listing.clear()
    readers.start()
    await post.until(lambda: post.store.lists == 1)
    await readers.notice(await post.sign_in())
    poll = await post.mailbox.arrived()
    post.store.listing.set()
    await post.look(readers, times=2)
    assert not poll.reply.done()
    assert post.feed.ended is None


async def test_a_session_without_events_is_not_polled(post):
    """With event_source none nobody polls, and its log is open for whoever watches."""
    await post.sign_in(source=post.EventSource.NONE)
    post.feed.end(NotSignedIn("101"))
    readers = post.readers()
    readers.start()
    await post.until(lambda: post.counts.leases == ["won", "parked"])
    await post.look(readers, times=3)
    assert post.mailbox.polls == []
    assert post.counts.leases == ["won", "parked"]
    assert post.feed.ended is None


async def test_a_lost_session_is_left_alone_until_its_guid_changes(post):
    """A refused sign-in is not polled again; a new GUID is a new sign-in."""
    readers = post.readers()
    readers.start()
    (await post.mailbox.arrived()).refuse("100-006")
    await post.until(lambda: readers.counts()["default", "lost"] == 1)
    await post.look(readers, times=3)
    assert len(post.mailbox.polls) == 1
    assert isinstance(post.feed.ended, SessionLost)
    assert (await readers.statuses(["101"]))["101"].state is PollState.LOST
    await post.sign_in("second")
    await post.look(readers)
    (await post.mailbox.arrived()).bring("AgentOther_InService")
    await post.mailbox.arrived()
    assert post.feed.ended is None
    assert readers.counts()["default", "lost"] == 0


async def test_a_session_that_is_to_be_signed_in_again_is_not_lost(post):
    """It counts as recovering, its stream stays open, and nobody polls with the forgotten GUID, also when noticed."""
    await post.store.put(Session("101", Secret("first")), SealedOrders("sealed"))
    readers = post.readers()
    readers.start()
    (await post.mailbox.arrived()).refuse("100-006")
    await post.until(lambda: readers.counts()["default", "recovering"] == 1)
    await readers.notice(await post.store.get("101"))
    await post.look(readers, times=3)
    assert len(post.mailbox.polls) == 1
    assert post.feed.ended is None
    assert post.told() == []


async def test_a_lost_session_that_is_adopted_without_events_is_not_lost(post):
    """What polling found out about an older sign-in says nothing about one that is not polled."""
    readers = post.readers()
    readers.start()
    (await post.mailbox.arrived()).refuse("100-006")
    await post.until(lambda: readers.counts()["default", "lost"] == 1)
    await readers.replaced(await post.sign_in("second", source=post.EventSource.NONE))
    await post.until(lambda: post.counts.leases[-1] == "parked")
    assert await readers.statuses(["101"]) == {}
    assert readers.counts()["default", "lost"] == 0
    assert post.feed.ended is None


async def test_a_sign_out_is_no_loss(post):
    """When the gateway refuses the poll of an inspector who is being signed out, nothing is told or counted as lost."""
    readers = post.readers()
    readers.start()
    poll = await post.mailbox.arrived()
    await readers.leaving("101")
    poll.refuse("100-006")
    await post.until(lambda: post.counts.leases == ["won", "session_gone"])
    assert readers.counts()["default", "lost"] == 0
    assert post.feed.ended is None
    await post.store.remove("101")
    await readers.forget("101")
    assert isinstance(post.feed.ended, NotSignedIn)


async def test_a_session_that_is_removed_under_a_poll_is_no_loss(post):
    """When the gateway refuses a poll, or answers it, after the session was removed, it is gone and not lost."""
    for number, end in enumerate((lambda poll: poll.refuse("100-006"), lambda poll: poll.bring("AgentState_Busy"))):
        await post.sign_in(f"guid{number}")
        readers = post.readers()
        readers.start()
        poll = await post.mailbox.arrived()
        await post.store.remove("101")
        end(poll)
        await post.until(lambda: post.counts.leases[-1] == "session_gone")
        assert readers.counts()["default", "lost"] == 0
        assert isinstance(post.feed.ended, NotSignedIn)
        await readers.stop()


async def test_a_defect_in_a_poller_is_healed_by_the_next_look(post):
    """An unforeseen failure ends one poller; the next look starts another, and says what may be missing."""
    readers = post.readers()
    readers.start()
    (await post.mailbox.arrived()).fail(ZeroDivisionError("a defect"))
    (await post.mailbox.arrived()).bring("AgentState_Busy")
    await post.mailbox.arrived()
    assert post.told() == ["gap", "gap", "AgentState_Busy"]  # the poll that broke off may still be held


async def test_the_store_may_be_away_for_a_look(post):
    """Looking goes on when the store comes back."""
    post.store.away = True
    readers = post.readers()
    readers.start()
    await post.until(lambda: post.store.asked_while_away >= 2)
    post.store.away = False
    await post.mailbox.arrived()


async def test_the_only_replica_polls_on_while_it_drains(post):
    """Nobody would take its leases over: events are delivered to the end, and nothing is waited for."""
    readers = post.readers()
    readers.start()
    poll = await post.mailbox.arrived()
    await readers.hand_over(3600.0)
    poll.bring("AgentState_Busy")
    await post.mailbox.arrived()
    assert post.told() == ["AgentState_Busy"]


async def test_stopping_waits_for_every_poller(post):
    """After `stop` no task of the readers is left, also not of an inspector who was just forgotten."""
    await post.sign_in("other", "102")
    before = asyncio.all_tasks()
    readers = post.readers()
    readers.start()
    await post.mailbox.arrived()
    await post.mailbox.arrived()
    await readers.forget("102")
    await readers.stop()
    assert asyncio.all_tasks() == before


async def test_a_forgotten_log_is_not_kept_for_ever(post):
    """The log of an inspector without a session, which nobody follows, goes when its entries are too old."""
    post.hub.retention_seconds = -1.0
    post.hub.feed("102")
    await post.look(post.readers())
    assert post.hub.find("101") is post.feed
    assert post.hub.find("102") is None


async def test_the_oldest_poll_age_is_of_living_sessions(post):
    """A lost session does not make the age of polls grow."""
    readers = post.readers()
    assert readers.oldest_poll_seconds("default") == 0.0
    readers.start()
    (await post.mailbox.arrived()).bring()
    poll = await post.mailbox.arrived()
    await readers.take_census()
    assert 0.0 < readers.oldest_poll_seconds("default") < 60.0
    poll.refuse("100-006")
    await post.until(lambda: readers.counts()["default", "lost"] == 1)
    await readers.take_census()
    assert readers.oldest_poll_seconds("default") == 0.0


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
    await post.until(lambda: readers.counts()["default", "unknown"] == count)
    await post.until(lambda: len(post.told(agents[-1])) == 3)
    for agent_id in agents:
        assert post.told(agent_id) == [f"Event_{agent_id}_{number}" for number in range(3)]


async def test_who_has_no_reader_is_counted(post):
    """A session that nobody claims shows at the second look, and no more when it is read."""
    rota = post.rota
    assert await rota.scan() == {}
    assert await rota.scan() == {"default": 1}
    await post.lease()
    assert await rota.scan() == {}


async def test_unread_sessions_are_told_and_forgotten(post):
    """Each look is told; when the store cannot be looked at nothing is known, and 0 is told."""
    readers = post.readers()
    looks = [{"default": 3}, StoreUnavailable("scan", "away"), {}]

    async def look():
        found = looks.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    told = []
    post.counts.sessions_unread = told.append
    post.rota.scan = look
    readers.start()
    await post.until(lambda: len(told) == 3)
    assert told[:2] == [{"default": 3}, {}]
