"""One command from the caller's request to its outcome, with the gateway's replies and events in every order."""

import asyncio
import time
from types import SimpleNamespace

import pytest

from qc_adapter.events.model import Gap, GapReason
from qc_adapter.gateway import operations
from qc_adapter.gateway.requests import GatewayRequest
from qc_adapter.model.errors import (
    DeadlineExceeded,
    Draining,
    GatewayMisconfigured,
    GatewayRefused,
    GatewayUnavailable,
    NotSignedIn,
    OutcomeUnknown,
    RequestIdReused,
)
from qc_adapter.model.session import Renewal, Secret

TALKING, RECORD = "AgentEvent_Talking", "AgentMediaEvent_Record"
READY, PHONE_RELEASE = "AgentState_Ready", "AgentOther_PhoneRelease"
WITHOUT_EVENTS = GatewayRequest(operations.FORCE_BUSY, "/qualitycontrol/101/forcebusy/292")


async def several_turns():
    """Give every task that can go on the chance to do so."""
    for _ in range(20):
        await asyncio.sleep(0)


# --- the verdict and its time


async def test_events_after_the_reply_confirm(desk):
    """The stream is accepted, the events, and an outcome with the call that the inspector is on."""
    caller = desk.follow()
    trip = await desk.gate.arrived()
    trip.go()
    trip.accept("")
    await caller.until(1)
    desk.tell(TALKING, RECORD, call_id="7-1")
    updates = await caller.end()
    assert caller.kinds == ["accepted", TALKING, RECORD, "outcome"]
    verdict = updates[-1].verdict
    assert (verdict.confirmed, verdict.missing, verdict.call_id) == (True, (), "7-1")
    assert desk.outcomes == [("intercept", "confirmed")]
    assert [method for method, _ in desk.confirmations] == ["intercept"]


async def test_events_before_the_reply_confirm_too(desk):
    """The gateway may tell of the effect before it answers; nothing that came after the sending is lost."""
    caller = desk.follow()
    trip = await desk.gate.arrived()
    trip.go()
    desk.tell(TALKING, RECORD, call_id="7-1")
    await several_turns()
    assert caller.updates == []
    trip.accept()
    await caller.end()
    assert caller.kinds == ["accepted", TALKING, RECORD, "outcome"]


async def test_the_time_to_the_confirmation_is_that_of_the_proof(desk, monkeypatch):
    """It runs from the last sending to the confirming event; what comes later, the receipt too, does not count."""
    now = [50.0]
    for module in ("qc_adapter.commands.run", "qc_adapter.events.feed"):  # the loop keeps its clock
        monkeypatch.setattr(f"{module}.time", SimpleNamespace(monotonic=lambda: now[0], time=time.time))
    caller = desk.follow()
    trip = await desk.gate.arrived()
    now[0] = 60.0
    trip.go()
    now[0] = 60.25
    desk.tell(TALKING, call_id="7-1")
    now[0] = 61.0
    desk.tell(RECORD, call_id="7-1")
    trip.accept()
    await caller.end()
    assert desk.confirmations == [("intercept", 0.25)]


async def test_an_event_before_the_sending_proves_nothing(desk):
    """What came while the command waited for its turn belongs to something else."""
    caller = desk.follow(confirm_within_seconds=0.02)
    trip = await desk.gate.arrived()
    [early] = desk.tell(TALKING, call_id="7-1")
    trip.go()
    trip.accept()
    updates = await caller.end()
    assert caller.kinds == ["accepted", "outcome"]
    assert updates[0].cursor == early.cursor
    assert updates[-1].verdict.confirmed is False
    assert set(updates[-1].verdict.missing) == {TALKING, RECORD}
    assert desk.outcomes == [("intercept", "unconfirmed")]
    assert desk.confirmations == []


async def test_a_call_talked_on_before_proves_nothing(desk):
    """Resuming a held call repeats the confirming event; the new call is the proof."""
    desk.tell(TALKING, call_id="7-1")
    caller = desk.follow()
    trip = await desk.gate.arrived()
    trip.go()
    trip.accept()
    desk.tell(TALKING, RECORD, call_id="7-1")
    await caller.until(3)
    assert desk.outcomes == []
    desk.tell(TALKING, RECORD, call_id="7-2")
    updates = await caller.end()
    assert updates[-1].verdict.call_id == "7-2"


async def test_a_proof_without_the_rest_waits_for_its_time(desk):
    """A confirmed command says after `confirm_within` what else was expected and did not come."""
    caller = desk.follow(confirm_within_seconds=0.02)
    trip = await desk.gate.arrived()
    trip.go()
    trip.accept()
    desk.tell(TALKING, call_id="7-1")
    updates = await caller.end()
    assert updates[-1].verdict.confirmed is True
    assert updates[-1].verdict.missing == (RECORD,)


async def test_the_end_of_the_call_ends_the_waiting(desk):
    """Nothing more can come once the confirmed call is over."""
    caller = desk.follow()
    trip = await desk.gate.arrived()
    trip.go()
    trip.accept()
    desk.tell(TALKING, PHONE_RELEASE, call_id="7-1")
    updates = await caller.end()
    assert caller.kinds == ["accepted", TALKING, PHONE_RELEASE, "outcome"]
    assert updates[-1].verdict.missing == (RECORD,)


async def test_the_outcome_stands_where_it_was_decided(desk):
    """Events behind the decision are not before the outcome, for an early caller and for a later one alike."""
    first = desk.follow(request_id="once")
    trip = await desk.gate.arrived()
    trip.go()
    trip.accept()
    await first.until(1)
    desk.tell(TALKING, RECORD, READY, call_id="7-1")
    await first.end()
    second = desk.follow(request_id="once")
    assert await second.end() == first.updates
    assert first.kinds == ["accepted", TALKING, RECORD, "outcome"]
    assert first.updates[-1].cursor == first.updates[-2].cursor


async def test_an_operation_without_events_is_accepted_and_no_more(desk):
    """Where no event can prove the effect, the outcome says neither confirmed nor unconfirmed."""
    caller = desk.follow(request=WITHOUT_EVENTS)
    trip = await desk.gate.arrived()
    trip.go()
    trip.accept()
    updates = await caller.end()
    assert caller.kinds == ["accepted", "outcome"]
    assert updates[-1].verdict.confirmed is None
    assert desk.outcomes == [("forceBusy", "accepted")]


# --- no retcode came back


async def test_events_settle_an_unknown_outcome(desk):
    """Without a reply there is no `accepted`, and the confirming event is as good."""
    caller = desk.follow()
    trip = await desk.gate.arrived()
    trip.go()
    trip.lose()
    desk.tell(TALKING, RECORD, call_id="7-1")
    updates = await caller.end()
    assert caller.kinds == [TALKING, RECORD, "outcome"]
    assert updates[-1].verdict.confirmed is True
    assert len(desk.gate.trips) == 1


async def test_an_unknown_outcome_stays_unknown_without_proof(desk):
    """When nothing settles it in time the call ends as unknown, and the command is never sent again."""
    caller = desk.follow(confirm_within_seconds=0.02)
    trip = await desk.gate.arrived()
    trip.go()
    trip.lose()
    desk.tell("AgentOther_PhoneAlerting")
    with pytest.raises(OutcomeUnknown):
        await caller.end()
    assert caller.kinds == ["AgentOther_PhoneAlerting"]
    assert desk.outcomes == [("intercept", "unknown")]
    assert len(desk.gate.trips) == 1


async def test_an_unknown_outcome_without_events_ends_at_once(desk):
    """Where no event could settle it, waiting would be of no use."""
    caller = desk.follow(request=WITHOUT_EVENTS)
    trip = await desk.gate.arrived()
    trip.go()
    trip.lose()
    with pytest.raises(OutcomeUnknown):
        await caller.end()


async def test_follow_none_waits_only_for_what_is_unknown(desk):
    """A caller who asked for the receipt alone still learns what became of a lost reply."""
    quick = desk.follow(follow=desk.Follow.NONE)
    trip = await desk.gate.arrived()
    trip.go()
    trip.accept("done")
    await quick.end()
    assert quick.kinds == ["accepted"]
    assert quick.updates[0].message == "done"
    doubtful = desk.follow(follow=desk.Follow.NONE)
    trip = await desk.gate.arrived()
    trip.go()
    trip.lose()
    desk.tell(TALKING, RECORD, call_id="7-2")
    await doubtful.end()
    assert doubtful.kinds == [TALKING, RECORD, "outcome"]


# --- until the call is released


async def test_until_released_goes_on_after_the_outcome(desk):
    """The stream ends with the inspector's part in the call, however long after the outcome."""
    caller = desk.follow(follow=desk.Follow.UNTIL_RELEASED)
    trip = await desk.gate.arrived()
    trip.go()
    trip.accept()
    desk.tell(TALKING, RECORD, call_id="7-1")
    await caller.until(4)
    desk.tell("AgentEvent_Hold", PHONE_RELEASE)
    await caller.end()
    assert caller.kinds == ["accepted", TALKING, RECORD, "outcome", "AgentEvent_Hold", PHONE_RELEASE]


async def test_until_released_ends_with_a_release_that_came_first(desk):
    """A call that was over before the outcome was told is not waited for."""
    caller = desk.follow(follow=desk.Follow.UNTIL_RELEASED)
    trip = await desk.gate.arrived()
    trip.go()
    desk.tell(TALKING, READY, call_id="7-1")
    trip.accept()
    await caller.end()
    assert caller.kinds == ["accepted", TALKING, READY, "outcome"]


async def test_until_released_ends_unconfirmed(desk):
    """A command that was not confirmed has no call whose end could come."""
    caller = desk.follow(follow=desk.Follow.UNTIL_RELEASED, confirm_within_seconds=0.02)
    trip = await desk.gate.arrived()
    trip.go()
    trip.accept()
    await caller.end()
    assert caller.kinds == ["accepted", "outcome"]


async def test_until_released_ends_with_the_session(desk):
    """When the inspector signs out in the call, the stream says so."""
    caller = desk.follow(follow=desk.Follow.UNTIL_RELEASED)
    trip = await desk.gate.arrived()
    trip.go()
    trip.accept()
    desk.tell(TALKING, RECORD, call_id="7-1")
    await caller.until(4)
    desk.feed.end(NotSignedIn("101"))
    with pytest.raises(NotSignedIn):
        await caller.end()


# --- refused, or not sent


@pytest.mark.parametrize("retcode", ["900-003", "000-003", "100-006", "100-008"])
async def test_a_refusal_ends_the_call(desk, retcode):
    """A refused command is told as it was refused; a repetition with its id hears the same."""
    caller = desk.follow(request_id="once")
    trip = await desk.gate.arrived()
    trip.go()
    trip.refuse(retcode)
    with pytest.raises(GatewayRefused) as refused:
        await caller.end()
    assert refused.value.retcode == retcode
    with pytest.raises(GatewayRefused):
        await desk.follow(request_id="once").end()
    assert len(desk.gate.trips) == 1
    assert desk.outcomes == [("intercept", "refused")]


@pytest.mark.parametrize("retcode", ["000-003", "100-006"])
async def test_a_renewed_guid_gets_one_more_try(desk, retcode):
    """A rotation that raced the command is no refusal: it goes out once more with the stored GUID."""
    caller = desk.follow()
    trip = await desk.gate.arrived()
    trip.go()
    await desk.renew("first", "second")
    trip.refuse(retcode)
    again = await desk.gate.arrived()
    assert again.session.guid == Secret("second")
    desk.tell(TALKING, call_id="7-0")
    again.go()
    again.accept()
    desk.tell(TALKING, RECORD, call_id="7-1")
    updates = await caller.end()
    assert updates[-1].verdict.call_id == "7-1"
    assert len(desk.feed.listeners) == 0


async def test_a_renewal_on_its_way_is_waited_for(desk):
    """The newer GUID may reach the store a moment after the refusal."""
    caller = desk.follow(follow=desk.Follow.NONE)
    trip = await desk.gate.arrived()
    trip.go()
    trip.refuse("000-003")
    await several_turns()
    await desk.renew("first", "second")
    again = await desk.gate.arrived()
    again.go()
    again.accept()
    await caller.end()


async def test_there_is_no_third_try(desk):
    """The second refusal is final, even if the GUID has changed again."""
    caller = desk.follow()
    trip = await desk.gate.arrived()
    trip.go()
    await desk.renew("first", "second")
    trip.refuse("000-003")
    again = await desk.gate.arrived()
    again.go()
    await desk.renew("second", "third")
    again.refuse("000-003")
    with pytest.raises(GatewayRefused):
        await caller.end()
    assert len(desk.gate.trips) == 2


async def test_an_unknown_outcome_is_not_tried_again_with_a_newer_guid(desk):
    """Only a refusal proves that nothing was done; a lost reply does not."""
    caller = desk.follow(confirm_within_seconds=0.01)
    trip = await desk.gate.arrived()
    trip.go()
    await desk.renew("first", "second")
    trip.lose()
    with pytest.raises(OutcomeUnknown):
        await caller.end()
    assert len(desk.gate.trips) == 1


@pytest.mark.parametrize("how", ["accept", "refuse"])
async def test_the_guid_of_a_reply_is_stored(desk, how):
    """Any reply may bring the next GUID, also that of a refusal."""
    caller = desk.follow(follow=desk.Follow.NONE)
    trip = await desk.gate.arrived()
    trip.go()
    renewal = Renewal(Secret("second"))
    if how == "accept":
        trip.accept(renewal=renewal)
        await caller.end()
    else:
        trip.refuse("900-003", renewal)
        with pytest.raises(GatewayRefused):
            await caller.end()
    assert (await desk.store.get("101")).guid == Secret("second")


async def test_no_session_is_said_before_anything_is_sent(desk):
    """An inspector without a session cannot command."""
    await desk.store.remove("101")
    with pytest.raises(NotSignedIn):
        await desk.follow().end()
    assert desk.gate.trips == []
    assert desk.outcomes == [("intercept", "not_sent")]


@pytest.mark.parametrize(
    ("failure", "label"),
    [
        (GatewayUnavailable("intercept", "connection refused"), "unavailable"),
        (GatewayMisconfigured("intercept", "HTTP 403"), "not_sent"),
        (DeadlineExceeded("the deadline came before it was sent", "not_sent"), "not_sent"),
    ],
    ids=["unavailable", "misconfigured", "deadline"],
)
async def test_what_was_not_executed_may_be_repeated(desk, failure, label):
    """A command that certainly did nothing is forgotten, so its id runs it anew."""
    caller = desk.follow(request_id="once")
    trip = await desk.gate.arrived()
    trip.fail(failure)
    with pytest.raises(type(failure)):
        await caller.end()
    assert desk.outcomes == [("intercept", label)]
    again = desk.follow(request_id="once", follow=desk.Follow.NONE)
    second = await desk.gate.arrived()
    second.go()
    second.accept()
    await again.end()


# --- several callers of one command


async def test_a_repetition_joins_the_first_run(desk):
    """Callers with one request id see the same updates, and the gateway sees one command."""
    callers = [desk.follow(request_id="once") for _ in range(3)]
    trip = await desk.gate.arrived()
    trip.go()
    trip.accept()
    desk.tell(TALKING, RECORD, call_id="7-1")
    streams = [await caller.end() for caller in callers]
    assert streams[0] == streams[1] == streams[2]
    assert len(desk.gate.trips) == 1
    assert desk.outcomes == [("intercept", "confirmed")]


async def test_each_caller_follows_in_its_own_way(desk):
    """How long a stream goes on is the caller's choice, not the run's."""
    whole = desk.follow(request_id="once", follow=desk.Follow.UNTIL_RELEASED)
    brief = desk.follow(request_id="once", follow=desk.Follow.NONE)
    trip = await desk.gate.arrived()
    trip.go()
    trip.accept()
    await brief.end()
    desk.tell(TALKING, RECORD, READY, call_id="7-1")
    await whole.end()
    assert brief.kinds == ["accepted"]
    assert whole.kinds == ["accepted", TALKING, RECORD, "outcome", READY]


async def test_an_id_with_another_command_is_refused(desk):
    """A request id names one command."""
    first = desk.follow(request_id="once")
    await desk.gate.arrived()
    with pytest.raises(RequestIdReused):
        await desk.follow(request_id="once", request=WITHOUT_EVENTS).end()
    assert not first.task.done()


async def test_without_an_id_each_call_is_a_command(desk):
    """Only an id makes a call a repetition."""
    desk.follow()
    desk.follow()
    await desk.gate.arrived()
    await desk.gate.arrived()
    assert desk.runner.in_flight == 2


async def test_a_caller_behind_the_log_is_told_so(small_desk):
    """Events that left the log before the gateway answered stand in the stream as a gap, from where to where."""
    desk = small_desk
    caller = desk.follow()
    trip = await desk.gate.arrived()
    trip.go()
    desk.tell(*["AgentEvent_Hold"] * 6)
    trip.accept()
    await caller.until(2)
    accepted, missed = caller.updates[:2]
    assert missed.gap == Gap(GapReason.CURSOR_EXPIRED, accepted.cursor, missed.cursor)


async def test_a_gap_of_the_log_stands_in_the_stream(desk):
    """A poll reply that was lost while a command is followed is told to its caller."""
    caller = desk.follow()
    trip = await desk.gate.arrived()
    trip.go()
    trip.accept()
    await caller.until(1)
    desk.feed.append(GapReason.POLL_REPLY_LOST)
    desk.tell(TALKING, RECORD, call_id="7-1")
    await caller.end()
    assert caller.kinds == ["accepted", "POLL_REPLY_LOST", TALKING, RECORD, "outcome"]


async def test_a_late_caller_gets_the_verdict_although_the_log_forgot(small_desk):
    """Who repeats a command after its events are gone from the log still learns what became of it."""
    desk = small_desk
    first = desk.follow(request_id="once")
    trip = await desk.gate.arrived()
    trip.go()
    trip.accept()
    await first.until(1)
    desk.tell(TALKING, RECORD, call_id="7-1")
    await first.end()
    desk.tell(*["AgentEvent_Hold"] * 6)
    late = desk.follow(request_id="once")
    updates = await late.end()
    assert late.kinds == ["accepted", "CURSOR_EXPIRED", "outcome"]
    assert updates[-1].verdict == first.updates[-1].verdict


# --- callers that go away


async def test_the_last_caller_takes_an_unsent_command_with_it(desk):
    """A command that nobody waits for and that was not sent is given up, and its id is free again."""
    callers = [desk.follow(request_id="once") for _ in range(2)]
    trip = await desk.gate.arrived()
    await callers[0].leave()
    await several_turns()
    assert not trip.reply.cancelled()
    await callers[1].leave()
    await several_turns()
    assert trip.reply.cancelled()
    assert desk.runner.in_flight == 0
    assert desk.outcomes == [("intercept", "not_sent")]
    desk.follow(request_id="once")
    assert (await desk.gate.arrived()) is not trip


async def test_a_sent_command_goes_on_without_its_caller(desk):
    """A caller that goes away does not undo a command; a repetition finds its outcome."""
    caller = desk.follow(request_id="once")
    trip = await desk.gate.arrived()
    trip.go()
    await caller.leave()
    trip.accept()
    await several_turns()
    desk.tell(TALKING, RECORD, call_id="7-1")
    assert desk.outcomes == [("intercept", "confirmed")]
    again = desk.follow(request_id="once")
    await again.end()
    assert again.kinds == ["accepted", TALKING, RECORD, "outcome"]


async def test_a_settled_run_leaves_nothing_behind(desk):
    """No listener, task or timer outlives the verdict."""
    caller = desk.follow()
    trip = await desk.gate.arrived()
    trip.go()
    assert len(desk.feed.listeners) == 1
    trip.accept()
    desk.tell(TALKING, RECORD, call_id="7-1")
    await caller.end()
    assert not desk.feed.followed
    assert desk.runner.in_flight == 0


# --- deadlines


async def test_a_deadline_before_the_sending_proves_that_nothing_was_done(desk):
    """The caller learns that the command was not sent; it is given up."""
    caller = desk.follow(seconds=0.02)
    trip = await desk.gate.arrived()
    with pytest.raises(DeadlineExceeded) as late:
        await caller.end()
    assert late.value.outcome == "not_sent"
    await several_turns()
    assert trip.reply.cancelled()


async def test_a_deadline_before_the_reply_leaves_it_open(desk):
    """A sent command may have been executed when the deadline comes."""
    caller = desk.follow(seconds=0.02)
    trip = await desk.gate.arrived()
    trip.go()
    with pytest.raises(DeadlineExceeded) as late:
        await caller.end()
    assert late.value.outcome == "unknown"
    assert not trip.reply.done()


async def test_a_deadline_after_accepted_names_the_cursor(desk):
    """The caller can go on watching from where its stream ended."""
    caller = desk.follow(seconds=0.05)
    trip = await desk.gate.arrived()
    trip.go()
    trip.accept()
    [entry] = desk.tell("AgentEvent_Hold")
    with pytest.raises(DeadlineExceeded) as late:
        await caller.end()
    assert (late.value.outcome, late.value.cursor) == ("unknown", entry.cursor)


async def test_the_reply_gets_a_share_of_the_deadline(desk):
    """Something is left for the events when the gateway answers late."""
    desk.follow(seconds=100.0)
    trip = await desk.gate.arrived()
    assert 70.0 < trip.deadline.remaining_seconds <= 80.0


# --- a replica that goes away


async def test_a_draining_replica_takes_no_command(desk):
    """New commands belong on another replica."""
    desk.hub.drain()
    with pytest.raises(Draining):
        await desk.follow().end()
    assert desk.gate.trips == []


async def test_a_draining_replica_still_answers_a_repetition(desk):
    """What is already known is told, whatever the replica does next."""
    first = desk.follow(request_id="once")
    trip = await desk.gate.arrived()
    trip.go()
    trip.accept()
    desk.tell(TALKING, RECORD, call_id="7-1")
    await first.end()
    desk.hub.drain()
    assert await desk.follow(request_id="once").end() == first.updates


async def test_an_accepted_stream_ends_at_drain_with_its_cursor(desk):
    """The events go on at another replica from the last cursor."""
    caller = desk.follow()
    trip = await desk.gate.arrived()
    trip.go()
    trip.accept()
    [entry] = desk.tell("AgentEvent_Hold")
    await caller.until(2)
    desk.hub.drain()
    with pytest.raises(Draining) as leaving:
        await caller.end()
    assert leaving.value.cursor == entry.cursor


async def test_an_unsent_command_at_the_end_was_not_done(desk):
    """What never went out is safe to repeat elsewhere."""
    caller = desk.follow()
    await desk.gate.arrived()
    await desk.runner.stop(0)
    with pytest.raises(Draining):
        await caller.end()
    assert desk.outcomes == [("intercept", "not_sent")]


async def test_a_sent_command_at_the_end_stays_unknown(desk):
    """A reply that the replica did not wait for is an unknown outcome: nothing invites a second PUT."""
    caller = desk.follow()
    trip = await desk.gate.arrived()
    trip.go()
    await desk.runner.stop(0)
    with pytest.raises(OutcomeUnknown):
        await caller.end()
    assert desk.outcomes == [("intercept", "unknown")]


async def test_an_unknown_outcome_stays_unknown_at_drain(desk):
    """A replica that leaves before the events settled a lost reply does not invite a second PUT either."""
    caller = desk.follow()
    trip = await desk.gate.arrived()
    trip.go()
    trip.lose()
    await several_turns()
    desk.hub.drain()
    with pytest.raises(OutcomeUnknown):
        await caller.end()


async def test_stopping_waits_for_replies(desk):
    """What was sent gets its reply within the grace."""
    caller = desk.follow(follow=desk.Follow.NONE)
    trip = await desk.gate.arrived()
    trip.go()
    stopping = asyncio.create_task(desk.runner.stop(5))
    await several_turns()
    assert not stopping.done()
    trip.accept()
    await stopping
    await caller.end()
