"""Commands that Redis forgot: each replica enters what it may have sent, and until then nobody may send by mistake."""

from __future__ import annotations

import asyncio

import pytest

from qc_adapter.commands.journal import Journal
from qc_adapter.commands.ledger import RedisLedger, State
from qc_adapter.commands.model import Command
from qc_adapter.commands.run import CommandRun
from qc_adapter.commands.runner import CommandRunner
from qc_adapter.gateway import requests
from qc_adapter.gateway.client import Receipt
from qc_adapter.model.deadline import Deadline
from qc_adapter.model.errors import GatewayRefused, OutcomeUnknown, StoreUnavailable
from qc_adapter.sessions.keeper import GuidKeeper

KEY = "qc:command:101:once"
RECEIPT = Receipt("fine", None, None, 1_700_000_000.5)


class Office:
    """A replica that knows which data Redis has, and what it sent itself."""

    def __init__(self, replica):
        self.replica = replica
        self.generation = replica.rota._book.generation
        self.ledger = RedisLedger(replica.link, replica.name, self.generation)
        self.journal = Journal()
        self.runner = CommandRunner(
            gateway=None,
            sessions=replica.store,
            keeper=GuidKeeper(replica.store),
            hub=replica.hub,
            journal=self.journal,
            counts=None,
            follows=replica.mirror,
            ledger=self.ledger,
        )
        self.generation.when_forgotten(self.runner.enter_anew)

    async def run(self):
        """A command on its way, not entered yet."""
        feed = await self.replica.mirror.follow("101")
        command = Command("101", "292", requests.intercept("101", "292"), "once", confirm_within_seconds=0.0)
        return CommandRun(command, feed, lambda _run, _label: None)

    async def take(self, run=None):
        """Enter a command; what stands there if somebody else did."""
        return await self.ledger.take(run or await self.run(), Deadline.after(5.0))

    async def sent(self):
        """A command that was entered and went out, as a caller of this replica began it."""
        run = await self.run()
        assert await self.take(run) is None
        run.mark_sent()
        self.journal.keep(run)
        return run


@pytest.fixture
async def offices(shelf, replica):
    """Two replicas that live, and whose Redis counts as relearning for longer than any test."""
    shelf.sign_in()
    made = [Office(replica(name, respite_seconds=3600.0)) for name in ("one", "two")]
    for office in made:
        await office.replica.beat()
    yield made
    for office in made:
        await office.runner.stop(5.0)


async def assert_relearning(office, run=None):
    """The store says that it cannot know yet."""
    with pytest.raises(StoreUnavailable, match="lost its data"):
        await office.take(run)


async def test_before_anybody_noticed_nothing_is_entered(shelf, offices):
    """An empty Redis has another name, or none: whoever knows the old one does not take it for a free field."""
    shelf.client.flushall()
    for office in offices:
        await assert_relearning(office)
    assert shelf.client.keys("qc:command:*") == []


async def test_until_all_had_their_time_nothing_is_entered(shelf, offices):
    """Who knows the new name still waits for those who have not entered their commands yet."""
    one, two = offices
    shelf.client.flushall()
    await one.replica.beat()
    assert one.generation.name == shelf.client.get("qc:store").decode()
    assert 3_000_000 < shelf.client.pttl("qc:relearning") <= 3_600_000
    for office in (one, two):
        await assert_relearning(office)
    await two.replica.beat()
    await assert_relearning(two)


async def test_after_that_commands_run_again(shelf, offices):
    """When all have been asked, an id that nobody entered is free."""
    one, two = offices
    shelf.client.flushall()
    for office in offices:
        await office.replica.beat()
    shelf.client.delete("qc:relearning")  # as if its time were over
    assert await two.take() is None
    assert (await one.take()).state is State.SENT


async def test_a_redis_in_order_is_not_relearning(shelf, offices):
    """Replicas that come and beat put nobody off."""
    for _ in range(3):
        for office in offices:
            await office.replica.beat()
    assert not shelf.client.exists("qc:relearning")
    assert await offices[0].take() is None


async def test_time_for_relearning_ends_by_itself(shelf, replica, take):
    """A replica that never comes back keeps nobody from sending for ever."""
    shelf.sign_in()
    office = Office(replica("one", respite_seconds=0.05))
    await office.replica.beat()
    shelf.client.flushall()
    await office.replica.beat()
    await take.until(lambda: not shelf.client.exists("qc:relearning"))
    assert await office.take() is None
    await office.runner.stop(5.0)


async def relearned(shelf, offices, take, state):
    """Let Redis lose everything, and all replicas tell it what they know; return what another one finds then."""
    shelf.client.flushall()
    for office in offices:
        await office.replica.beat()
    await take.until(lambda: shelf.client.hget(KEY, "state") == state.value.encode())
    shelf.client.delete("qc:relearning")  # as if its time were over
    return await offices[1].take()


async def test_a_command_that_is_out_is_entered_anew(shelf, offices, take):
    """The gateway has it and has not answered: a repetition waits for the sender, and its receipt is written down."""
    one, two = offices
    run = await one.sent()
    found = await relearned(shelf, offices, take, State.SENT)
    assert (found.state, found.waiting) == (State.SENT, True)
    await one.ledger.settle(run, State.ACCEPTED, "0", "fine", 1_700_000_000.5)
    assert (await two.take()).state is State.ACCEPTED


async def test_a_receipt_is_entered_anew(shelf, offices, take):
    """What the gateway answered before is what a repetition gets after."""
    run = await offices[0].sent()
    run.accept(RECEIPT)
    found = await relearned(shelf, offices, take, State.ACCEPTED)
    assert (found.retcode, found.text, found.received_at) == ("0", "fine", 1_700_000_000.5)


async def test_a_refusal_is_entered_anew(shelf, offices, take):
    """A command that was refused is not tried again because Redis forgot that."""
    run = await offices[0].sent()
    run.fail(GatewayRefused("intercept", "100-015", "no right"), "refused")
    found = await relearned(shelf, offices, take, State.REFUSED)
    assert (found.retcode, found.text) == ("100-015", "no right")


async def test_a_doubt_is_entered_anew(shelf, offices, take):
    """What may have been executed may have been executed, whatever Redis knows."""
    run = await offices[0].sent()
    run.doubt(OutcomeUnknown("intercept", "no retcode"))
    found = await relearned(shelf, offices, take, State.UNKNOWN)
    assert found.state is State.UNKNOWN


async def test_what_was_not_sent_is_not_entered_anew(shelf, offices):
    """A command that is still to be sent goes by the way of all commands."""
    one, two = offices
    run = await one.run()
    one.journal.keep(run)
    shelf.client.flushall()
    for office in offices:
        await office.replica.beat()
    await asyncio.gather(*one.runner._joining._last_words)
    assert not shelf.client.exists(KEY)
    shelf.client.delete("qc:relearning")
    assert await two.take() is None


async def test_to_enter_anew_what_stands_there_changes_nothing(shelf, offices):
    """An entry that was not lost, or was entered before, stays as it is, also when another one stands there."""
    one, two = offices
    run = await one.sent()
    before = shelf.client.hgetall(KEY)
    await one.ledger.restore(run)
    assert shelf.client.hgetall(KEY) == before
    other = await two.run()
    other.mark_sent()
    other.fail(GatewayRefused("intercept", "100-015", "no right"), "refused")
    await two.ledger.restore(other)
    assert shelf.client.hgetall(KEY) == before


async def test_commands_are_entered_anew_as_often_as_redis_forgets(shelf, offices, take):
    """Redis may be emptied twice."""
    run = await offices[0].sent()
    run.accept(RECEIPT)
    for _ in range(2):
        assert (await relearned(shelf, offices, take, State.ACCEPTED)).text == "fine"


async def test_an_entry_anew_lasts_ten_minutes(shelf, offices, take):
    """It goes by itself like any other."""
    await offices[0].sent()
    await relearned(shelf, offices, take, State.SENT)
    assert 590_000 < shelf.client.pttl(KEY) <= 600_000


async def test_who_joined_does_not_stand_in_the_senders_way(shelf, offices, take):
    """The replica that only joined enters the command first: the sender's receipt is written down all the same."""
    one, two = offices
    run = await one.sent()
    joined = await two.run()
    assert (await two.take(joined)).state is State.SENT
    joined.sent = joined.foreign = True  # as `Joining` says at once
    two.journal.keep(joined)
    shelf.client.flushall()
    await two.replica.beat()  # it enters nothing: the sender knows better
    await one.replica.beat()
    await take.until(lambda: shelf.client.exists(KEY))
    await asyncio.gather(*one.runner._joining._last_words)
    await one.ledger.settle(run, State.REFUSED, "100-015", "no right")
    found = await two.ledger.look(joined)
    assert (found.state, found.retcode) == (State.REFUSED, "100-015")


async def test_the_calls_before_are_those_of_when_it_was_sent(shelf, offices, take):
    """A command that was confirmed before the loss does not become one whose call was there already."""
    one, _ = offices
    lease = await one.replica.win()
    run = await one.sent()
    run.accept(RECEIPT)
    talking = take.event("AgentEvent_Talking", content={"callid": "7-1"})
    await lease.keep(take.step(talking))
    await one.replica.mirror.follow("101", fresh=True)
    found = await relearned(shelf, offices, take, State.ACCEPTED)
    assert found.talking == frozenset()


async def test_many_commands_are_entered_anew(shelf, offices, take):
    """All that were sent in ten minutes, at a few a second."""
    one, _ = offices
    feed = await one.replica.mirror.follow("101")
    for number in range(2_000):
        command = Command("101", "292", requests.intercept("101", "292"), f"many-{number}", confirm_within_seconds=0.0)
        run = CommandRun(command, feed, lambda _run, _label: None)
        run.mark_sent()
        run.fail(GatewayRefused("intercept", "100-015", "no right"), "refused")
        one.journal.keep(run)
    shelf.client.flushall()
    await one.replica.beat()
    await asyncio.gather(*one.runner._joining._last_words)
    assert len(shelf.client.keys("qc:command:*")) == 2_000
