"""A command with a request id is entered once for all replicas, before it is sent, and stands for ten minutes."""

from __future__ import annotations

import asyncio

import pytest

from qc_adapter.commands.ledger import RedisLedger, State, fingerprint
from qc_adapter.commands.model import Command
from qc_adapter.commands.run import CommandRun
from qc_adapter.gateway import requests
from qc_adapter.model.deadline import Deadline
from qc_adapter.model.errors import StoreUnavailable
from qc_adapter.store.generation import Generation
from qc_adapter.store.opening import open_link

KEY = "qc:command:101:once"


class Office:
    """A replica that sends commands: alive for the others as long as it beats."""

    def __init__(self, replica):
        self.replica = replica
        self.ledger = RedisLedger(replica.link, replica.name, Generation())

    async def run(self, work_no="292", agent_id="101", request_id="once"):
        """A command on its way, not entered yet."""
        feed = await self.replica.mirror.follow(agent_id)
        command = Command(agent_id, work_no, requests.intercept(agent_id, work_no), request_id)
        return CommandRun(command, feed, lambda _run, _label: None)

    async def take(self, run=None, seconds=5.0):
        run = run or await self.run()
        return run, await self.ledger.take(run, Deadline.after(seconds))


@pytest.fixture
async def offices(shelf, replica):
    """Two replicas that live."""
    shelf.sign_in()
    made = [Office(replica(name)) for name in ("one", "two")]
    for office in made:
        await office.replica.beat()
    return made


async def test_who_enters_first_sends(offices):
    """The first one gets nothing and may send; every other one finds its record, wherever it is."""
    one, two = offices
    first, found = await one.take()
    assert found is None
    for office in (one, two):
        _, record = await office.take()
        assert record.state is State.SENT
        assert record.waiting is True
        assert record.fingerprint == fingerprint(first.command)


async def test_of_many_at_once_one_sends(offices):
    """However many come at the same moment, one of them is the first."""
    runs = await asyncio.gather(*(offices[number % 2].take() for number in range(20)))
    assert [record is None for _, record in runs].count(True) == 1


async def test_an_entry_whose_reply_was_lost_is_still_ours(shelf, offices):
    """The same attempt may be entered again; it finds itself and may send."""
    one, two = offices
    run, _ = await one.take()
    before = shelf.client.hgetall(KEY)
    assert (await one.take(run))[1] is None
    assert shelf.client.hgetall(KEY) == before
    assert (await two.take())[1] is not None


async def test_an_id_is_of_one_inspector(offices):
    """The same request id of another inspector is another command."""
    one, two = offices
    await one.take()
    assert (await two.take(await two.run(agent_id="102")))[1] is None


async def test_the_record_says_where_the_command_began(offices, take, shelf):
    """A repetition sees the events since then, and knows the calls before."""
    one, two = offices
    lease = await one.replica.win()
    talking = take.event("AgentEvent_Talking", content={"callid": "7-1"})
    await lease.keep(take.step("AgentState_Busy", talking))
    run = await one.run()
    await one.take(run)
    await lease.keep(take.step("AgentState_Ready"))
    _, record = await two.take()
    assert (record.epoch, record.position, record.talking) == (run.feed.epoch, 2, {"7-1"})


async def test_the_receipt_is_known_to_all(offices):
    """What the gateway answered is what a repetition gets, with its age."""
    one, two = offices
    run, _ = await one.take()
    await one.ledger.settle(run, State.ACCEPTED, "0", "süccess", 1_700_000_000.5)
    for record in ((await two.take())[1], await two.ledger.look(await two.run())):
        assert (record.state, record.retcode, record.text) == (State.ACCEPTED, "0", "süccess")
        assert record.received_at == 1_700_000_000.5
        assert 0 <= record.age_seconds < 10


@pytest.mark.parametrize("state", [State.REFUSED, State.UNKNOWN])
async def test_a_refusal_and_a_doubt_are_results_too(offices, state):
    """A command that was refused, or whose outcome is unknown, is not sent by its repetition."""
    one, two = offices
    run, _ = await one.take()
    await one.ledger.settle(run, state, "100-015", "no right")
    _, record = await two.take()
    assert (record.state, record.retcode, record.text) == (state, "100-015", "no right")


async def test_what_was_not_sent_is_sent_by_its_repetition(offices):
    """An entry that is dropped is nobody's; who waited for it finds nothing and may enter."""
    one, two = offices
    run, _ = await one.take()
    other, record = await two.take()
    assert record is not None
    await one.ledger.drop(run)
    assert await two.ledger.look(other) is None
    assert (await two.take(other))[1] is None
    assert (await one.take())[1] is not None


async def test_an_entry_that_arrives_after_it_was_dropped_stands_in_nobodys_way(shelf, offices):
    """An entry that was given up may still be on its way to Redis: it must not look like a command that was sent."""
    one, two = offices
    run = await one.run()
    await one.ledger.drop(run)
    await one.take(run)
    assert await two.ledger.look(run) is None
    assert (await two.take())[1] is None
    assert shelf.client.pttl(KEY) > 0


async def test_only_who_entered_may_settle_or_drop(offices):
    """A late word of an attempt that was replaced changes nothing."""
    one, two = offices
    first, _ = await one.take()
    await one.ledger.drop(first)
    _, record = await two.take()
    assert record is None
    await one.ledger.settle(first, State.REFUSED, "100-015")
    await one.ledger.drop(first)
    found = await one.ledger.look(first)
    assert found.state is State.SENT


async def test_a_result_without_an_entry_is_not_kept(shelf, offices):
    """When Redis lost the entry, a result alone would be a record of nothing."""
    one, two = offices
    run, _ = await one.take()
    shelf.client.delete(KEY)
    await one.ledger.settle(run, State.ACCEPTED, "0")
    assert await two.ledger.look(run) is None


@pytest.mark.parametrize("how", ["silent", "out of time"])
async def test_nobody_waits_for_a_replica_that_is_gone(shelf, offices, how):
    """When the sender went silent, or its time is over, the outcome is not waited for."""
    one, two = offices
    await one.take()
    if how == "silent":
        shelf.silence("one")
    else:
        shelf.client.hset(KEY, "until", shelf.now_ms() - 1)
    _, record = await two.take()
    assert (record.state, record.waiting) == (State.SENT, False)


async def test_a_draining_replica_is_waited_for(offices):
    """Who hands its leases over still gets the replies to what it sent."""
    one, two = offices
    await one.take()
    await one.replica.beat(claiming=False)
    assert (await two.take())[1].waiting is True


async def test_another_command_with_the_same_id_is_told_apart(shelf, offices):
    """The record tells commands apart without telling what they are."""
    one, two = offices
    run, _ = await one.take()
    other = await two.run(work_no="293")
    _, record = await two.take(other)
    assert record.fingerprint == fingerprint(run.command) != fingerprint(other.command)
    assert b"intercept" not in b"".join(shelf.client.hgetall(KEY).values())


async def test_an_entry_lasts_ten_minutes(shelf, offices):
    """Records go by themselves, also those of commands without an end."""
    one, _ = offices
    run, _ = await one.take()
    assert 590_000 < shelf.client.pttl(KEY) <= 600_000
    await one.ledger.settle(run, State.ACCEPTED, "0")
    assert 590_000 < shelf.client.pttl(KEY) <= 600_000
    await one.ledger.drop(run)
    assert 0 < shelf.client.pttl(KEY) <= 60_000


async def test_what_cannot_be_entered_is_not_sent(own_redis_server, replica, shelf):
    """Without the store nobody knows whether another replica sent the command."""
    office = Office(replica("one"))
    run = await office.run()
    own_redis_server.stop()
    link = open_link(own_redis_server.url, timeout_seconds=0.5)
    with pytest.raises(StoreUnavailable):
        await RedisLedger(link, "one", Generation()).take(run, Deadline.after(5))
    await link.close()


async def test_a_result_is_written_when_redis_comes_back(own_redis_server, replica, shelf):
    """The receipt waits for the store, so that a repetition still finds it."""
    office = Office(replica("one"))
    run = await office.run()
    link = open_link(own_redis_server.url, timeout_seconds=0.5)
    ledger = RedisLedger(link, "one", Generation())
    assert await ledger.take(run, Deadline.after(5)) is None
    own_redis_server.freeze()
    settling = asyncio.create_task(ledger.settle(run, State.ACCEPTED, "0"))
    with pytest.raises(StoreUnavailable):
        await ledger.look(run)
    own_redis_server.thaw()
    await asyncio.wait_for(settling, 10)
    assert (await ledger.look(run)).state is State.ACCEPTED
    await link.close()
