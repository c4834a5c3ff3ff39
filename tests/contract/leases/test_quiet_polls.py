"""Polls that brought nothing: what is renewed together, and what is found out all the same."""

from __future__ import annotations

import asyncio

import pytest

from qc_adapter.events.leases import LeaseLost, PollState
from qc_adapter.events.log_scripts import QUIET
from qc_adapter.model.errors import StoreUnavailable
from qc_adapter.model.session import Session


@pytest.fixture
async def quiet(shelf, replica, take):
    """A lease after a poll that brought nothing, whose next one may say the same."""
    shelf.sign_in()
    one = replica("one")
    lease = await one.win()
    for _ in range(2):  # the first one puts the record into the form of the replica
        await lease.keep(take.step())
    one.lease = lease
    return one


def head_without_time(shelf):
    """The head of the log, but for when the gateway answered last."""
    return {name: value for name, value in shelf.head().items() if name != "polled_at"}


async def test_a_poll_that_brought_nothing_renews_the_lease_and_changes_nothing_else(shelf, quiet, take):
    """The lease's end and the time of the last answer move; the rest of the log's head stays as it is."""
    before, polled_at = head_without_time(shelf), shelf.head()["polled_at"]
    shelf.client.zadd("qc:leases", {"101": shelf.now_ms() + 50})
    session = await quiet.lease.keep(take.step())
    assert session.guid.reveal() == "first"
    assert head_without_time(shelf) == before
    assert shelf.head()["polled_at"] > polled_at
    assert shelf.score() > shelf.now_ms() + 20_000


async def test_many_of_them_are_one_script(shelf, replica, take):
    """Polls that end within a moment are stored together, however many they are."""
    one = replica("one")
    agent_ids = [str(number) for number in range(201, 241)]
    for agent_id in agent_ids:
        shelf.sign_in(agent_id)
        await one.rota.enlist(agent_id)
    leases = {agent_id: claim.lease for agent_id, claim in (await one.beat()).items()}

    async def keep_all():
        return await asyncio.gather(*(leases[one].keep(take.step(agent_id=one)) for one in agent_ids))

    await keep_all()
    await keep_all()
    before = shelf.client.info("commandstats")["cmdstat_evalsha"]["calls"]
    kept = await keep_all()
    assert [session.agent_id for session in kept] == agent_ids
    assert shelf.client.info("commandstats")["cmdstat_evalsha"]["calls"] - before == 1


async def test_polls_whose_renewal_is_cut_off_each_have_an_error_of_their_own(shelf, replica, take):
    """When the script for many is cancelled each reader ends, and no error holds the frames of the others."""
    one = replica("one")
    agent_ids = ["201", "202"]
    for agent_id in agent_ids:
        shelf.sign_in(agent_id)
        await one.rota.enlist(agent_id)
    leases = {agent_id: claim.lease for agent_id, claim in (await one.beat()).items()}
    for agent_id in agent_ids * 2:
        await leases[agent_id].keep(take.step(agent_id=agent_id))

    async def cut_off(agent_id):
        with pytest.raises(asyncio.CancelledError) as error:
            await leases[agent_id].keep(take.step(agent_id=agent_id))
        return error.value

    def steps():
        return [task for task in asyncio.all_tasks() if task.get_name() == "store-step"]

    kept = asyncio.gather(*map(cut_off, agent_ids))
    while not steps():  # noqa: ASYNC110 - it lives for a moment
        await asyncio.sleep(0)
    steps()[0].cancel()
    first, second = await kept
    assert first is not second


async def test_a_new_guid_of_another_system_is_found_by_the_next_poll(shelf, quiet, take):
    """What somebody else wrote into the record is used from the next poll on."""
    shelf.sign_in(guid="second")
    assert (await quiet.lease.keep(take.step())).guid.reveal() == "second"


@pytest.mark.parametrize("field", ["cookies", "server_name", "event_source"])
async def test_each_field_of_the_record_counts(shelf, quiet, take, field):
    """A change of any field is noticed, not only that of the GUID."""
    before = await quiet.lease.keep(take.step())
    shelf.sign_in(**{field: "none" if field == "event_source" else "changed"})
    assert await quiet.lease.keep(take.step()) != before


async def test_a_session_that_is_gone_is_found_gone(shelf, quiet, take):
    """A sign-out by another system ends the polling with the next poll."""
    shelf.sign_out()
    assert await quiet.lease.keep(take.step()) is None
    assert shelf.holder() is None


async def test_who_lost_the_lease_renews_nothing(shelf, quiet, replica, take):
    """Another replica has it by now: the poll of the older one is refused, and the newer lease stays as it is."""
    quiet.forget()
    shelf.expire("101")
    other = replica("two")
    await other.beat()
    before = shelf.holder(), shelf.score()
    with pytest.raises(LeaseLost):
        await quiet.lease.keep(take.step())
    assert (shelf.holder(), shelf.score()) == before


async def test_a_redis_that_lost_everything_is_given_the_session_back(shelf, quiet, take):
    """Also a poll that brought nothing finds out, and restores what only its reader knows."""
    shelf.client.flushall()
    assert (await quiet.lease.keep(take.step())).guid.reveal() == "first"
    assert shelf.guid() == "first"
    assert shelf.holder() == quiet.lease.holder


async def test_another_state_is_written_at_once(shelf, quiet, take):
    """What the reader tells of the session is in Redis with the poll that it was found with."""
    await quiet.lease.keep(take.step(state=PollState.DEGRADED, detail="slow"))
    assert (shelf.head()["state"], shelf.head()["detail"]) == ("degraded", "slow")
    await quiet.lease.keep(take.step())
    assert shelf.head()["state"] == "active"


async def test_the_end_of_a_log_that_a_failover_lost_is_found(shelf, quiet, take):
    """Positions that callers know are missing: the next poll says so with a gap, also one that brought nothing."""
    await quiet.lease.keep(take.step("AgentState_Ready"))
    for _ in range(2):
        await quiet.lease.keep(take.step())
    shelf.client.hset("qc:log:101", "n", 0)
    shelf.client.delete("qc:events:101")
    await quiet.lease.keep(take.step())
    assert shelf.told() == ["LOG_LOST"]


async def test_one_that_came_late_renews_only_for_its_holder(shelf, quiet, take):
    """A script that a stalled Redis runs late changes nothing once the lease was handed back."""
    lease = quiet.lease
    await lease.release()
    reply = await quiet.link.script("step", QUIET, shelf.client.get("qc:store"), 30_000, "101", lease.holder, "any")
    assert reply == [0]
    assert shelf.score() == shelf.FREE


async def keep_together(leases, take):
    """Let all of them say at once that their polls brought nothing."""
    kept = [lease.keep(take.step(agent_id=agent_id)) for agent_id, lease in leases.items()]
    return dict(zip(leases, await asyncio.gather(*kept, return_exceptions=True), strict=True))


@pytest.fixture
async def crowd(shelf, replica, take):
    """Four leases of one replica, whose next polls may say the same."""
    one = replica("one")
    agent_ids = [str(number) for number in range(201, 205)]
    for agent_id in agent_ids:
        shelf.sign_in(agent_id)
        await one.rota.enlist(agent_id)
    leases = {agent_id: claim.lease for agent_id, claim in (await one.beat()).items()}
    for _ in range(2):
        await keep_together(leases, take)
    one.leases = leases
    return one


async def test_a_key_of_another_type_is_the_failure_of_its_own_inspector(shelf, crowd, take):
    """Of polls that are stored together one may fail: the others are stored all the same."""
    shelf.client.delete("qc:log:202")
    shelf.client.set("qc:log:202", "no hash")
    shelf.client.zadd("qc:leases", {agent_id: shelf.now_ms() + 50 for agent_id in crowd.leases})
    kept = await keep_together(crowd.leases, take)
    assert isinstance(kept.pop("202"), StoreUnavailable)
    assert [session.agent_id for session in kept.values()] == ["201", "203", "204"]
    assert all(shelf.score(agent_id) > shelf.now_ms() + 20_000 for agent_id in kept)


async def test_each_of_those_that_are_stored_together_has_its_own_fate(shelf, crowd, replica, take):
    """One taken over, one rotated by hand, one signed out, one as it was: each reader hears of its own."""
    shelf.expire("201")
    crowd.forget("201")
    await replica("two").beat()
    shelf.client.hset("qc:session:202", "guid", "rotated")
    shelf.sign_out("203")
    kept = await keep_together(crowd.leases, take)
    assert isinstance(kept["201"], LeaseLost)
    assert kept["202"].guid.reveal() == "rotated"
    assert shelf.guid("202") == "rotated"
    assert kept["203"] is None
    assert kept["204"].guid.reveal() == "first"


async def test_one_that_leaves_takes_nobody_with_it(shelf, crowd, take):
    """A reader that is cancelled while its poll waits to be stored with others costs them nothing."""
    shelf.client.zadd("qc:leases", {agent_id: shelf.now_ms() + 50 for agent_id in crowd.leases})
    asked = {
        agent_id: asyncio.create_task(lease.keep(take.step(agent_id=agent_id)))
        for agent_id, lease in crowd.leases.items()
    }
    await asyncio.sleep(0)
    asked["202"].cancel()
    replies = await asyncio.gather(*asked.values(), return_exceptions=True)
    assert [type(reply) for reply in replies] == [Session, asyncio.CancelledError, Session, Session]
    assert all(shelf.score(agent_id) > shelf.now_ms() + 20_000 for agent_id in asked if agent_id != "202")
    assert (await crowd.leases["202"].keep(take.step(agent_id="202"))).guid.reveal() == "first"


async def test_a_batch_that_waits_when_the_link_closes_fails_for_each(crowd, take):
    """Nobody waits for ever for a batch that is not sent any more."""
    asked = asyncio.create_task(keep_together(crowd.leases, take))
    await asyncio.sleep(0)
    await crowd.link.close()
    assert {type(reply) for reply in (await asked).values()} == {StoreUnavailable}


async def test_an_event_of_another_inlet_is_not_taken_back(shelf, crowd, take):
    """What was pushed between two polls that brought nothing stays in the log's head, and in the reader's sums."""
    shelf.client.hset("qc:log:201", mapping={"n": 1, "talking": "77", "receipt": "x"})
    shelf.client.xadd("qc:events:201", {"t": shelf.now_ms(), "e": '{"gap":"TAKEOVER"}'}, id="1-0")
    before = shelf.head("201")
    await keep_together(crowd.leases, take)
    after = shelf.head("201")
    assert (after["n"], after["receipt"]) == (before["n"], before["receipt"])
    assert shelf.told("201") == ["TAKEOVER"]


async def test_a_record_of_very_many_fields_is_stored_as_any_other(shelf, quiet, take):
    """Other systems may add to a record what they like."""
    shelf.client.hset("qc:session:101", mapping={f"theirs{number}": number for number in range(5000)})
    for _ in range(3):
        assert (await quiet.lease.keep(take.step())).guid.reveal() == "first"
