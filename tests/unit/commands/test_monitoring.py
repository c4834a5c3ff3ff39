"""Monitoring of more agents than one request names: batches in turn, one stream, and who remembers it."""

import asyncio

import pytest

from qc_adapter.commands.model import Accepted, Command
from qc_adapter.commands.monitoring import BATCH, in_batches, in_turn
from qc_adapter.gateway import requests
from qc_adapter.model.deadline import Deadline
from qc_adapter.model.errors import (
    DeadlineExceeded,
    Draining,
    GatewayRefused,
    GatewayUnavailable,
    OutcomeUnknown,
    RequestIdReused,
    StoreUnavailable,
)

AGENTS = [str(number) for number in range(1000, 1000 + 2 * BATCH + 200)]
HOLD = "AgentEvent_Hold"


def batches(work_nos=AGENTS, build=requests.monitor, **changes):
    whole = Command("101", "", build("101", work_nos), **changes)
    return in_batches(whole, work_nos, lambda part: build("101", part))


def follow(desk, commands, seconds=None):
    deadline = Deadline.never() if seconds is None else Deadline.after(seconds)
    return desk.read(in_turn(desk.runner, commands, deadline))


async def asked(desk):
    trip = await desk.gate.arrived()
    trip.go()
    return trip


def test_agents_are_asked_for_in_batches():
    """At most 500 a request, none left out; ids of later batches are none that a caller can give."""
    first, second, third = batches(request_id="once")
    assert [len(one.work_nos) for one in (first, second, third)] == [BATCH, BATCH, 200]
    assert [*first.work_nos, *second.work_nos, *third.work_nos] == AGENTS
    assert [one.request_id for one in (first, second, third)] == ["once", "once 2", "once 3"]
    assert first.request.query == "agents=" + ";".join(AGENTS[:BATCH])
    assert len(first.request.query) < 4000
    [only] = batches(AGENTS[:BATCH])
    assert (only.request_id, only.part_of) == ("", "")


async def test_batches_go_out_one_after_another_as_one_stream(desk):
    """A receipt for each, every event in its place also between two batches, and one outcome at the end."""
    caller = follow(desk, batches())
    trip = await asked(desk)
    assert len(desk.gate.trips) == 1
    desk.tell(HOLD)
    trip.accept("one")
    trip = await asked(desk)
    assert len(desk.gate.trips) == 2
    trip.accept("two")
    trip = await desk.gate.arrived()
    [between] = desk.tell(HOLD)  # behind the second outcome, before the third sending
    trip.go()
    trip.accept("three")
    updates = await caller.end()
    assert caller.kinds == ["accepted", HOLD, "accepted", HOLD, "accepted", "outcome"]
    assert [one.message for one in updates if isinstance(one, Accepted)] == ["one", "two", "three"]
    assert updates[3].cursor == between.cursor == updates[-1].cursor
    assert updates[-1].verdict.confirmed is None
    assert desk.outcomes == [("beginMonitor", "accepted")] * 3


async def test_what_was_taken_is_remembered_once(desk):
    """Each batch is noted when the gateway has taken it; a repetition that joins notes nothing again."""
    for build in (requests.monitor, requests.stop_monitoring):
        caller = follow(desk, batches(build=build, request_id=build.__name__))
        for _ in range(3):
            (await asked(desk)).accept()
        await caller.end()
        again = follow(desk, batches(build=build, request_id=build.__name__))
        assert await again.end() == caller.updates
    await desk.runner.stop(1)
    assert desk.kept == [
        *(("begin", "101", size) for size in (BATCH, BATCH, 200)),
        *(("end", "101", size) for size in (BATCH, BATCH, 200)),
    ]
    assert len(desk.gate.trips) == 6


async def test_what_cannot_be_remembered_is_taken_all_the_same(desk):
    """The agents are monitored; only a later recovery does not know of them."""
    desk.forgetful = StoreUnavailable("monitored", "away")
    caller = follow(desk, batches(AGENTS[:3]))
    (await asked(desk)).accept()
    await caller.end()
    assert caller.kinds == ["accepted", "outcome"]
    await desk.runner.stop(1)
    assert desk.outcomes == [("beginMonitor", "accepted")]


async def test_a_caller_that_goes_leaves_its_batch_remembered(desk):
    """The batch that is out is taken and noted; the next one is not sent."""
    caller = follow(desk, batches())
    trip = await asked(desk)
    await caller.leave()
    trip.accept()
    await desk.runner.stop(1)
    assert desk.kept == [("begin", "101", BATCH)]
    assert len(desk.gate.trips) == 1


@pytest.mark.parametrize(
    ("failure", "again"),
    [
        (GatewayRefused("beginMonitor", "900-002", ""), ", with another request_id"),
        (OutcomeUnknown("beginMonitor", "beginMonitor was sent and brought no retcode"), ", with another request_id"),
        (GatewayUnavailable("beginMonitor", "away"), ""),
    ],
)
async def test_a_failure_after_the_first_batch_says_what_was_not_done(desk, failure, again):
    """How many were asked, who was not, and that the call may be repeated; the remembered failure stays as it was."""
    message = failure.message
    caller = follow(desk, batches(request_id="once"))
    (await asked(desk)).accept()
    (await asked(desk)).fail(failure)
    with pytest.raises(type(failure)) as raised:
        await caller.end()
    assert raised.value.message == (
        f"{message}; {BATCH} of {len(AGENTS)} agents were asked, those from {AGENTS[BATCH]} on were not or not surely: "
        f"repeating the call does no harm{again}"
    )
    assert failure.message == message
    assert vars(raised.value) == vars(failure) | {"message": raised.value.message}


async def test_a_failure_of_the_first_batch_is_told_as_it_is(desk):
    """Nothing was done: there is nothing to add."""
    caller = follow(desk, batches())
    (await asked(desk)).refuse("900-002")
    with pytest.raises(GatewayRefused) as raised:
        await caller.end()
    assert "agents were asked" not in raised.value.message


async def test_a_deadline_between_batches_is_not_called_unsent(desk):
    """It would be said of the whole call, a part of which was done."""
    caller = follow(desk, batches(), seconds=0.3)
    (await asked(desk)).accept()
    await desk.gate.arrived()  # and never goes out
    with pytest.raises(DeadlineExceeded) as raised:
        await caller.end()
    assert raised.value.outcome == ""
    assert f"{BATCH} of {len(AGENTS)} agents were asked" in raised.value.message


async def test_a_drain_between_batches_can_be_repeated(desk):
    """What was taken is no command that must not be repeated."""
    caller = follow(desk, batches())
    trip = await asked(desk)
    desk.hub.drain()
    trip.accept()
    with pytest.raises(Draining) as raised:
        await caller.end()
    assert raised.value.outcome == ""


async def test_other_agents_are_another_command_though_the_first_batch_is_the_same(desk):
    """A request id names all agents of the call, not the first 500 of them."""
    caller = follow(desk, batches(request_id="once"))
    for _ in range(3):
        (await asked(desk)).accept()
    await caller.end()
    for others in (AGENTS[:-1], AGENTS[:BATCH]):
        with pytest.raises(RequestIdReused, match="'once'"):
            await follow(desk, batches(others, request_id="once")).end()
    await asyncio.sleep(0)
    assert len(desk.gate.trips) == 3
