"""A command that can be repeated keeps the feed that it began in, and nothing of its caller."""

import asyncio
import gc
import weakref
from contextvars import ContextVar

import pytest

from qc_adapter.commands.journal import Journal
from qc_adapter.commands.model import Command
from qc_adapter.commands.run import CommandRun
from qc_adapter.events.hub import Hub
from qc_adapter.gateway import requests

KEPT = ContextVar("kept")


class Thing:
    """What a call has in its context: in life its trace, with a span."""


def a_run(feed, request_id="once"):
    command = Command("101", "292", requests.intercept("101", "292"), request_id)
    return CommandRun(command, feed, lambda _run, _label: None)


async def test_who_repeats_a_command_follows_a_feed_that_lives():
    """A feed that nobody follows stays as long as a command in the journal may be asked for again."""
    hub, journal = Hub(), Journal()
    feed = hub.feed("101")
    run = a_run(feed)
    journal.keep(run)
    assert hub.prune(-1.0) == []
    journal.drop(run)
    assert hub.prune(-1.0) == ["101"]


async def test_a_command_that_is_forgotten_lets_its_feed_go():
    """The oldest ones leave a full journal, and keep nothing any more."""
    hub, journal = Hub(), Journal(capacity=1)
    feed = hub.feed("101")
    journal.keep(a_run(feed, "first"))
    journal.keep(a_run(feed, "second"))
    assert feed.pins == 1


@pytest.mark.parametrize("end", ["confirmed", "refused", "unknown"])
async def test_a_command_that_can_be_repeated_keeps_nothing_of_its_call(desk, end):
    """Its run is kept for ten minutes; the context and the frames of the call that began it, with its span, are not."""

    async def call():
        thing = Thing()
        KEPT.set(thing)
        caller = desk.follow(request_id="once", confirm_within_seconds=0.01 if end == "unknown" else 300.0)
        trip = await desk.gate.arrived()
        trip.go()
        if end == "refused":
            trip.refuse("900-003")
        elif end == "unknown":
            trip.lose()
        else:
            trip.accept()
            await caller.until(1)
            desk.tell("AgentEvent_Talking", "AgentMediaEvent_Record", call_id="7-1")
        await asyncio.gather(caller.end(), return_exceptions=True)
        return weakref.ref(thing), weakref.ref(trip)

    kept = await asyncio.create_task(call())
    for forgotten in (desk.followers, desk.gate.trips):
        forgotten.clear()
    await asyncio.sleep(0)
    gc.collect()
    assert len(desk.runner._journal) == 1
    assert [one() for one in kept] == [None, None]
