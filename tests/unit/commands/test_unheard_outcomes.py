"""What became of a command is told to the record when its caller was not told."""

from __future__ import annotations

from contextlib import aclosing

import pytest

TALKING, RECORD = "AgentEvent_Talking", "AgentMediaEvent_Record"


async def taken(desk, **changes):
    """A command that the gateway has taken, and its caller."""
    caller = desk.follow(**changes)
    trip = await desk.gate.arrived()
    trip.go()
    trip.accept()
    await caller.until(1)
    return caller


async def test_a_caller_who_was_told_needs_no_second_record(desk):
    """Of the outcome, or of the refusal."""
    caller = await taken(desk)
    desk.tell(TALKING, RECORD, call_id="7-1")
    await caller.end()
    refused = desk.follow()
    trip = await desk.gate.arrived()
    trip.go()
    trip.refuse("900-003")
    with pytest.raises(Exception, match="900-003"):
        await refused.end()
    assert desk.unheard == []


async def test_a_caller_who_left_before_the_proof_leaves_its_outcome_to_the_record(desk):
    """Told when it is known, once."""
    caller = await taken(desk)
    await caller.leave()
    assert desk.unheard == []
    desk.tell(TALKING, RECORD, call_id="7-1")
    assert desk.unheard == [("intercept", "confirmed")]


async def test_a_caller_who_left_before_it_was_sent_leaves_that_to_the_record(desk):
    """Nothing was sent, and that is certain."""
    caller = desk.follow()
    await desk.gate.arrived()
    await caller.leave()
    await desk.runner.stop(1)
    assert desk.unheard == [("intercept", "not_sent")]


async def test_a_caller_who_reads_nothing_cannot_hide_the_outcome(desk):
    """The outcome was there when he left, and he had not taken it: a stream that is full is not read on."""
    updates = desk.runner.run(desk.command(), desk.Deadline.never())
    async with aclosing(updates):
        first = anext(updates)
        trip_arrived = desk.read(_one(first))
        trip = await desk.gate.arrived()
        trip.go()
        trip.accept()
        await trip_arrived.until(1)
        desk.tell(TALKING, RECORD, call_id="7-1")
        assert desk.unheard == []
    assert desk.unheard == [("intercept", "confirmed")]


async def _one(update):
    yield await update


async def test_a_caller_who_wants_no_outcome_leaves_it_to_the_record(desk):
    """He is told that the gateway took the command; what events prove later stands beside it."""
    caller = await taken(desk, follow=desk.Follow.NONE)
    await caller.end()
    desk.tell(TALKING, RECORD, call_id="7-1")
    assert desk.unheard == [("intercept", "confirmed")]
