"""Commands on any replica: once at the gateway, whoever was asked, and whatever became of it."""

from __future__ import annotations

import asyncio

import pytest
from grpc import StatusCode

from qc_adapter.simulator import Fault
from qc_adapter.v1 import quality_control_pb2 as qc
from tests.support.watches import until_told

WHOLE = ["accepted", "AgentEvent_Talking", "AgentMediaEvent_Record", "outcome"]


def assert_whole(ended):
    """The command did what it should."""
    assert (ended.code, ended.kinds, ended.outcome) == (StatusCode.OK, WHOLE, "CONFIRMED"), ended


async def test_a_command_works_where_nobody_polls(pair):
    """A command on another replica than the one that polls is confirmed by the events that the latter reads."""
    _, other = pair
    await other.listening()
    assert_whole(await other.ending(other.intercept()))
    assert other.puts == 1


async def test_a_command_uses_the_guid_that_another_replica_was_given(open_cluster, until):
    """The GUID is renewed by a poll of one replica: the other one, which knew the old one, sends the new one."""
    cluster = await open_cluster()
    caller = cluster.replicas[0]
    await caller.ending(caller.sign_in())
    _, other = await cluster.settled()
    await other.listening()
    await other.held_poll()
    used = (await other.adapter.shared.sessions.get("101")).guid
    cluster.simulator.rotate("101")
    stored = cluster.simulator.guid_of("101")
    async with asyncio.timeout(10):
        while await cluster.stored_guid() != stored:
            pass
    known = other.adapter.shared.sessions._known
    await until(lambda: "101" not in known or known["101"][1].guid != used, "the old GUID forgotten")
    assert_whole(await other.ending(other.intercept()))
    assert [entry.guid for entry in cluster.simulator.requests("intercept")] == ["current"]


@pytest.mark.parametrize("order", [1, -1], ids=["the poller sends", "the other one sends"])
async def test_a_repetition_elsewhere_joins_the_command_that_is_out(pair, until, order):
    """The same request id on two replicas while the request is out: one request, and both see the whole story."""
    first, second = pair[::order]
    await first.listening()
    first.simulator.add_fault(Fault("delay", operation="intercept", seconds=0.3))
    begun = asyncio.create_task(first.ending(first.intercept(request_id="one")))
    await until(lambda: first.puts == 1)
    joined = await second.ending(second.intercept(request_id="one"))
    assert_whole(joined)
    assert (await begun).updates == joined.updates
    assert first.puts == 1


async def test_a_repetition_elsewhere_replays_the_command(pair):
    """The same request id after the end, on the other replica: the same updates, and nothing is sent."""
    first, second = pair
    call_id = await first.listening()
    whole = await first.ending(first.intercept(request_id="one"))
    assert_whole(whole)
    first.simulator.end_call(call_id)
    stream = second.watch(cursor=whole.updates[-1].cursor)
    await until_told(stream, "AgentState_Ready")  # more has happened, and the other replica knows it
    stream.cancel()
    assert (await second.ending(second.intercept(request_id="one"))).updates == whole.updates
    assert first.puts == 1


async def test_a_refusal_is_replayed_elsewhere(pair):
    """A refused command is refused again on the other replica, in the same words, and nothing is sent."""
    first, second = pair
    await first.listening()
    first.simulator.add_fault(Fault("retcode", operation="intercept", code="900-005"))
    refused = [await one.ending(one.intercept(request_id="one")) for one in (first, second)]
    assert refused[0] == refused[1]
    assert refused[0].reason == "WRONG_INSPECTION_STATE"
    assert first.puts == 1


async def test_an_unknown_outcome_is_replayed_elsewhere(pair):
    """OUTCOME_UNKNOWN on one replica is OUTCOME_UNKNOWN on the other, and nothing is sent."""
    first, second = pair
    await first.listening()
    first.simulator.add_fault(Fault("reset_before", operation="intercept"))
    for one in (first, second):
        ended = await one.ending(one.intercept(request_id="one", confirm_within=0.2))
        assert (ended.code, ended.reason, ended.retry) == (StatusCode.UNKNOWN, "OUTCOME_UNKNOWN", False)
    assert first.puts == 1


async def test_a_request_id_names_one_command_on_all_replicas(pair):
    """Another command with the same id is ALREADY_EXISTS REQUEST_ID_REUSED on the other replica too."""
    first, second = pair
    await first.listening()
    assert_whole(await first.ending(first.intercept(request_id="one")))
    for changes in ({"work_no": "293"}, {"call_id": "1-1"}):
        ended = await second.ending(second.intercept(request_id="one", **changes))
        assert (ended.code, ended.reason) == (StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
    assert first.puts == 1


async def test_twins_on_two_replicas_are_one_command(pair):
    """Both replicas get the same request id at the same moment: one of them sends, both tell the whole story."""
    first, second = pair
    await first.listening()
    both = await asyncio.gather(*(one.ending(one.intercept(request_id="twins")) for one in (first, second)))
    for ended in both:
        assert_whole(ended)
    assert first.puts == 1


async def test_what_certainly_was_not_sent_runs_elsewhere(cluster, pair):
    """The gateway refuses connections: UNAVAILABLE, and a repetition on the other replica sends the command."""
    first, second = pair
    await first.listening()
    await first.loses_the_gateway(cluster.gateway)
    ended = await first.ending(first.intercept(request_id="one"))
    assert (ended.code, ended.reason, ended.retry) == (StatusCode.UNAVAILABLE, "GATEWAY_UNAVAILABLE", True)
    await cluster.gateway.accept()
    again = await second.ending(second.intercept(request_id="one"))
    told = [kind for kind in again.kinds if kind != "gap"]  # for all we know the poll that was cut took an event
    assert (again.code, told, again.outcome) == (StatusCode.OK, WHOLE, "CONFIRMED"), again
    assert first.puts == 1


async def gone_while_sending(cluster, sender, until):
    """Let a replica send an intercept, and vanish before it knows the answer."""
    cluster.simulator.add_fault(Fault("delay", operation="intercept", seconds=1.0, after=True))
    call = sender.intercept(request_id="one")
    await until(lambda: sender.puts == 1)
    call.cancel()
    await sender.store.refuse()
    await cluster.stop(sender)


async def test_the_events_decide_when_the_sender_is_gone(cluster, pair, until):
    """The replica that sent is gone without a word: a repetition elsewhere is told the events and CONFIRMED."""
    first, second = pair
    await second.listening()
    await gone_while_sending(cluster, second, until)
    ended = await first.ending(first.intercept(request_id="one"))
    assert (ended.code, ended.kinds, ended.outcome) == (StatusCode.OK, WHOLE[1:], "CONFIRMED")
    assert first.puts == 1


async def test_without_events_it_stays_unknown_when_the_sender_is_gone(cluster, pair, until):
    """Gone without a word, and no event came: OUTCOME_UNKNOWN without RetryInfo, never a second request."""
    first, second = pair
    await second.listening()
    cluster.simulator.add_fault(Fault("lose_event", agent_id="101", times=-1))
    await gone_while_sending(cluster, second, until)
    ended = await first.ending(first.intercept(request_id="one", confirm_within=0.2))
    assert (ended.code, ended.reason, ended.retry) == (StatusCode.UNKNOWN, "OUTCOME_UNKNOWN", False)
    assert first.puts == 1


async def test_the_way_to_follow_belongs_to_the_caller(pair):
    """FOLLOW_NONE on one replica, and the default on the other: each caller is told as much as it asked for."""
    first, second = pair
    await first.listening()
    assert (await first.ending(first.intercept(request_id="one", follow=qc.FOLLOW_NONE))).kinds == ["accepted"]
    assert_whole(await second.ending(second.intercept(request_id="one")))
    assert first.puts == 1
