"""Who wins a lease: what is free to whoever is quick, up to a fair share; what has run out, with a gap."""

from __future__ import annotations

import asyncio

import pytest

from qc_adapter.events.leases import PollState
from qc_adapter.model.errors import SessionUnreadable


async def test_a_free_lease_is_won_by_one_replica(shelf, replica):
    """However many replicas reach for it at once, one gets it; the others get nothing."""
    replicas = [replica(f"r{number}") for number in range(5)]
    shelf.sign_in()
    await replicas[0].rota.enlist("101")
    won = await asyncio.gather(*(one.beat() for one in replicas))
    [winner] = [one for one, claims in zip(replicas, won, strict=True) if claims]
    assert shelf.holder() == winner.held["101"].holder
    assert shelf.holder().startswith(f"{winner.name}:")
    assert shelf.told() == []


async def test_a_handed_back_lease_leaves_no_gap(shelf, replica):
    """Between two polls nothing can be lost: the next reader goes on where the log stands."""
    shelf.sign_in()
    one, two = replica("one"), replica("two")
    lease = await one.win()
    await lease.release()
    assert shelf.score() == shelf.FREE
    one.forget()
    claim = (await two.beat())["101"]
    assert claim.forced is False
    assert shelf.told() == []


async def test_tokens_only_rise(shelf, replica):
    """Whoever wins later has the higher token, whichever inspector it is for, also after the book was empty."""
    one, two = replica("one"), replica("two")
    tokens = []
    for number in range(6):
        agent_id, who = ("101", "102", "103")[number % 3], (one, two)[number % 2]
        shelf.sign_in(agent_id)
        lease = await who.win(agent_id)
        tokens.append(int(lease.holder.split(":")[1]))
        await lease.release()
        who.forget(agent_id)
        shelf.sign_out(agent_id)
        await who.rota.retire(agent_id)
    assert tokens == sorted(set(tokens))


async def test_shares_are_fair(shelf, replica):
    """Each replica gets its part of all inspectors, rounded up, and no more."""
    replicas = [replica(name) for name in ("one", "two", "three")]
    for one in replicas:
        await one.beat()
    for number in range(10):
        shelf.sign_in(str(101 + number))
    await replicas[0].rota.scan()
    for one in replicas:
        await one.beat()
    assert [len(one.held) for one in replicas] == [4, 4, 2]
    assert {one.share for one in replicas} == {4}


async def test_a_newcomer_makes_shares_smaller(shelf, replica):
    """A replica hears how much it should have at most; what is above, it is to hand back."""
    for number in range(4):
        shelf.sign_in(str(101 + number))
    one, two = replica("one"), replica("two")
    await one.rota.scan()
    await one.beat()
    assert (len(one.held), one.share) == (4, 4)
    await two.beat()
    await one.beat()
    assert (len(two.held), one.share) == (0, 2)


@pytest.mark.parametrize("how", ["silent", "leaving"])
async def test_who_is_gone_has_no_share(shelf, replica, how):
    """A replica that went silent, or that drains, leaves its part to the others."""
    for number in range(4):
        shelf.sign_in(str(101 + number))
    one, two = replica("one"), replica("two")
    await two.beat()
    await one.beat()
    await one.rota.scan()
    await one.beat()
    assert len(one.held) == 2
    if how == "silent":
        shelf.silence("two")
    else:
        assert await two.beat(claiming=False) == {}
    await one.beat()
    assert len(one.held) == 4


async def test_a_draining_replica_claims_nothing(shelf, replica):
    """Who is about to go does not take what others would have to take over."""
    shelf.sign_in()
    one = replica("one")
    await one.rota.enlist("101")
    assert await one.beat(claiming=False) == {}


async def test_many_leases_change_hands_in_turns(shelf, replica):
    """One beat claims a hundred at most: a script must not keep Redis from the others."""
    with shelf.client.pipeline() as pipeline:
        for number in range(150):
            pipeline.hset(f"qc:session:{1000 + number}", mapping={"agent_id": str(1000 + number), "guid": "x"})
        pipeline.execute()
    one = replica("one")
    await one.rota.scan()
    assert [len(await one.beat()) for _ in range(3)] == [100, 50, 0]


async def test_an_expired_lease_is_taken_over_with_a_gap(shelf, replica, take):
    """The old reader may have had a reply in hand: the new one says so before its first event."""
    shelf.sign_in()
    one, two = replica("one"), replica("two")
    older = await one.win()
    await older.keep(take.step("AgentState_Busy"))
    assert await two.beat() == {}
    shelf.expire("101")
    one.forget()
    claim = (await two.beat())["101"]
    assert claim.forced is True
    await claim.lease.keep(take.step("AgentState_Ready"))
    assert [(position, take.short(item)) for position, item in shelf.entries()] == [
        (1, "AgentState_Busy"),
        (1002, "TAKEOVER"),
        (1003, "AgentState_Ready"),
    ]


async def test_an_abandoned_lease_is_taken_over_with_a_gap(shelf, replica):
    """A poll that was cut off may have taken an event away."""
    shelf.sign_in()
    one, two = replica("one"), replica("two")
    await (await one.win()).abandon()
    assert shelf.score() == shelf.REVOKED
    one.forget()
    assert (await two.beat())["101"].forced is True
    assert shelf.told() == ["TAKEOVER"]


async def test_the_new_reader_knows_what_the_older_one_had_seen(shelf, replica, take):
    """Position and the calls that the inspector talks on go over with the lease, and with it the GUID."""
    shelf.sign_in()
    one, two = replica("one"), replica("two")
    older = await one.win()
    talking = take.event("AgentEvent_Talking", content={"callid": "7-1"})
    await older.keep(take.step(talking, guid="second"))
    await older.release()
    one.forget()
    lease = (await two.beat())["101"].lease
    assert (await lease.session(0.0)).guid.reveal() == "second"
    await lease.keep(take.step("AgentState_Busy", used="second"))
    assert [position for position, _ in shelf.entries()] == [1, 2]
    assert shelf.head()["talking"] == '["7-1"]'


async def test_a_beat_whose_reply_was_lost_is_answered_again(shelf, replica):
    """The claims of a beat are the same when it comes a second time; nothing is claimed twice or told twice."""
    shelf.sign_in("101")
    shelf.sign_in("102")
    one = replica("one")
    await one.rota.scan()
    shelf.client.zadd("qc:leases", {"102": shelf.REVOKED})
    first = await one.beat()
    one.held.clear()
    one.rota._number -= 1  # as if the reply had never come
    again = await one.beat()
    assert {key: (claim.lease.holder, claim.forced) for key, claim in again.items()} == {
        key: (claim.lease.holder, claim.forced) for key, claim in first.items()
    }
    assert {key: claim.forced for key, claim in again.items()} == {"101": False, "102": True}
    assert shelf.told("102") == ["TAKEOVER"]


async def test_a_repeated_beat_does_not_give_out_what_another_has_by_now(shelf, replica):
    """Between a lost reply and the repetition the lease may have gone on."""
    shelf.sign_in()
    one, two = replica("one"), replica("two")
    await one.win()
    one.held.clear()
    shelf.expire("101")
    assert "101" in await two.beat()
    one.rota._number -= 1
    assert await one.beat() == {}
    assert shelf.holder().startswith("two:")


async def test_a_claim_that_its_winner_never_heard_of_is_not_lost(shelf, replica):
    """A replica that was cut off for longer than a lease after its claim gets it again: somebody must poll."""
    shelf.sign_in()
    one = replica("one")
    holder = (await one.win()).holder
    one.held.clear()
    one.rota._number -= 1
    shelf.expire("101")
    shelf.client.delete("qc:claims:one")
    assert (await one.beat())["101"].lease.holder == holder
    one.held.clear()
    one.rota._number -= 1  # nor did it hear of it the second time
    assert (await one.beat())["101"].lease.holder == holder
    assert shelf.told() == []


async def test_an_expired_lease_of_ones_own_is_kept(shelf, replica, take):
    """When Redis was away and nobody else wanted the lease, its holder polls on without a gap."""
    shelf.sign_in("101")
    shelf.sign_in("102")
    one = replica("one")
    await one.rota.scan()
    await one.beat()
    lease = one.held["101"]
    one.forget("102")
    shelf.expire("101")
    assert await one.beat() == {}
    assert one.held["101"] is lease
    assert shelf.score("101") > shelf.now_ms() + 10_000
    await lease.keep(take.step("AgentState_Busy"))
    assert shelf.told("101") == ["AgentState_Busy"]


async def test_after_a_time_without_replicas_holders_come_first(shelf, replica):
    """When nobody could renew, expired leases are left to their holders for a moment; what is free is not."""
    shelf.sign_in("101")
    shelf.sign_in("102")
    one, two = replica("one"), replica("two")
    await two.beat()
    await one.win("101")
    await one.rota.enlist("102")
    shelf.expire("101")
    shelf.client.set("qc:beat", shelf.now_ms() - 3_600_000)
    assert set(await two.beat()) == {"102"}
    two.held.clear()
    assert await two.beat() == {}
    one.held["101"]._until = 0.0  # its own clock says so too
    await one.beat()
    assert set(one.held) == {"101"}
    shelf.client.delete("qc:respite")
    assert await two.beat() == {}
    assert shelf.told("101") == []


async def test_the_respite_ends(shelf, replica, take):
    """A holder that does not come back is replaced."""
    shelf.sign_in()
    one, two = replica("one"), replica("two", respite_seconds=0.05)
    await one.win()
    one.held.clear()
    shelf.expire("101")
    shelf.client.set("qc:beat", shelf.now_ms() - 3_600_000)
    assert await two.beat() == {}
    await take.until(lambda: not shelf.client.exists("qc:respite"))
    assert (await two.beat())["101"].forced is True


async def test_a_session_that_is_not_polled_is_left_alone_until_its_record_changes(shelf, replica):
    """With event_source none nobody gets the lease; as soon as the record says poll, somebody does."""
    shelf.sign_in(event_source="none")
    one = replica("one")
    await one.rota.scan()
    assert await one.beat() == {}
    assert shelf.score() == shelf.PARKED
    await one.rota.scan()
    assert await one.beat() == {}
    shelf.sign_in(event_source=" Poll ")
    await one.rota.scan()
    assert set(await one.beat()) == {"101"}


async def test_a_lost_session_is_left_alone_until_its_record_changes(shelf, replica, take):
    """What the gateway ended is not polled again; a new GUID is a new sign-in, and the streams go on."""
    shelf.sign_in()
    one, two = replica("one"), replica("two")
    lease = await one.win()
    assert await lease.end(take.step().used, "100-006", "gone") is PollState.LOST
    one.forget()
    assert shelf.head()["ended"] == "lost 100-006"
    for who in (one, two):
        await who.rota.scan()
        assert await who.beat() == {}
    assert (await two.rota.statuses(["101"]))["101"].detail == "gone"
    shelf.sign_in(guid="second")
    await one.rota.scan()
    claim = (await two.beat())["101"]
    assert claim.forced is False
    assert "ended" not in shelf.head()
    assert (await two.rota.statuses(["101"]))["101"].state is PollState.STARTING


async def test_a_record_that_is_mended_before_it_is_given_up_is_read(shelf, replica):
    """What is given up is the record that was judged, not the one that has come in its place by then."""
    shelf.sign_in("101", version="2")
    one = replica("one")
    await one.rota.scan()
    await one.beat()
    bad = one.forget("101")
    with pytest.raises(SessionUnreadable) as unreadable:
        await bad.session(0.0)
    shelf.client.hset("qc:session:101", "version", "1")
    await bad.park(unreadable.value.message)
    await one.rota.scan()
    assert (await (await one.beat())["101"].lease.session(0.0)).guid.reveal() == "first"


@pytest.mark.parametrize(
    ("write", "mend"),
    [
        (lambda client: client.set("qc:session:101", "canary"), lambda client: client.delete("qc:session:101")),
        (lambda client: client.hset("qc:session:101", mapping={"guid": "canary"}), lambda _client: None),
        (
            lambda client: client.hset("qc:session:101", mapping={"agent_id": "102", "guid": "canary"}),
            lambda _client: None,
        ),
    ],
    ids=["wrong type", "of nobody", "of another"],
)
async def test_an_unreadable_record_harms_nobody_else(shelf, replica, write, mend):
    """A bad record is said to be one, told as lost, left alone until it is mended, and hinders no other inspector."""
    write(shelf.client)
    shelf.sign_in("102")
    one = replica("one")
    await one.rota.scan()
    claims = await one.beat()
    assert set(claims) == {"101", "102"}
    bad = one.forget("101")
    with pytest.raises(SessionUnreadable) as unreadable:
        await bad.session(0.0)
    assert "canary" not in unreadable.value.message
    await bad.park(unreadable.value.message)
    await one.rota.scan()
    assert await one.beat() == {}
    told = (await one.rota.statuses(["101"]))["101"]
    assert (told.state, told.detail) == (PollState.LOST, unreadable.value.message)
    mend(shelf.client)
    shelf.sign_in("101")
    await one.rota.scan()
    assert (await (await one.beat())["101"].lease.session(0.0)).guid.reveal() == "first"
    assert (await one.rota.statuses(["101"]))["101"].state is PollState.STARTING


async def test_an_inspector_without_a_session_is_taken_off_the_books(shelf, replica):
    """A session that went between the look and the claim is nobody's lease."""
    shelf.sign_in()
    one = replica("one")
    await one.rota.scan()
    shelf.sign_out()
    assert await one.beat() == {}
    assert shelf.score() is None


async def test_a_claim_says_how_long_nobody_polled(shelf, replica, take):
    """Whoever takes over knows how old the events in the gateway's queue may be, and how near a sign-out is."""
    shelf.sign_in()
    one, two = replica("one"), replica("two")
    await one.rota.enlist("101")
    first = (await one.beat())["101"]
    assert first.polled_ago_seconds is None
    await first.lease.keep(take.step())
    shelf.client.hincrby("qc:log:101", "polled_at", -40_000)
    shelf.expire("101")
    claim = (await two.beat())["101"]
    assert 40.0 <= claim.polled_ago_seconds < 70.0


async def test_logs_that_are_begun_together_have_names_of_their_own(shelf, replica):
    """A cursor of one inspector is no place in the log of another."""
    for agent_id in ("101", "102", "103"):
        shelf.sign_in(agent_id)
        await replica(f"for-{agent_id}").rota.enlist(agent_id)
    await replica("one").beat()
    assert len({shelf.client.hget(f"qc:log:{one}", "epoch") for one in ("101", "102", "103")}) == 3
