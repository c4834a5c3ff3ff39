"""Commands through the helper: sent once whatever happens to the connection, and each update given once."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest
from grpc import StatusCode

from qc_adapter.client import CallFailed, Follow, OutcomeUnknown
from qc_adapter.simulator import Fault
from qc_adapter.v1 import events_pb2
from qc_adapter.v1 import quality_control_pb2 as qc

WHOLE = ["accepted", "AgentEvent_Talking", "AgentMediaEvent_Record", "outcome"]
ACCEPTED = qc.CommandUpdate(cursor="c-0", accepted=qc.CommandAccepted(method="intercept"))
CONFIRMED = qc.CommandUpdate(cursor="c-2", outcome=qc.CommandOutcome(state=qc.CommandOutcome.CONFIRMED, call_id="1-1"))


def told(number):
    """An event's update."""
    return qc.CommandUpdate(cursor=f"c-{number}", event=events_pb2.AgentEvent(cursor=f"c-{number}", event_type="E"))


def kinds(updates):
    """What the updates are; events by their type."""
    return [one.event.event_type if one.HasField("event") else one.WhichOneof("update") for one in updates]


# --- against a real adapter


async def test_a_confirmed_command_is_a_result(site, client):
    """The result has the receipt, the events, the outcome, and where the events go on."""
    seen = []
    result = await client.intercept("101", "292", on_update=seen.append)
    assert result.confirmed
    assert result.accepted.method == "intercept"
    assert kinds(seen) == WHOLE
    assert [event.event_type for event in result.events] == WHOLE[1:3]
    assert result.cursor == seen[-1].cursor
    assert result.request_id
    assert site.puts == 1


async def test_every_command_of_the_helper_works(site, client):
    """Each method calls the rpc of its name; ending a listening and beginning it again is confirmed."""
    for operation in (client.stop_inspecting, client.listen, client.stop_inspecting):
        assert (await operation("101", "292")).confirmed
    for begin, end in ((client.insert, client.stop_inspecting), (client.whisper, client.stop_whispering)):
        assert (await begin("101", "292")).confirmed
        assert (await end("101", "292")).confirmed


async def test_a_cut_before_the_reply_is_joined(site, client, until):
    """The connection breaks while the gateway works: the call is repeated, the command is not."""
    site.simulator.add_fault(Fault("delay", operation="intercept", seconds=0.5))
    seen = []
    running = asyncio.create_task(client.intercept("101", "292", on_update=seen.append))
    await until(lambda: site.puts == 1)
    site.wire.cut()
    assert (await running).confirmed
    assert kinds(seen) == WHOLE
    assert site.puts == 1


async def test_a_cut_between_two_updates_shows_none_twice(site, client, until):
    """The connection breaks before each event: the joined run is replayed, and every update comes once."""
    for event_type in WHOLE[1:3]:
        site.simulator.add_fault(Fault("lose_event", event_type=event_type))
    request = qc.InterceptRequest(agent_id="101", work_no="292")
    asked = request.SerializeToString()
    events = [{"eventType": "AgentEvent_Hold", "workNo": "101", "content": f"9-{number}"} for number in range(3)]
    events.append({"eventType": "AgentEvent_Talking", "workNo": "101", "content": {"callid": "9-9"}})
    events.append({"eventType": "AgentMediaEvent_Record", "workNo": "101", "content": {"callID": "9-9"}})
    async with client.updates("Intercept", request) as updates:
        seen = [await anext(updates)]
        for event in events:
            waiting = asyncio.create_task(anext(updates))
            before = site.wire.taken
            site.wire.cut()
            await until(lambda before=before: site.wire.taken > before, "a new connection")
            site.simulator.inject("101", event)
            seen.append(await waiting)
        seen += [update async for update in updates]
    assert kinds(seen) == ["accepted", *(event["eventType"] for event in events), "outcome"]
    assert seen[-1].outcome.state == qc.CommandOutcome.CONFIRMED
    assert request.SerializeToString() == asked
    assert site.puts == 1


async def test_a_wait_that_is_cancelled_is_taken_up_again(site, client, until):
    """A reader that gives up waiting and waits again joins its own command."""
    site.simulator.add_fault(Fault("delay", operation="intercept", seconds=0.5))
    updates = client.updates("Intercept", qc.InterceptRequest(agent_id="101", work_no="292"))
    waiting = asyncio.create_task(anext(updates))
    await until(lambda: site.puts == 1)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert kinds([update async for update in updates]) == WHOLE
    assert site.puts == 1


async def test_an_unknown_outcome_has_its_own_error(site, client):
    """Neither reply nor event: the error names the request id and the cursor, and nothing is sent again."""
    site.simulator.add_fault(Fault("reset_after", operation="intercept"))
    site.simulator.add_fault(Fault("lose_event", event_type="AgentEvent_Talking"))
    with pytest.raises(OutcomeUnknown) as failed:
        await client.intercept("101", "292", request_id="mine", confirm_within_seconds=0.3)
    error = failed.value
    assert (error.code, error.reason, error.outcome) == (StatusCode.UNKNOWN, "OUTCOME_UNKNOWN", "unknown")
    assert error.request_id == "mine"
    assert error.cursor
    assert error.retry_after_seconds is None
    assert site.puts == 1


async def test_a_deadline_leaves_a_sent_command_open(site, client):
    """The time is over and the gateway has not answered: unknown, not failed."""
    site.simulator.add_fault(Fault("hang", operation="intercept", seconds=4))
    with pytest.raises(OutcomeUnknown) as failed:
        await client.intercept("101", "292", timeout_seconds=2)
    assert failed.value.code is StatusCode.DEADLINE_EXCEEDED
    assert site.puts == 1


async def test_a_refusal_is_told_and_not_repeated(site, client):
    """The gateway's refusal ends the command, also one that a caller may try again later under a new id."""
    for code, reason in (("900-005", "WRONG_INSPECTION_STATE"), ("000-004", "GATEWAY_SWITCHING_OVER")):
        before = site.puts
        site.simulator.add_fault(Fault("retcode", operation="intercept", code=code))
        with pytest.raises(CallFailed) as failed:
            await client.intercept("101", "292")
        assert (failed.value.reason, failed.value.retcode) == (reason, code)
        assert not isinstance(failed.value, OutcomeUnknown)
        assert site.puts == before + 1
    assert failed.value.retry_after_seconds


async def test_an_unconfirmed_command_is_a_result(site, client):
    """The gateway took it and no event proved it: neither an error nor confirmed."""
    site.simulator.add_fault(Fault("lose_event", event_type="AgentEvent_Talking"))
    result = await client.intercept("101", "292", confirm_within_seconds=0.3)
    assert not result.confirmed
    assert result.outcome.state == qc.CommandOutcome.UNCONFIRMED
    assert result.accepted


async def test_follow_none_ends_with_the_receipt(site, client):
    """Who wants no more than the receipt gets a result without outcome."""
    result = await client.intercept("101", "292", follow=Follow.NONE)
    assert result.accepted
    assert (result.outcome, result.events) == (None, ())


async def test_a_watch_goes_on_where_a_command_ended(site, client):
    """The cursor of a result is one for a watch; real events come through the helper as they are."""
    result = await client.intercept("101", "292")
    for call in site.simulator.state()["calls"]:
        site.simulator.end_call(call["call_id"])
    async with client.watch("101", result.cursor) as watch:
        first = await anext(watch)
        site.wire.cut()
        second = await anext(watch)
    async with client.watch("101", result.cursor) as again:
        assert [await anext(again), await anext(again)] == [first, second]


# --- against replicas that fail as planned


def seen_by(replica):
    """The request ids of the commands that a replica was given."""
    return [request.options.request_id for request in replica.requests]


@pytest.mark.parametrize("way", ["draining", "dead"])
async def test_a_replica_that_goes_away_hands_the_command_over(replicas, open_client, draining, way):
    """The replica drains or dies after the receipt: the call is repeated under the same id until it is settled."""
    last = draining("c-1", "accepted") if way == "draining" else "freeze"
    replicas[0].commands = replicas[1].commands = [[ACCEPTED, told(1), last], [ACCEPTED, told(1), CONFIRMED]]
    client = await open_client(*(replica.port for replica in replicas))
    seen = []
    request = qc.InterceptRequest(agent_id="101", work_no="292")
    async with client.updates("Intercept", request) as updates:
        async for update in updates:
            seen.append(update)
            if update == told(1) and way == "dead":
                await next(replica for replica in replicas if replica.open).stop()
    assert seen == [ACCEPTED, told(1), CONFIRMED]
    first, second = [request.options.request_id for replica in replicas for request in replica.requests]
    assert first == second == updates.request_id
    if way == "dead":  # one that drains may be asked again, and would say so
        assert [len(replica.requests) for replica in replicas] == [1, 1]


async def test_updates_of_a_replay_are_given_once(replica, open_client, status):
    """Receipt, events, gaps and outcome of the first stream are not shown again; later ones are."""
    lost = qc.CommandUpdate(cursor="c-2", gap=events_pb2.Gap(reason="TAKEOVER", to="c-2"))
    forgotten = qc.CommandUpdate(cursor="c-1", gap=events_pb2.Gap(reason="CURSOR_EXPIRED", to="c-1"))
    broken = status(StatusCode.UNAVAILABLE)
    replica.commands = [
        [ACCEPTED, told(1), broken],
        [ACCEPTED, told(1), lost, broken],
        [ACCEPTED, forgotten, lost, told(3), CONFIRMED],
    ]
    client = await open_client(replica.port)
    seen = []
    await client.intercept("101", "292", on_update=seen.append)
    assert seen == [ACCEPTED, told(1), lost, told(3), CONFIRMED]
    assert len(set(seen_by(replica))) == 1


async def test_a_lost_status_after_the_outcome_is_no_failure(replica, open_client, status):
    """All was told: the call is not repeated for its last word."""
    replica.commands = [[ACCEPTED, CONFIRMED, status(StatusCode.UNAVAILABLE)]]
    client = await open_client(replica.port)
    assert (await client.intercept("101", "292")).confirmed
    assert len(replica.requests) == 1


async def test_what_did_nothing_is_tried_again(replica, open_client, status, draining):
    """UNAVAILABLE with RetryInfo, a replica at its limit and one at the door: repeated under the same id."""
    replica.commands = [
        [status(StatusCode.UNAVAILABLE, "GATEWAY_UNAVAILABLE", retry_seconds=0.01)],
        [status(StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS", retry_seconds=0.01)],
        [draining()],
        [ACCEPTED, CONFIRMED],
    ]
    client = await open_client(replica.port)
    assert (await client.intercept("101", "292", request_id="mine")).confirmed
    assert seen_by(replica) == ["mine"] * 4


async def test_what_did_nothing_can_be_told_at_once(replica, open_client, status):
    """For people: without `retry_first_failure` only what may have been sent is joined again."""
    replica.commands = [[status(StatusCode.UNAVAILABLE, "GATEWAY_UNAVAILABLE", retry_seconds=0.01)]]
    client = await open_client(replica.port)
    request = qc.InterceptRequest(agent_id="101", work_no="292")
    with pytest.raises(CallFailed) as failed:
        await anext(client.updates("Intercept", request, retry_first_failure=False))
    assert (failed.value.reason, failed.value.retry_after_seconds) == ("GATEWAY_UNAVAILABLE", 0.01)
    assert len(replica.requests) == 1


@pytest.mark.parametrize("way", ["broken", "after the receipt"])
async def test_a_later_answer_does_not_settle_what_an_earlier_stream_left_open(replica, open_client, status, way):
    """The first stream broke, and the next replica knows nothing of the command: unknown, whatever it says."""
    first = [status(StatusCode.UNAVAILABLE)]
    replica.commands = [
        first if way == "broken" else [ACCEPTED, *first],
        [status(StatusCode.FAILED_PRECONDITION, "INSPECTOR_NOT_SIGNED_IN")],
    ]
    client = await open_client(replica.port)
    with pytest.raises(OutcomeUnknown) as failed:
        await client.intercept("101", "292", request_id="mine")
    assert (failed.value.reason, failed.value.outcome) == ("INSPECTOR_NOT_SIGNED_IN", "unknown")


@pytest.mark.parametrize(
    ("code", "reason"),
    [(StatusCode.PERMISSION_DENIED, "CALLER_NOT_ALLOWED"), (StatusCode.UNAUTHENTICATED, "CALLER_UNKNOWN")],
)
async def test_rights_that_are_lost_say_nothing_of_the_stream_before(replica, open_client, status, code, reason):
    """A policy may change, and a token end, while a command runs: that it may not be joined does not undo it."""
    replica.commands = [[ACCEPTED, status(StatusCode.UNAVAILABLE)], [status(code, reason)]]
    client = await open_client(replica.port)
    with pytest.raises(OutcomeUnknown) as failed:
        await client.intercept("101", "292", request_id="mine")
    assert (failed.value.code, failed.value.outcome) == (code, "unknown")
    replica.commands = [[status(code, reason)]]
    with pytest.raises(CallFailed) as refused:
        await client.intercept("101", "292", request_id="another")
    assert not isinstance(refused.value, OutcomeUnknown)


async def test_a_wrong_request_is_no_unknown_outcome(replica, open_client, status):
    """An answer about the request itself holds for every stream that carried it."""
    replica.commands = [
        [status(StatusCode.UNAVAILABLE)],
        [status(StatusCode.INVALID_ARGUMENT, "INVALID_AGENT_ID")],
    ]
    client = await open_client(replica.port)
    with pytest.raises(CallFailed) as failed:
        await client.intercept("x", "292")
    assert not isinstance(failed.value, OutcomeUnknown)


async def test_a_command_too_old_to_be_joined_is_not_repeated(replica, open_client, status, quick):
    """Adapters forget request ids: then the same call would be a second command."""
    replica.commands = [[ACCEPTED, status(StatusCode.UNAVAILABLE)]]
    client = await open_client(replica.port, timing=dataclasses.replace(quick, joinable_seconds=0.001))
    with pytest.raises(OutcomeUnknown):
        await client.intercept("101", "292", follow=Follow.RELEASED)
    assert len(replica.requests) == 1


async def test_a_confirmed_command_that_breaks_later_is_not_unknown(replica, open_client, status, quick):
    """Followed to the call's end: the error says that the command was CONFIRMED, and where the events go on."""
    replica.commands = [[ACCEPTED, CONFIRMED, status(StatusCode.UNAVAILABLE)]]
    client = await open_client(replica.port, timing=dataclasses.replace(quick, joinable_seconds=0.001))
    with pytest.raises(CallFailed) as failed:
        await client.intercept("101", "292", follow=Follow.RELEASED)
    assert (failed.value.outcome, failed.value.cursor) == ("confirmed", "c-2")
    assert not isinstance(failed.value, OutcomeUnknown)


async def test_a_frozen_replica_does_not_hold_a_command(replica, open_client, quick):
    """Silence before the outcome: the command is joined anew, and the frozen stream is given up."""
    replica.commands = [[ACCEPTED, "freeze"], ["freeze"], [ACCEPTED, CONFIRMED]]
    client = await open_client(replica.port, timing=dataclasses.replace(quick, command_silence_seconds=0.2))
    assert (await client.intercept("101", "292")).confirmed
    assert len(set(seen_by(replica))) == 1


async def test_where_nothing_listens_a_command_ends_with_its_deadline(open_client):
    """It was certainly not sent: not unknown, and it says so."""
    client = await open_client(1)
    with pytest.raises(CallFailed) as failed:
        await client.intercept("101", "292", timeout_seconds=0.3)
    assert failed.value.never_sent
    assert not isinstance(failed.value, OutcomeUnknown)


async def test_cancelling_a_command_leaves_nothing(replica, open_client, until):
    """Neither a task nor an open call."""
    replica.commands = [[ACCEPTED, "freeze"]]
    client = await open_client(replica.port)
    seen = []
    running = asyncio.create_task(client.intercept("101", "292", on_update=seen.append))
    await until(lambda: seen)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert running.cancelled()
    await until(lambda: not replica.open, "the end of the call")
