"""How leases are handed back, given up and parked, and how sessions come onto the books and leave them."""

from __future__ import annotations

import pytest

from qc_adapter.events.leases import LeaseLost, PollState, SessionGone, Taken
from qc_adapter.model.session import Secret, Session


@pytest.mark.parametrize("method", ["release", "abandon", "park"])
async def test_who_lost_the_lease_changes_nothing(shelf, replica, method):
    """Handing back, giving up or parking what somebody else holds by now does not touch it."""
    shelf.sign_in()
    one, two = replica("one"), replica("two")
    older = await one.win()
    one.forget()
    shelf.expire("101")
    await two.beat()
    before = shelf.holder(), shelf.score()
    await getattr(older, method)()
    assert (shelf.holder(), shelf.score()) == before


async def test_who_lost_the_lease_cannot_end_the_session(shelf, replica, take):
    """The refusal of an old GUID says nothing about the session that another replica polls."""
    shelf.sign_in()
    one, two = replica("one"), replica("two")
    older = await one.win()
    one.forget()
    shelf.expire("101")
    await two.beat()
    await older.end(take.step().used, "100-006", "")
    assert "ended" not in shelf.head()
    assert shelf.holder().startswith("two:")


async def test_a_session_with_a_newer_guid_is_not_ended(shelf, replica, take):
    """A refusal of an outdated GUID is no loss; the lease knows the newer session at once."""
    shelf.sign_in()
    lease = await replica("one").win()
    shelf.sign_in(guid="second")
    assert await lease.end(take.step().used, "100-006", "") is None
    assert (await lease.session(0.0)).guid.reveal() == "second"
    assert shelf.holder() == lease.holder


async def test_what_is_handed_back_wakes_the_others(shelf, replica, take):
    """A free lease is told of, so that nobody waits for the next beat."""
    shelf.sign_in()
    one, two = replica("one"), replica("two")
    two.mirror.start()
    await take.until(lambda: two.mirror.listening)
    lease = await one.win()
    woken = two.woken
    await lease.release()
    await take.until(lambda: two.woken > woken)


async def test_a_new_sign_in_takes_the_lease_from_the_old_ones_reader(shelf, replica, take):
    """The older poll may be held for long: its reader is told to stop, which is a gap, and the lease is free."""
    shelf.sign_in()
    one, two = replica("one"), replica("two")
    one.mirror.start()
    await take.until(lambda: one.mirror.listening)
    older = await one.win()
    shelf.sign_in(guid="second")
    await two.rota.enlist("101", Taken.REPLACED)
    await take.until(lambda: one.revoked == [("101", older.holder)])
    one.forget()
    claim = (await two.beat())["101"]
    assert claim.forced is True
    assert (await claim.lease.session(0.0)).guid.reveal() == "second"
    assert shelf.told() == ["TAKEOVER"]


async def test_a_first_sign_in_leaves_no_gap(shelf, replica):
    """Without a reader nothing can have been taken away."""
    shelf.sign_in()
    one = replica("one")
    await one.rota.enlist("101", Taken.REPLACED)
    assert (await one.beat())["101"].forced is False
    assert shelf.told() == []


@pytest.mark.parametrize("first", [Taken.REVOKED, Taken.REPLACED])
@pytest.mark.parametrize("second", [Taken.NOT, Taken.REVOKED, Taken.REPLACED])
async def test_a_lease_that_was_taken_away_is_not_whitewashed(shelf, replica, first, second):
    """When the session is noticed again before anybody has claimed it, the gap is still told."""
    shelf.sign_in()
    one, two = replica("one"), replica("two")
    await one.win()
    one.forget()
    await two.rota.enlist("101", first)
    await one.rota.enlist("101", second)
    claim = (await two.beat())["101"]
    assert (claim.forced, claim.cut_off) == (True, first is Taken.REVOKED)
    assert shelf.told() == ["TAKEOVER"]


async def test_a_session_that_is_polled_is_not_enlisted_again(shelf, replica):
    """Noticing a session twice does not disturb its reader."""
    shelf.sign_in()
    one, two = replica("one"), replica("two")
    lease = await one.win()
    await two.rota.enlist("101")
    assert shelf.holder() == lease.holder
    assert await two.beat() == {}


@pytest.mark.parametrize("taken", list(Taken))
async def test_who_has_no_session_is_not_enlisted(shelf, replica, taken):
    """A sign-in that was undone meanwhile puts nobody on the books."""
    one = replica("one")
    await one.rota.enlist("101", taken)
    assert shelf.score() is None
    assert await one.beat() == {}


async def test_a_sign_out_is_no_loss(shelf, replica, take):
    """While a sign-out is under way, the gateway's refusal of the poll is no loss to anybody, also told twice."""
    shelf.sign_in()
    one, two = replica("one"), replica("two")
    lease = await one.win()
    await two.rota.leaving("101")
    for _ in range(2):  # the first reply may be lost
        with pytest.raises(SessionGone):
            await lease.end(take.step().used, "100-006", "")
    assert "ended" not in shelf.head()
    shelf.sign_out()
    await two.rota.retire("101")
    assert shelf.head()["ended"] == "gone"
    assert shelf.score() is None


@pytest.mark.parametrize("how", ["signed out", "signed in anew"])
async def test_who_hears_late_of_a_wanted_end_takes_it_for_no_loss(shelf, replica, take, how):
    """The gateway refuses the poll when all is done: the session is gone, or it is another one that is left alone."""
    shelf.sign_in()
    one, two = replica("one"), replica("two")
    lease = await one.win()
    if how == "signed out":
        shelf.sign_out()
        await two.rota.retire("101")
    else:
        shelf.sign_in(guid="second")
        await two.rota.enlist("101", Taken.REPLACED)
    before = shelf.head(), shelf.score()
    with pytest.raises(SessionGone):
        await lease.end(take.step().used, "100-006", "")
    assert (shelf.head(), shelf.score()) == before


@pytest.mark.parametrize("how", ["failed", "took too long"])
async def test_a_sign_out_that_did_not_happen_is_forgotten(shelf, replica, take, how):
    """After it the loss of the session is a loss again."""
    shelf.sign_in()
    one = replica("one")
    lease = await one.win()
    await one.rota.leaving("101")
    if how == "failed":
        await one.rota.enlist("101")
    else:
        shelf.client.hset("qc:log:101", "leaving", shelf.now_ms() - 1)
    await lease.end(take.step().used, "100-006", "")
    assert shelf.head()["ended"] == "lost 100-006"


async def test_a_session_that_is_there_is_not_retired(shelf, replica):
    """A listing that began before a sign-in says nothing about it."""
    shelf.sign_in()
    one = replica("one")
    lease = await one.win()
    await one.rota.retire("101")
    assert shelf.holder() == lease.holder
    assert "ended" not in shelf.head()


async def test_a_new_session_of_another_system_is_found(shelf, replica):
    """Whoever writes a record, it is on the books after the next look."""
    one = replica("one")
    await one.rota.scan()
    shelf.sign_in("101")
    await one.rota.scan()
    assert set(await one.beat()) == {"101"}
    await one.rota.scan()
    assert await one.beat() == {}


async def test_keys_that_are_no_sessions_are_not_found(shelf, replica):
    """Only decimal ids after the prefix are inspectors."""
    shelf.client.set("qc:session:lock", "1")
    one = replica("one")
    await one.rota.scan()
    assert shelf.client.zcard("qc:leases") == 0


async def test_a_session_that_another_system_removed_is_noticed(shelf, replica, take):
    """Its reader is told to stop, and the log has an end."""
    shelf.sign_in()
    one, two = replica("one"), replica("two")
    one.mirror.start()
    await take.until(lambda: one.mirror.listening)
    lease = await one.win()
    shelf.sign_out()
    await two.rota.scan()
    await take.until(lambda: one.revoked == [("101", lease.holder)])
    assert (shelf.holder(), shelf.score()) == (None, None)
    assert shelf.head()["ended"] == "gone"


async def test_one_replica_looks_for_all(shelf, replica, take):
    """While the one that looks is there, others leave it to that one; when it is gone, another one looks."""
    one, two = replica("one"), replica("two")
    await one.rota.scan()
    shelf.sign_in()
    await two.rota.scan()
    assert shelf.score() is None
    await one.rota.scan()
    assert shelf.score() == shelf.FREE
    shelf.sign_in("102")
    shelf.client.pexpire("qc:scanner", 1)
    await take.until(lambda: not shelf.client.exists("qc:scanner"))
    await two.rota.scan()
    assert shelf.score("102") == shelf.FREE
    assert 0 < shelf.client.pttl("qc:scanner") <= 1200


async def test_a_changed_record_is_found_among_many_that_did_not(shelf, replica):
    """More parked sessions than one look compares are gone through in turns, also when some come back."""
    agents = [str(1000 + number) for number in range(1100)]
    with shelf.client.pipeline() as pipeline:
        for agent_id in agents:
            pipeline.hset(f"qc:session:{agent_id}", mapping={"agent_id": agent_id, "guid": "x", "event_source": "none"})
        pipeline.execute()
    one = replica("one")
    await one.rota.scan()
    for _ in range(11):
        assert await one.beat() == {}
    assert shelf.client.zcount("qc:leases", "inf", "inf") == len(agents)
    changed = {agents[0], agents[499], agents[500], agents[1099]}
    for agent_id in changed:
        shelf.sign_in(agent_id, event_source="poll")
    for _ in range(4):
        await one.rota.scan()
    assert set(await one.beat()) == changed


async def test_a_redis_that_lost_everything_gets_the_session_back(shelf, replica, take):
    """The reader who has the newest GUID in hand puts the session back, with what the poll brought."""
    shelf.sign_in()
    one = replica("one")
    lease = await one.win()
    await lease.keep(take.step("AgentState_Busy", guid="second"))
    epoch = shelf.head()["epoch"]
    shelf.client.flushall()
    stored = await lease.keep(take.step("AgentState_Ready", used="second", guid="third"))
    assert stored.guid.reveal() == "third" == shelf.guid()
    assert shelf.told() == ["AgentState_Ready"]
    assert shelf.head()["epoch"] != epoch
    assert shelf.holder() == lease.holder
    await one.beat()
    assert one.held["101"] is lease
    await lease.keep(take.step("AgentState_Work", used="third"))
    assert shelf.told() == ["AgentState_Ready", "AgentState_Work"]


async def test_a_session_whose_poll_is_held_comes_back_with_the_next_beat(shelf, replica):
    """Commands need the session before the poll ends."""
    shelf.sign_in()
    one = replica("one")
    lease = await one.win()
    shelf.client.flushall()
    await one.beat()
    assert shelf.guid() == "first"
    assert shelf.holder() == lease.holder
    assert one.lost == frozenset()


async def test_a_renewal_by_a_command_is_not_undone_by_bringing_back(shelf, replica, take):
    """A command's reply may have brought a newer GUID than the last poll; the step knows the newest of both."""
    shelf.sign_in()
    one = replica("one")
    lease = await one.win()
    await one.store.renew("101", Secret("first"), take.step(guid="by-command").renewal)
    stored = await lease.keep(take.step(used="first", guid="second"))
    assert stored.guid.reveal() == "by-command"
    shelf.client.flushall()
    await one.beat()
    assert shelf.guid() == "by-command"


async def test_somebody_elses_session_is_not_overwritten(shelf, replica, take):
    """Whoever signed in anew after the loss has the session, also if we still poll for the older one."""
    shelf.sign_in()
    one = replica("one")
    lease = await one.win()
    shelf.client.flushall()
    await one.store.put(Session("101", Secret("anew")))
    stored = await lease.keep(take.step("AgentState_Busy", guid="second"))
    assert stored.guid.reveal() == "anew" == shelf.guid()


async def test_who_comes_late_after_a_loss_has_no_lease(shelf, replica, take):
    """Another replica that polls already is not disturbed."""
    shelf.sign_in()
    one, two = replica("one"), replica("two")
    older = await one.win()
    one.forget()
    shelf.client.flushall()
    shelf.sign_in(guid="anew")
    newer = await two.win()
    with pytest.raises(LeaseLost):
        await older.keep(take.step("AgentState_Busy", guid="second"))
    assert shelf.guid() == "anew"
    assert shelf.told() == []
    assert shelf.holder() == newer.holder


async def test_whom_nobody_reads_for_is_counted_by_gateway(shelf, replica):
    """A free lease and one that is over count at the second look in a row, and no more once they are won."""
    for agent_id in ("101", "102", "north/7"):
        shelf.sign_in(agent_id)
    one, two = replica("one"), replica("two")
    assert await one.rota.scan() == {}  # they are just put on the books
    assert await one.rota.scan() == {"default": 2, "north": 1}
    await two.beat()
    two.held.clear()
    assert await one.rota.scan() == {}
    shelf.expire("102")
    assert await one.rota.scan() == {}
    assert await one.rota.scan() == {"default": 1}
    await two.beat()
    assert await one.rota.scan() == {}


async def test_a_lease_that_changes_hands_is_not_unread(shelf, replica):
    """Free at one look and won before the next one is how a hand-over looks."""
    shelf.sign_in()
    one, two = replica("one"), replica("two")
    lease = await one.win()
    for holder, other in ((one, two), (two, one)):
        await lease.release()
        holder.forget()
        assert await one.rota.scan() == {}
        lease = (await other.beat())["101"].lease
        assert await one.rota.scan() == {}


@pytest.mark.parametrize("why", ["none", "lost", "recovering"])
async def test_whom_nobody_has_to_read_for_is_not_unread(shelf, replica, take, why):
    """Sessions that other systems read, and those that the gateway ended, wait for nobody."""
    shelf.sign_in(event_source="none" if why == "none" else "poll")
    one = replica("one")
    await one.rota.enlist("101")
    await one.beat()
    if why == "recovering":
        shelf.client.hset("qc:orders:101", "signed_in_at", "")
        shelf.client.hset("qc:session:101", "signed_in_at", "")
    if why != "none":
        told = await one.held["101"].end(take.step().used, "100-006", "")
        assert told is (PollState.LOST if why == "lost" else PollState.RECOVERING)
    assert shelf.score() == shelf.PARKED
    assert [await one.rota.scan() for _ in range(3)] == [{}, {}, {}]


async def test_a_session_that_is_gone_is_not_unread(shelf, replica):
    """An end that nobody took off the books yet is no session."""
    shelf.sign_in()
    one = replica("one")
    await one.rota.enlist("101")
    await one.rota.scan()
    shelf.sign_out()
    assert await one.rota.scan() == {}


async def test_only_who_looks_tells_whom_nobody_reads_for(shelf, replica, take):
    """The others say that there is none, also one that has looked before and is not sure any more."""
    shelf.sign_in()
    one, two = replica("one"), replica("two")
    await one.rota.scan()
    assert await one.rota.scan() == {"default": 1}
    assert await two.rota.scan() == {}
    shelf.client.set("qc:scanner", "two")
    assert await one.rota.scan() == {}
    await two.rota.scan()
    assert await two.rota.scan() == {"default": 1}
    shelf.client.set("qc:scanner", "one")
    assert await one.rota.scan() == {}  # what it saw long ago is not the look before
    assert await one.rota.scan() == {"default": 1}
