"""One inspector's reader: it goes on through everything but the end of the session, and hides nothing."""

import asyncio
import time

import pytest

from qc_adapter.events.leases import PollState, Taken
from qc_adapter.events.reader import BORNE_REFUSALS, PASSING, SIGNED_OUT, Pace, Reader
from qc_adapter.gateway.client import PollReply
from qc_adapter.gateway.envelope import RawEvent
from qc_adapter.model.errors import (
    GatewayMisconfigured,
    GatewayUnavailable,
    NotSignedIn,
    PollFailed,
    SessionLost,
)
from qc_adapter.model.session import Renewal, Secret


async def ended(task):
    """Wait for the end of a reader; returns why it ended."""
    async with asyncio.timeout(5):
        return await task


async def test_events_come_into_the_log_in_order(post):
    """Each reply's events stand in the log before the next poll goes out."""
    await post.start()
    poll = await post.mailbox.arrived()
    poll.bring("AgentState_Busy", "AgentOther_PhoneOffhook")
    poll = await post.mailbox.arrived()
    assert post.told() == ["AgentState_Busy", "AgentOther_PhoneOffhook"]
    poll.bring()
    (await post.mailbox.arrived()).bring("AgentEvent_Talking")
    await post.mailbox.arrived()
    assert post.told()[2:] == ["AgentEvent_Talking"]
    assert post.counts.read == post.told()


async def test_only_one_poll_is_open_and_there_is_a_pause(post):
    """The gateway gives an event to one poll only, and asks for a pause between a reply and the next poll."""
    reader, _ = await post.start(Pace(pause_seconds=3600.0, hold_seconds=7.0))
    poll = await post.mailbox.arrived()
    assert poll.hold_seconds == 7.0
    await post.several_turns()
    assert len(post.mailbox.polls) == 1
    poll.bring("AgentState_Busy")
    await post.until(lambda: reader.state is PollState.ACTIVE)
    await post.several_turns()
    assert len(post.mailbox.polls) == 1


async def test_the_next_poll_uses_the_guid_of_the_last_reply(post):
    """A reply's GUID is stored before its events are out, and signs the next poll."""
    await post.start()
    seen = []
    post.feed.listeners.add(lambda _entry: seen.append(post.store._sessions["101"].guid))
    (await post.mailbox.arrived()).bring("AgentState_Busy", guid="second")
    poll = await post.mailbox.arrived()
    assert poll.session.guid == Secret("second")
    assert seen == [Secret("second")]


async def test_a_guid_of_another_writer_is_taken_up(post):
    """The session is read before each poll: whoever renewed it, the newest GUID counts."""
    await post.start()
    poll = await post.mailbox.arrived()
    await post.store.renew("101", Secret("first"), Renewal(Secret("other")))
    poll.bring()
    assert (await post.mailbox.arrived()).session.guid == Secret("other")


async def test_backoff_doubles_up_to_its_bound(post):
    """Pauses after failures grow from the first to the last one, with jitter of at most half."""
    reader = await post.reader(Pace(first_backoff_seconds=0.5, last_backoff_seconds=5.0))
    pauses = [reader._backoff() for _ in range(2000)]
    for number, pause in enumerate(pauses):
        longest = min(5.0, 0.5 * 2 ** min(number, 4))
        assert longest / 2 <= pause <= longest
    assert max(pauses) < 120 / 2


async def test_an_answer_ends_the_backoff(post):
    """After one answered poll the next failure begins with the short pause again."""
    reader, _ = await post.start()
    for _ in range(4):
        (await post.mailbox.arrived()).fail(GatewayUnavailable("getAgentEvent", "connection refused"))
    poll = await post.mailbox.arrived()
    assert reader.state is PollState.DEGRADED
    assert reader._failures == 4
    assert "refused" in reader.detail
    poll.bring()
    await post.mailbox.arrived()
    assert reader.state is PollState.ACTIVE
    assert reader.detail == ""
    assert reader._failures == 0


@pytest.mark.parametrize(
    ("failure", "gap"),
    [
        (PollFailed("getAgentEvent", "cut", event_may_be_lost=True), True),
        (PollFailed("getAgentEvent", "a page", event_may_be_lost=False), False),
        (GatewayUnavailable("getAgentEvent", "connection refused"), False),
        (GatewayMisconfigured("getAgentEvent", "HTTP 403"), False),
    ],
    ids=["cut", "page", "refused", "misconfigured"],
)
async def test_a_gap_is_told_where_an_event_may_be_lost(post, failure, gap):
    """A failed poll leaves a gap in the log if it may have taken an event along, and only then."""
    reader, _ = await post.start()
    (await post.mailbox.arrived()).fail(failure)
    await post.mailbox.arrived()
    assert post.told() == (["gap"] if gap else [])
    assert post.counts.gaps == (["poll_reply_lost"] if gap else [])
    assert reader.state is PollState.DEGRADED


async def test_a_half_read_reply_brings_its_events_and_a_gap(post):
    """What could be read is kept; what could not is a gap behind it."""
    await post.start()
    (await post.mailbox.arrived()).bring("AgentState_Busy", lost=True)
    await post.mailbox.arrived()
    assert post.told() == ["AgentState_Busy", "gap"]


async def test_a_failed_poll_may_still_bring_a_guid(post):
    """The header of a reply whose body broke off is as good as any."""
    await post.start()
    lost = PollFailed("getAgentEvent", "cut", event_may_be_lost=True, renewal=Renewal(Secret("second")))
    (await post.mailbox.arrived()).fail(lost)
    assert (await post.mailbox.arrived()).session.guid == Secret("second")


async def test_events_of_another_agent_are_dropped(post):
    """An event that names another agent must not reach this inspector's callers; it is counted."""
    await post.start()
    (await post.mailbox.arrived()).bring(RawEvent("AgentEvent_Talking", "102", None), "AgentState_Busy")
    await post.mailbox.arrived()
    assert post.told() == ["AgentState_Busy"]
    assert post.counts.foreign == 1


async def test_an_event_without_an_agent_is_the_inspectors_own(post):
    """BeQcStart is documented without a workNo; a poll is for one inspector, so nothing is lost for the lack of it."""
    await post.start()
    (await post.mailbox.arrived()).bring(RawEvent("AgentOther_BeQcStart", "", {"qcType": 8}))
    await post.mailbox.arrived()
    assert post.told() == ["AgentOther_BeQcStart"]
    assert post.counts.foreign == 0


async def test_news_of_a_monitored_agent_come_through_the_inspectors_log(post):
    """A90: the poll is the inspector's, so the event is its own to read; it is about the monitored agent."""
    await post.start()
    news = {"monitoredagent": 292, "subtype": "QC_AgentState_Talking"}
    (await post.mailbox.arrived()).bring(
        RawEvent("QC_AgentState_Notify", "101", news), RawEvent("QC_AgentState_Notify", "", {"subtype": "x"})
    )
    await post.mailbox.arrived()
    assert [entry.item.work_no for entry in post.feed.read(0, 9)] == ["292", "101"]
    assert post.counts.foreign == 0


# --- refusals


@pytest.mark.parametrize("retcode", ["000-003", "100-006", "000-004", "brand-new"])
async def test_a_refusal_that_came_with_an_event_leaves_a_gap(post, retcode):
    """The code decides, and the event beside it is not hidden: readers are told that some may be missing."""
    _, task = await post.start()
    (await post.mailbox.arrived()).refuse(retcode, lost=True)
    if retcode == "100-006":
        await ended(task)
    else:
        await post.mailbox.arrived()
    assert post.told() == ["gap"]
    assert post.counts.gaps == ["poll_reply_lost"]


async def test_a_refused_guid_is_borne_five_times(post):
    """000-003 may be a renewal under way; the fifth in a row is the end of the session."""
    reader, task = await post.start()
    for _ in range(BORNE_REFUSALS - 1):
        (await post.mailbox.arrived()).refuse("000-003")
    poll = await post.mailbox.arrived()
    assert reader.state is PollState.DEGRADED
    poll.refuse("000-003")
    await ended(task)
    assert reader.state is PollState.LOST
    assert isinstance(post.feed.ended, SessionLost)
    assert post.feed.ended.retcode == "000-003"


async def test_an_answer_between_refusals_starts_the_count_anew(post):
    """Only refusals in a row count."""
    reader, _ = await post.start()
    for _ in range(2):
        for _ in range(BORNE_REFUSALS - 1):
            (await post.mailbox.arrived()).refuse("000-003")
        (await post.mailbox.arrived()).bring()
    await post.mailbox.arrived()
    assert reader.state is PollState.ACTIVE


@pytest.mark.parametrize("retcode", sorted(SIGNED_OUT))
async def test_a_sign_out_is_believed_at_once(post, retcode):
    """When the gateway says that the sign-in is over, no further poll goes out."""
    reader, task = await post.start()
    (await post.mailbox.arrived()).refuse(retcode)
    await ended(task)
    assert reader.state is PollState.LOST
    assert len(post.mailbox.polls) == 1
    assert isinstance(post.feed.ended, SessionLost)


@pytest.mark.parametrize("retcode", ["000-003", "100-006"])
async def test_a_newer_guid_in_the_store_goes_on(post, retcode):
    """A refusal of an outdated GUID is no loss: the reader goes on with the stored one."""
    reader, task = await post.start()
    poll = await post.mailbox.arrived()
    await post.store.renew("101", Secret("first"), Renewal(Secret("second")))
    poll.refuse(retcode)
    poll = await post.mailbox.arrived()
    assert poll.session.guid == Secret("second")
    poll.bring()
    await post.mailbox.arrived()
    assert reader.state is PollState.ACTIVE
    assert not task.done()


async def test_a_guid_in_the_refusal_itself_goes_on_after_a_pause(post):
    """A gateway that refuses and renews each time is not asked without a pause between."""
    reader, _ = await post.start(Pace(pause_seconds=3600.0))
    (await post.mailbox.arrived()).refuse("000-003", guid="second")
    await post.until(lambda: post.store._sessions["101"].guid == Secret("second"))
    await post.several_turns()
    assert len(post.mailbox.polls) == 1
    assert reader.state is not PollState.LOST


@pytest.mark.parametrize("retcode", [*sorted(PASSING), "000-001", "999-999"])
async def test_any_other_refusal_is_passing(post, retcode):
    """A switch-over, an overload or an unknown code is not the end of the sign-in, however often it comes."""
    reader, task = await post.start()
    for _ in range(BORNE_REFUSALS + 2):
        (await post.mailbox.arrived()).refuse(retcode)
    await post.mailbox.arrived()
    assert reader.state is PollState.DEGRADED
    assert not task.done()
    assert post.feed.ended is None


# --- the store is away


async def test_no_poll_starts_while_a_reply_is_in_hand(post):
    """What a reply brought waits for the store, all of it; the next poll waits too, and nothing is told twice."""
    reader, _ = await post.start()
    poll = await post.mailbox.arrived()
    post.store.away = True
    poll.bring("AgentState_Busy", guid="second")
    await post.until(lambda: post.store.asked_while_away >= 3)
    assert post.told() == []
    assert len(post.mailbox.polls) == 1
    assert reader.state is PollState.DEGRADED
    post.store.away = False
    assert (await post.mailbox.arrived()).session.guid == Secret("second")
    assert post.told() == ["AgentState_Busy"]


async def test_a_heartbeat_that_became_due_while_the_store_was_away_goes_out_at_once(post):
    """The gateway counts from the last heartbeat: the time that its reply waited for the store is no pause again."""
    await post.sign_in(source=post.EventSource.PUSH)
    reader, _ = await post.start(Pace(heartbeat_seconds=3600.0, store_backoff_seconds=0.01))
    beat = await post.mailbox.arrived()
    post.store.away = True
    beat.bring(guid="second")
    await post.until(lambda: post.store.asked_while_away >= 3)
    reader.answered_at -= 3600.0
    post.store.away = False
    assert (await post.mailbox.arrived()).session.guid == Secret("second")


async def test_a_refusal_is_not_judged_without_the_store(post):
    """Whether a newer GUID is stored cannot be known while the store is away: the session is not given up."""
    reader, _ = await post.start()
    poll = await post.mailbox.arrived()
    post.store.away = True
    poll.refuse("100-006")
    await post.until(lambda: post.store.asked_while_away >= 3)
    assert reader.state is PollState.DEGRADED
    post.store.away = False
    await post.until(lambda: reader.state is PollState.LOST)


async def test_polling_starts_when_the_store_comes_back(post):
    """A reader that cannot read its session waits for the store."""
    post.store.away = True
    await post.start()
    await post.until(lambda: post.store.asked_while_away >= 3)
    assert post.mailbox.polls == []
    post.store.away = False
    await post.mailbox.arrived()


# --- the end


async def test_a_removed_session_ends_polling_and_the_streams(post):
    """Whoever removes the session, nobody goes on waiting for its events."""
    _, task = await post.start()
    poll = await post.mailbox.arrived()
    await post.store.remove("101")
    poll.bring("AgentOther_ShutdownService")
    await ended(task)
    assert post.told() == ["AgentOther_ShutdownService"]
    assert isinstance(post.feed.ended, NotSignedIn)


async def test_a_session_that_is_not_polled_any_more_ends_polling_only(post):
    """When the events come another way, the streams go on."""
    _, task = await post.start()
    poll = await post.mailbox.arrived()
    await post.sign_in("other", source=post.EventSource.NONE)
    poll.bring()
    await ended(task)
    assert post.feed.ended is None


async def test_a_reader_that_is_to_leave_ends_between_two_polls(post):
    """A lease is handed back when the poll under way has ended and its events are kept: to cut it loses them."""
    reader, task = await post.start()
    poll = await post.mailbox.arrived()
    reader.leave()
    await post.several_turns()
    assert not task.done()
    poll.bring("AgentState_Busy", guid="second")
    assert await ended(task) == "released"
    assert post.told() == ["AgentState_Busy"]
    assert len(post.mailbox.polls) == 1
    [claim] = (await post.rota.beat([], claiming=True)).claims
    assert claim.forced is False


async def test_a_reader_that_is_to_leave_does_not_wait_for_its_pause(post):
    """Between two polls there is nothing to wait for."""
    reader, task = await post.start(Pace(pause_seconds=3600.0))
    (await post.mailbox.arrived()).bring()
    await post.until(lambda: reader.state is PollState.ACTIVE)
    reader.leave()
    assert await ended(task) == "released"


async def test_a_reader_without_a_pause_gives_others_their_turn(post):
    """A gateway that answers each poll at once keeps nobody from the event loop, and the reader from no farewell."""
    answered = []

    async def at_once(_session, *, hold_seconds):
        assert len(answered) < 100, "nobody else had a turn"
        answered.append(PollReply((), None))
        return answered[-1]

    post.mailbox.poll = at_once
    reader, task = await post.start(Pace(pause_seconds=0.0))
    await post.several_turns()
    reader.leave()
    assert await ended(task) == "released"
    assert answered


async def test_a_reader_whose_lease_was_taken_away_keeps_nothing(post):
    """The reply to a poll that somebody else replaced is not told: it is a gap there."""
    _, task = await post.start()
    poll = await post.mailbox.arrived()
    await post.rota.enlist("101", Taken.REPLACED)
    poll.bring("AgentState_Busy")
    assert await ended(task) == "fenced"
    assert post.told() == []


# --- a poll that was cut off


LONG = Pace(pause_seconds=0.0, hold_seconds=3600.0, first_backoff_seconds=0.002, last_backoff_seconds=0.008)


async def test_while_a_cut_off_poll_may_be_held_each_event_has_a_gap_before_it(post):
    """The gateway may give an event to the older poll after this one brought some: order alone proves nothing."""
    reader = Reader(await post.lease(), gateway=post.mailbox, counts=post.counts, pace=LONG, cut_off=True)
    post.tasks.append(asyncio.create_task(reader.run()))
    for events in (("AgentState_Busy",), (), ("AgentState_Ready", "AgentState_Work")):
        (await post.mailbox.arrived()).bring(*events)
    await post.mailbox.arrived()
    assert post.told() == ["gap", "AgentState_Busy", "gap", "AgentState_Ready", "AgentState_Work"]
    assert post.counts.gaps == ["poll_reply_lost"] * 2


async def test_a_poll_without_a_reply_may_be_held_on(post):
    """A failure on our side of the wire does not end the poll at the gateway."""
    await post.start(LONG)
    lost = PollFailed("getAgentEvent", "no reply in time", event_may_be_lost=True, still_held=True)
    (await post.mailbox.arrived()).fail(lost)
    (await post.mailbox.arrived()).bring("AgentState_Busy")
    await post.mailbox.arrived()
    assert post.told() == ["gap", "gap", "AgentState_Busy"]


async def test_the_end_of_the_doubt_is_told_once(post):
    """When the older poll must have ended, one last gap stands for what it may have taken; then all is well."""
    reader, _ = await post.start(LONG)
    lost = PollFailed("getAgentEvent", "no reply in time", event_may_be_lost=False, still_held=True)
    (await post.mailbox.arrived()).fail(lost)
    await post.until(lambda: reader._polling._doubtful_until)
    reader._polling._doubtful_until -= 2 * 3600.0  # so much time goes by
    for events in ((), ("AgentState_Busy",)):
        (await post.mailbox.arrived()).bring(*events)
    await post.mailbox.arrived()
    assert post.told() == ["gap", "AgentState_Busy"]


@pytest.fixture
async def doubting(post):
    """A reader after a poll that may be held on, with the next poll at the gateway."""
    reader, task = await post.start(LONG)
    lost = PollFailed("getAgentEvent", "no reply in time", event_may_be_lost=False, still_held=True)
    (await post.mailbox.arrived()).fail(lost)
    poll = await post.mailbox.arrived()
    return reader, task, poll


async def test_who_doubts_does_not_leave(post, doubting):
    """As long as the older poll may take an event, its reader knows best what is to be told, and polls on."""
    reader, task, poll = doubting
    reader.leave()
    poll.bring()
    (await post.mailbox.arrived()).bring("AgentState_Busy")
    await post.mailbox.arrived()
    assert not task.done()
    assert post.told() == ["gap", "AgentState_Busy"]


AWAY = GatewayUnavailable("getAgentEvent", "connection refused")
MISCONFIGURED = GatewayMisconfigured("getAgentEvent", "HTTP 403")
PAGE = PollFailed("getAgentEvent", "a page", event_may_be_lost=False)


@pytest.mark.parametrize("failure", [AWAY, MISCONFIGURED, PAGE], ids=["away", "misconfigured", "page"])
async def test_a_doubt_is_settled_before_the_lease_is_handed_back(post, failure):
    """The time of the doubt ends while the gateway is away: the next reader knows of no doubt, so the gap is told."""
    reader, task = await post.start(Pace(hold_seconds=3600.0, first_backoff_seconds=0.002, misconfigured_seconds=0.002))
    lost = PollFailed("getAgentEvent", "no reply in time", event_may_be_lost=False, still_held=True)
    (await post.mailbox.arrived()).fail(lost)
    poll = await post.mailbox.arrived()
    reader.leave()
    reader._polling._doubtful_until = time.monotonic() - 1.0  # so much time goes by
    poll.fail(failure)
    assert await ended(task) == "released"
    assert post.told() == ["gap"]
    assert post.counts.gaps == ["poll_reply_lost"]
    assert len(post.mailbox.polls) == 2
    [claim] = (await post.rota.beat([], claiming=True)).claims
    assert claim.forced is False


async def test_a_doubt_that_is_settled_by_the_last_poll_is_told_once(post, doubting):
    """The gap before the last events stands for all that the older poll may have taken."""
    reader, task, poll = doubting
    reader.leave()
    reader._polling._doubtful_until = time.monotonic() - 1.0  # so much time goes by
    poll.bring("AgentState_Busy")
    assert await ended(task) == "released"
    assert post.told() == ["gap", "AgentState_Busy"]


async def test_the_gap_of_a_doubt_waits_for_the_store(post, doubting):
    """The lease is not handed back before the gap is stored."""
    reader, task, poll = doubting
    reader.leave()
    post.store.away = True
    poll.fail(AWAY)
    await post.until(lambda: post.store.asked_while_away >= 2)
    reader._polling._doubtful_until = time.monotonic() - 1.0  # so much time goes by
    await post.until(lambda: post.store.asked_while_away >= 4)
    assert not task.done()
    post.store.away = False
    assert await ended(task) == "released"
    assert post.told() == ["gap"]


async def test_without_a_doubt_nothing_is_told_at_the_end(post):
    """A lease that is handed back in peace leaves no gap."""
    reader, task = await post.start()
    poll = await post.mailbox.arrived()
    reader.leave()
    poll.fail(AWAY)
    assert await ended(task) == "released"
    assert post.told() == []
