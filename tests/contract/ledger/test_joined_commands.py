"""A command that is repeated on another replica joins the first: one request, one truth for both callers."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field

import pytest

from qc_adapter.commands.journal import Journal
from qc_adapter.commands.ledger import RedisLedger
from qc_adapter.commands.model import Accepted, Command, Outcome, Told
from qc_adapter.commands.runner import CommandRunner
from qc_adapter.gateway import requests
from qc_adapter.gateway.client import Receipt
from qc_adapter.model.deadline import Deadline
from qc_adapter.model.errors import Draining, GatewayRefused, NotSignedIn, OutcomeUnknown, RequestIdReused
from qc_adapter.sessions.keeper import GuidKeeper
from qc_adapter.store.generation import Generation

TALKING, RECORD = "AgentEvent_Talking", "AgentMediaEvent_Record"


@dataclass
class Trip:
    """A command that reached the gateway: the test decides what comes back."""

    by: str
    reply: asyncio.Future = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Caller:
    """Reads a command's stream to its end and keeps what it got."""

    def __init__(self, updates):
        self.updates = []
        self.task = asyncio.create_task(self._read(updates))

    async def _read(self, updates):
        async with aclosing(updates):
            async for update in updates:
                self.updates.append(update)

    async def end(self):
        """Wait for the end of the stream; raises what it ended with."""
        async with asyncio.timeout(10):
            await self.task
        return self.kinds

    @property
    def kinds(self):
        """The stream in short."""
        names = {Accepted: lambda _: "accepted", Told: lambda told: told.event.event_type}
        return [names.get(type(update), lambda _: "outcome")(update) for update in self.updates]


class Office:
    """A replica that runs commands."""

    def __init__(self, replica, trips):
        self.replica = replica
        self.trips = trips
        self.outcomes = []
        self.confirmations = []
        self.callers = []
        self.runner = self.new_runner()

    def new_runner(self):
        """A runner that remembers nothing."""
        replica = self.replica
        return CommandRunner(
            gateway=self,
            sessions=replica.store,
            keeper=GuidKeeper(replica.store),
            hub=replica.hub,
            journal=Journal(),
            counts=self,
            follows=replica.mirror,
            ledger=RedisLedger(replica.link, replica.name, Generation()),
        )

    async def send(self, _session, _request, _deadline, on_send):
        """Stands for the gateway's client."""
        trip = Trip(self.replica.name)
        on_send()
        self.trips.put_nowait(trip)
        return await trip.reply

    def command_outcome(self, _gateway, _method, outcome):
        self.outcomes.append(outcome)

    def command_confirmed(self, _gateway, _method, seconds):
        self.confirmations.append(seconds)

    def call(self, work_no="292", request_id="once", seconds=300.0, build=requests.intercept):
        command = Command("101", work_no, build("101", work_no), request_id, confirm_within_seconds=seconds)
        made = Caller(self.runner.run(command, Deadline.never()))
        self.callers.append(made)
        return made


@pytest.fixture
def trips():
    """The commands that reached the gateway."""
    return asyncio.Queue()


@pytest.fixture
async def offices(shelf, replica, take, trips):
    """Two replicas, the first of which polls for inspector 101."""
    shelf.sign_in()
    made = [Office(replica(name), trips) for name in ("one", "two")]
    for office in made:
        office.replica.mirror.start()
        await take.until(lambda office=office: office.replica.mirror.listening)
    made[0].lease = await made[0].replica.win()
    await made[1].replica.beat()
    yield made
    for office in made:
        for caller in office.callers:
            caller.task.cancel()
            await asyncio.gather(caller.task, return_exceptions=True)
        await office.runner.stop(0)


async def arrived(trips):
    async with asyncio.timeout(10):
        return await trips.get()


def talking(take, call_id="7-1"):
    return take.step(take.event(TALKING, content={"callid": call_id}), take.event(RECORD, content={"callid": call_id}))


async def test_a_repetition_elsewhere_sees_the_same_and_sends_nothing(offices, trips, take):
    """Both callers get the receipt, the events and the outcome; the gateway got one request, counted once."""
    one, two = offices
    first = one.call()
    trip = await arrived(trips)
    second = two.call()
    trip.reply.set_result(Receipt("fine", None, None, 1_700_000_000.5))
    await take.until(lambda: first.updates and second.updates)
    await one.lease.keep(talking(take))
    expected = ["accepted", TALKING, RECORD, "outcome"]
    assert [await first.end(), await second.end()] == [expected, expected]
    assert [update.cursor for update in first.updates] == [update.cursor for update in second.updates]
    assert first.updates[-1] == second.updates[-1]
    assert trips.empty()
    assert one.outcomes + two.outcomes == ["confirmed"]
    assert len(one.confirmations + two.confirmations) == 1


async def test_a_repetition_after_the_end_gets_the_whole_story(offices, trips, take):
    """What happened before the repetition is told from the log, and the outcome is the same."""
    one, two = offices
    first = one.call()
    (await arrived(trips)).reply.set_result(Receipt("fine", None, None, 1_700_000_000.5))
    await take.until(lambda: first.updates)
    await one.lease.keep(talking(take))
    await first.end()
    second = two.call()
    assert await second.end() == ["accepted", TALKING, RECORD, "outcome"]
    assert second.updates[-1].verdict.call_id == "7-1"
    assert trips.empty()


async def test_a_call_of_before_confirms_no_repetition_either(offices, trips, take):
    """The calls that the inspector was on when the command was sent are none of its effects, on any replica."""
    one, two = offices
    await one.lease.keep(talking(take, "7-0"))
    first = one.call(seconds=0.3)
    (await arrived(trips)).reply.set_result(Receipt("fine", None, None, 1_700_000_000.5))
    await take.until(lambda: first.updates)
    await one.lease.keep(talking(take, "7-0"))
    await first.end()
    second = two.call(seconds=0.3)
    await second.end()
    assert [caller.updates[-1].verdict.confirmed for caller in (first, second)] == [False, False]


async def test_a_refusal_is_repeated_as_it_is(offices, trips):
    """A command that the gateway refused is not tried again for its repetition."""
    one, two = offices
    first = one.call()
    (await arrived(trips)).reply.set_exception(GatewayRefused("intercept", "100-015", "no right", None))
    for caller in (first, two.call()):
        with pytest.raises(GatewayRefused) as refused:
            await caller.end()
        assert refused.value.retcode == "100-015"
    assert trips.empty()


async def test_what_was_not_sent_is_run_by_the_repetition(shelf, offices, trips, take):
    """When the first replica could not send, the second one does."""
    one, two = offices
    shelf.sign_out()
    with pytest.raises(NotSignedIn):
        await one.call().end()
    shelf.sign_in()
    second = two.call()
    trip = await arrived(trips)
    assert trip.by == "two"
    trip.reply.set_result(Receipt("fine", None, None, 1_700_000_000.5))
    await take.until(lambda: second.updates)


async def test_a_replica_that_died_leaves_its_command_to_the_events(shelf, offices, trips, take):
    """Nobody sends again what may have been sent; an event that proves it confirms it."""
    one, two = offices
    one.call()
    await arrived(trips)
    shelf.silence("one")
    second = two.call()
    await one.lease.keep(talking(take))
    assert await second.end() == [TALKING, RECORD, "outcome"]
    assert second.updates[-1].verdict.confirmed is True
    assert trips.empty()


async def test_without_a_proof_the_outcome_stays_unknown(shelf, offices, trips):
    """When the first replica died and nothing comes, the repetition is told so, and may not repeat blindly."""
    one, two = offices
    one.call()
    await arrived(trips)
    shelf.silence("one")
    with pytest.raises(OutcomeUnknown):
        await two.call(seconds=0.1).end()
    assert trips.empty()


async def test_an_unknown_outcome_is_unknown_to_both(offices, trips, take):
    """The doubt of the first replica is the doubt of the second, and one event settles it for both."""
    one, two = offices
    first = one.call()
    (await arrived(trips)).reply.set_exception(OutcomeUnknown("intercept", "intercept was sent and brought no retcode"))
    second = two.call()
    await take.until(lambda: one.runner.in_flight == 0)
    await one.lease.keep(talking(take))
    for caller in (first, second):
        assert await caller.end() == [TALKING, RECORD, "outcome"]
        assert isinstance(caller.updates[-1], Outcome)


async def test_another_command_with_the_same_id_is_refused_everywhere(offices, trips):
    """An id names one command, whichever replica it comes to."""
    one, two = offices
    one.call()
    await arrived(trips)
    with pytest.raises(RequestIdReused):
        await two.call(work_no="293").end()
    assert trips.empty()


async def test_a_drained_replica_lets_the_repetition_run(offices, trips, take):
    """A replica that goes away before it has sent leaves nothing behind that would hinder the next one."""
    one, two = offices
    one.replica.hub.drain()
    with pytest.raises(Draining):
        await one.call().end()
    second = two.call()
    (await arrived(trips)).reply.set_result(Receipt("fine", None, None, 1_700_000_000.5))
    await take.until(lambda: second.updates)


async def test_of_many_repetitions_at_once_one_is_sent(offices, trips, take):
    """Callers that retry on every replica at the same moment bring one request."""
    callers = [offices[number % 2].call() for number in range(10)]
    (await arrived(trips)).reply.set_result(Receipt("fine", None, None, 1_700_000_000.5))
    await take.until(lambda: all(caller.updates for caller in callers))
    await offices[0].lease.keep(talking(take))
    for caller in callers:
        assert (await caller.end())[-1] == "outcome"
    assert trips.empty()


FORCED = "AgentState_Force_SetNotReady"


def forced(take):
    """The inspected agent is told that an inspector made it busy."""
    return take.step(take.event(FORCED, "292"), agent_id="292")


async def test_the_proof_of_an_agent_is_the_same_on_all_replicas(shelf, offices, trips, take):
    """Who joins sees what the inspected agent was told since the sending, also when that agent has left since."""
    one, two = offices
    shelf.sign_in("292")
    agent = await two.replica.win("292")
    await agent.keep(forced(take))  # by somebody else, before
    first = one.call(build=requests.force_busy)
    trip = await arrived(trips)
    second = two.call(build=requests.force_busy)
    trip.reply.set_result(Receipt("fine", None, None, 1_700_000_000.5))
    await take.until(lambda: first.updates and second.updates)
    await agent.keep(forced(take))
    assert [await first.end(), await second.end()] == [["accepted", "outcome"]] * 2
    verdicts = [caller.updates[-1].verdict for caller in (first, second)]
    assert [verdict.confirmed for verdict in verdicts] == [True, True]
    cursors = {verdict.proof.cursor for verdict in verdicts}
    assert len(cursors) == 1
    shelf.sign_out("292")
    two.runner = two.new_runner()
    late = two.call(build=requests.force_busy)
    await late.end()
    assert late.updates[-1].verdict.proof.cursor in cursors
    assert trips.empty()


async def test_an_agent_that_signs_in_later_proves_nothing_to_who_joins(shelf, offices, trips, take):
    """Where the first replica saw no session of the agent, the outcome is open on every replica."""
    one, two = offices
    first = one.call(build=requests.force_busy)
    (await arrived(trips)).reply.set_result(Receipt("fine", None, None, 1_700_000_000.5))
    await first.end()
    shelf.sign_in("292")
    agent = await two.replica.win("292")
    await agent.keep(forced(take))
    second = two.call(build=requests.force_busy)
    await second.end()
    assert [caller.updates[-1].verdict.confirmed for caller in (first, second)] == [None, None]


async def test_an_agent_settles_what_a_dead_replica_has_sent(shelf, offices, trips, take):
    """The replica that sent is gone without a word; the agent's own event says that it was done."""
    one, two = offices
    shelf.sign_in("292")
    agent = await two.replica.win("292")
    one.call(build=requests.force_busy)
    await arrived(trips)
    shelf.silence("one")
    second = two.call(build=requests.force_busy)
    await agent.keep(forced(take))
    assert await second.end() == ["outcome"]
    assert second.updates[-1].verdict.confirmed is True
    assert trips.empty()
