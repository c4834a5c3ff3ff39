"""Redis loses everything after a command was sent: its request id still stands for one request, on every replica."""

from __future__ import annotations

import asyncio

import pytest
from grpc import StatusCode

from qc_adapter.simulator import Fault

WHOLE = ["accepted", "AgentEvent_Talking", "AgentMediaEvent_Record", "outcome"]


def assert_not_now(ended):
    """The store relearns: nothing was sent, and waiting helps."""
    assert (ended.code, ended.reason, ended.retry) == (StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE", True), ended
    assert ended.updates == []


async def repeated(caller, **options):
    """Repeat a command until it is not told to wait; return how it ended."""
    async with asyncio.timeout(15):
        while (ended := await caller.ending(caller.intercept(request_id="one", **options))).reason == (
            "STORE_UNAVAILABLE"
        ):
            assert_not_now(ended)
    return ended


@pytest.mark.parametrize("order", [1, -1], ids=["the poller sent", "the other one sent"])
async def test_a_confirmed_command_is_joined_after_redis_lost_everything(cluster, pair, order):
    """Confirmed, then FLUSHALL: the other replica tells of the first request, and sends none of its own."""
    sender, other = pair[::order]
    await sender.listening()
    first = await sender.ending(sender.intercept(request_id="one"))
    assert (first.kinds, first.outcome) == (WHOLE, "CONFIRMED")
    await cluster.write("FLUSHALL")
    again = await repeated(other, confirm_within=0.5)
    assert again.code is StatusCode.OK, again
    assert again.updates[0].accepted == first.updates[0].accepted
    assert sender.puts == 1


async def test_a_refused_command_is_refused_after_redis_lost_everything(cluster, pair):
    """Refused, then FLUSHALL: the other replica refuses in the same words, and sends nothing."""
    sender, other = pair[::-1]
    await sender.listening()
    sender.simulator.add_fault(Fault("retcode", operation="intercept", code="900-005"))
    first = await sender.ending(sender.intercept(request_id="one"))
    assert first.reason == "WRONG_INSPECTION_STATE"
    await cluster.write("FLUSHALL")
    again = await repeated(other)
    assert again == first
    assert sender.puts == 1


async def test_an_unknown_outcome_stays_unknown_after_redis_lost_everything(cluster, pair):
    """OUTCOME_UNKNOWN, then FLUSHALL: unknown on the other replica as well, and nothing is sent."""
    sender, other = pair[::-1]
    await sender.listening()
    sender.simulator.add_fault(Fault("reset_before", operation="intercept"))
    first = await sender.ending(sender.intercept(request_id="one", confirm_within=0.2))
    assert first.reason == "OUTCOME_UNKNOWN"
    await cluster.write("FLUSHALL")
    again = await repeated(other, confirm_within=0.2)
    assert (again.code, again.reason, again.retry) == (StatusCode.UNKNOWN, "OUTCOME_UNKNOWN", False)
    assert sender.puts == 1


async def test_a_command_that_is_out_is_joined_after_redis_lost_everything(cluster, pair, until):
    """FLUSHALL while the gateway has the command: the other replica joins it, and is told of the same receipt."""
    sender, other = pair[::-1]
    await sender.listening()
    await sender.held_poll()
    cluster.gateway.stall(replies_only=True)
    begun = asyncio.create_task(sender.ending(sender.intercept(request_id="one")))
    await until(lambda: sender.puts == 1)
    await cluster.write("FLUSHALL")
    again = asyncio.create_task(repeated(other, confirm_within=0.5))
    async with asyncio.timeout(15):
        while await cluster.write("HGET", "qc:command:101:one", "state") != b"sent":
            pass
    cluster.gateway.flow()
    first, again = await begun, await again
    assert (first.code, first.outcome) == (StatusCode.OK, "CONFIRMED"), first
    assert again.code is StatusCode.OK, again
    assert again.updates[0].accepted == first.updates[0].accepted
    assert sender.puts == 1


async def test_while_redis_relearns_no_command_is_sent_twice(cluster, pair):
    """Right after FLUSHALL each replica is asked again and again: all join, and the gateway has one request."""
    first, second = pair
    await first.listening()
    assert (await second.ending(second.intercept(request_id="one"))).outcome == "CONFIRMED"
    await cluster.write("FLUSHALL")
    endings = await asyncio.gather(*(repeated(one, confirm_within=0.5) for one in (first, second) * 3))
    assert {ended.code for ended in endings} == {StatusCode.OK}
    assert first.puts == 1


async def test_a_new_command_runs_once_redis_has_relearned(cluster, pair):
    """A command with a request id that nobody has used is sent once, as soon as all had time to say what they sent."""
    first, second = pair
    await first.listening()
    await cluster.write("FLUSHALL")
    ended = await repeated(second)
    assert (ended.code, ended.kinds, ended.outcome) == (StatusCode.OK, WHOLE, "CONFIRMED"), ended
    assert first.puts == 1
