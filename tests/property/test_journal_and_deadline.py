"""Remembered commands and the time that is left: small parts, any order of use."""

import asyncio
import math
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qc_adapter.commands.journal import Journal
from qc_adapter.commands.model import Command, Follow
from qc_adapter.commands.run import CommandRun
from qc_adapter.events.feed import Feed
from qc_adapter.gateway import requests
from qc_adapter.model.deadline import Deadline
from qc_adapter.model.errors import RequestIdReused


def a_command(request_id, *, agent_id="101", work_no="292"):
    return Command(agent_id, work_no, requests.intercept(agent_id, work_no), request_id)


def a_run(command):
    return CommandRun(command, Feed(4, 10.0), lambda _run, _label: None)


@given(st.integers(1, 5), st.lists(st.tuples(st.sampled_from("kfd"), st.integers(0, 7)), max_size=30))
def test_the_journal_keeps_the_newest_up_to_its_capacity(capacity, steps):
    """What was kept is found until newer commands push it out or it is dropped."""

    async def play():
        journal = Journal(keep_seconds=1000.0, capacity=capacity)
        expected = {}
        for step, number in steps:
            command = a_command(str(number))
            found = journal.find(command)
            assert found is expected.get(number)
            if step == "k" and found is None:
                expected[number] = a_run(command)
                journal.keep(expected[number])
                while len(expected) > capacity:
                    del expected[next(iter(expected))]
            elif step == "d" and found is not None:
                journal.drop(found)
                journal.drop(a_run(command))
                del expected[number]
            assert len(journal) == len(expected) <= capacity

    asyncio.run(play())


@given(st.integers(0, 7), st.integers(0, 7))
def test_an_id_belongs_to_one_command_of_one_inspector(first, second):
    """The same id with another request is refused; another inspector's id is another id."""

    async def play():
        journal = Journal()
        command = a_command("once", work_no=str(200 + first))
        journal.keep(a_run(command))
        repeated = a_command("once", work_no=str(200 + second))
        if first == second:
            assert journal.find(replace(repeated, follow=Follow.NONE, confirm_within_seconds=1.0)) is not None
        else:
            with pytest.raises(RequestIdReused):
                journal.find(repeated)
        assert journal.find(a_command("once", agent_id="102", work_no=str(200 + first))) is None

    asyncio.run(play())


async def test_an_expired_run_is_forgotten():
    """After its time a request id is free again, also for another command."""
    journal = Journal(keep_seconds=0.0)
    journal.keep(a_run(a_command("once")))
    assert journal.find(a_command("once", work_no="293")) is None
    assert len(journal) == 0


async def test_dropping_forgets_only_the_very_run():
    """A run that sent nothing does not take its successor with it."""
    journal = Journal()
    command = a_command("once")
    first, second = a_run(command), a_run(command)
    journal.keep(first)
    journal.drop(first)
    journal.keep(second)
    journal.drop(first)
    assert journal.find(command) is second


seconds = st.floats(0.0, 1e6)


@given(seconds, seconds)
def test_the_sooner_of_two_deadlines_wins(first, second):
    """`sooner` never moves a deadline later."""
    deadline = Deadline.after(first)
    sooner = deadline.sooner(second)
    assert sooner.at <= deadline.at
    assert sooner.remaining_seconds <= min(first, second) + 1e-6


@given(seconds, st.floats(0.0, 1.0))
def test_a_share_lies_between_now_and_the_deadline(left, part):
    """A share of what is left is never more than what is left."""
    deadline = Deadline.after(left)
    before = time.monotonic()
    share = deadline.share(part)
    assert before <= share.at <= max(deadline.at, time.monotonic()) + 1e-6


@given(st.floats(0.0, 1e6))
def test_a_deadline_in_the_past_has_nothing_left(ago):
    """The time left is never negative, so it can be handed to any timer."""
    deadline = Deadline.after(-ago)
    assert deadline.over
    assert deadline.remaining_seconds == 0.0


@given(st.floats(0.0, 1.0), seconds)
def test_never_stays_never_until_something_limits_it(part, limit):
    """A call without a deadline can be shared and limited like any other."""
    never = Deadline.never()
    assert not never.over
    assert math.isinf(never.share(part).remaining_seconds)
    assert never.sooner(limit).remaining_seconds <= limit
