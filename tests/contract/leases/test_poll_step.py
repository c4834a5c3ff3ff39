"""The poll step: events, GUID and lease in one, once, and only for who holds the lease."""

from __future__ import annotations

import pytest

from qc_adapter.events.leases import LeaseLost, PollState
from qc_adapter.events.model import GapReason
from qc_adapter.model.errors import NotSignedIn, SessionUnreadable


async def test_a_step_stores_all_that_a_poll_brought(shelf, replica, take):
    """Events in order, the new GUID and a longer lease are there together."""
    shelf.sign_in(note="kept")
    one = replica("one")
    lease = await one.win()
    shelf.expire("101")
    stored = await lease.keep(
        take.step("AgentState_Busy", GapReason.POLL_REPLY_LOST, "AgentState_Ready", guid="second")
    )
    assert stored.guid.reveal() == "second" == shelf.guid()
    assert shelf.client.hget("qc:session:101", "note") == b"kept"
    assert shelf.told() == ["AgentState_Busy", "POLL_REPLY_LOST", "AgentState_Ready"]
    assert [position for position, _ in shelf.entries()] == [1, 2, 3]
    assert shelf.score() > shelf.now_ms() + 10_000
    assert lease.remaining_seconds > 10


async def test_an_empty_step_renews_the_lease_only(shelf, replica, take):
    """A poll without events is a sign of life."""
    shelf.sign_in()
    lease = await replica("one").win()
    shelf.expire("101")
    assert (await lease.keep(take.step())).guid.reveal() == "first"
    assert shelf.score() > shelf.now_ms()
    assert shelf.entries() == []


async def test_the_same_step_twice_is_told_once(shelf, replica, take):
    """A step whose reply was lost comes again: its events stand there once, and the next one goes on behind them."""
    shelf.sign_in()
    lease = await replica("one").win()
    brought = take.step("AgentState_Busy", "AgentState_Ready", guid="second")
    first = await lease.keep(brought)
    assert await lease.keep(brought) == first
    await lease.keep(take.step("AgentState_Work", used="second"))
    assert shelf.told() == ["AgentState_Busy", "AgentState_Ready", "AgentState_Work"]


async def test_equal_steps_are_two(shelf, replica, take):
    """Two polls may bring the same: what tells steps apart is not what is in them."""
    shelf.sign_in()
    lease = await replica("one").win()
    for _ in range(2):
        await lease.keep(take.step("AgentState_Busy"))
    assert shelf.told() == ["AgentState_Busy"] * 2


@pytest.mark.parametrize("how", ["taken over", "handed back", "taken and handed back"])
async def test_who_lost_the_lease_adds_nothing(shelf, replica, take, how):
    """A replica that was frozen and comes back is refused: its events are a gap already."""
    shelf.sign_in()
    one, two = replica("one"), replica("two")
    older = await one.win()
    one.forget()
    if how == "handed back":
        await older.release()
    else:
        shelf.expire("101")
        newer = (await two.beat())["101"].lease
        if how == "taken and handed back":
            await newer.release()
    before = shelf.told(), shelf.score(), shelf.head()
    with pytest.raises(LeaseLost):
        await older.keep(take.step("AgentState_Busy"))
    assert (shelf.told(), shelf.score(), shelf.head()) == before


async def test_the_guid_of_a_refused_step_is_stored_if_it_is_the_next_one(shelf, replica, take):
    """The reply of the older reader may hold the only GUID that the gateway takes now."""
    shelf.sign_in()
    one, two = replica("one"), replica("two")
    older = await one.win()
    one.forget()
    shelf.expire("101")
    newer = (await two.beat())["101"].lease
    with pytest.raises(LeaseLost):
        await older.keep(take.step("AgentState_Busy", guid="second"))
    assert shelf.guid() == "second"
    assert shelf.told() == ["TAKEOVER"]
    assert (await newer.keep(take.step())).guid.reveal() == "second"


async def test_the_guid_of_a_late_step_does_not_replace_a_newer_one(shelf, replica, take):
    """A reply belongs to the GUID that it was asked with."""
    shelf.sign_in()
    one, two = replica("one"), replica("two")
    older = await one.win()
    one.forget()
    shelf.expire("101")
    newer = (await two.beat())["101"].lease
    await newer.keep(take.step(guid="second"))
    with pytest.raises(LeaseLost):
        await older.keep(take.step(guid="other"))
    assert shelf.guid() == "second"


async def test_a_newer_sign_in_is_not_overwritten_by_its_reader(shelf, replica, take):
    """Another system may have signed in anew: the step keeps the events and takes up the GUID."""
    shelf.sign_in()
    lease = await replica("one").win()
    shelf.sign_in(guid="JSESSIONID=anew")
    stored = await lease.keep(take.step("AgentState_Busy", guid="second"))
    assert stored.guid.reveal() == "anew"
    assert shelf.told() == ["AgentState_Busy"]


async def test_a_copied_header_in_the_record_does_not_stop_renewals(shelf, replica, take):
    """The GUID counts without the prefix of the header that it came in."""
    shelf.sign_in(guid="jsessionid=first")
    lease = await replica("one").win()
    assert (await lease.keep(take.step(guid="second"))).guid.reveal() == "second"


async def test_the_last_step_of_a_session_that_is_gone(shelf, replica, take):
    """Its events are told, then the streams end; the lease is nobody's."""
    shelf.sign_in()
    one, two = replica("one"), replica("two")
    lease = await one.win()
    feed = await two.mirror.follow("101")
    shelf.sign_out()
    brought = take.step("AgentOther_ShutdownService", guid="second")
    assert await lease.keep(brought) is None
    assert shelf.guid() is None
    assert (shelf.holder(), shelf.score()) == (None, None)
    await two.mirror._catch_up("101")
    assert [take.short(entry.item) for entry in feed.read(0, 10)] == ["AgentOther_ShutdownService"]
    assert isinstance(feed.ended, NotSignedIn)
    with pytest.raises(LeaseLost):
        await lease.keep(brought)
    assert shelf.told() == ["AgentOther_ShutdownService"]


async def test_a_record_that_became_unreadable_keeps_the_events(shelf, replica, take):
    """What was taken away from the gateway is told, whatever another system wrote into the session meanwhile."""
    shelf.sign_in()
    one = replica("one")
    lease = await one.win()
    shelf.client.delete("qc:session:101")
    shelf.client.set("qc:session:101", "canary")
    brought = take.step("AgentState_Busy", guid="second")
    assert await lease.keep(brought) is brought.used
    assert shelf.told() == ["AgentState_Busy"]
    with pytest.raises(SessionUnreadable):
        await lease.session(0.0)


@pytest.mark.parametrize("twice", [False, True])
async def test_positions_that_a_failover_lost_are_not_used_again(shelf, replica, take, twice):
    """When a promoted Redis lacks the end of the log, what follows stands behind it, after a gap."""
    shelf.sign_in()
    one = replica("one")
    feed = await one.mirror.follow("101")
    lease = await one.win()
    for name in ("AgentState_Busy", "AgentState_Ready", "AgentState_Work"):
        await lease.keep(take.step(name))
    shelf.client.hset("qc:log:101", "n", 1)
    shelf.client.xdel("qc:events:101", "2-0", "3-0")
    brought = take.step("AgentState_Rest")
    for _ in range(1 + twice):
        await lease.keep(brought)
    await lease.keep(take.step("AgentState_Idle"))
    assert [(position, take.short(item)) for position, item in shelf.entries()] == [
        (1, "AgentState_Busy"),
        (4, "LOG_LOST"),
        (5, "AgentState_Rest"),
        (6, "AgentState_Idle"),
    ]
    await one.mirror._catch_up("101")
    assert [take.short(entry.item) for entry in feed.read(3, 10)] == ["LOG_LOST", "AgentState_Rest", "AgentState_Idle"]


async def test_a_log_keeps_its_newest_entries(shelf, replica, take):
    """The number of entries is bounded; positions go on."""
    shelf.sign_in()
    lease = await replica("one", capacity=5).win()
    for _ in range(4):
        await lease.keep(take.step("AgentState_Busy", "AgentState_Ready"))
    assert [position for position, _ in shelf.entries()] == [4, 5, 6, 7, 8]


@pytest.mark.parametrize("old", [1, 2, 51, 120])
async def test_entries_that_are_too_old_go(shelf, replica, take, old):
    """A step drops what is older than the retention, however much that is, and nothing else."""
    shelf.sign_in()
    lease = await replica("one").win()
    await lease.keep(take.step(*["AgentState_Busy"] * 125))
    long_ago = shelf.now_ms() - 601_000
    kept = shelf.client.xrange("qc:events:101")
    shelf.client.xtrim("qc:events:101", 0, approximate=False)
    shelf.client.delete("qc:events:101")
    for number, (name, fields) in enumerate(kept):
        shelf.client.xadd("qc:events:101", fields | ({b"t": long_ago} if number < old else {}), id=name)
    await lease.keep(take.step())
    assert [position for position, _ in shelf.entries()] == list(range(old + 1, 126))


async def test_nothing_is_kept_for_ever(shelf, replica, take):
    """Streams go by themselves when nothing is added; the head of a log lasts as long as the session, and a while."""
    shelf.sign_in()
    one = replica("one")
    lease = await one.win()
    await lease.keep(take.step("AgentState_Busy"))
    assert 600_000 < shelf.client.pttl("qc:events:101") <= 1_200_000
    assert shelf.client.pttl("qc:log:101") == -1
    shelf.sign_out()
    await one.rota.retire("101")
    assert 600_000 < shelf.client.pttl("qc:log:101") <= 1_200_000
    assert shelf.client.pttl("qc:claims:one") > 0
    shelf.sign_in(guid="second")
    await one.rota.enlist("101")
    assert shelf.client.pttl("qc:log:101") == -1


async def test_the_status_is_known_to_every_replica(shelf, replica, take):
    """How polling goes is written with each step; the time is that of the last answered poll."""
    shelf.sign_in()
    one, two = replica("one"), replica("two")
    lease = await one.win()
    assert (await two.rota.statuses(["101", "102"]))["101"].state is PollState.STARTING
    await lease.keep(take.step())
    before = (await two.rota.statuses(["101"]))["101"]
    assert (before.state, before.detail) == (PollState.ACTIVE, "")
    await lease.keep(take.step(state=PollState.DEGRADED, detail="away"))
    after = (await two.rota.statuses(["101", "102"]))["101"]
    assert (after.state, after.detail, after.answered_time) == (PollState.DEGRADED, "away", before.answered_time)


async def test_a_lease_that_would_end_during_the_poll_is_extended_before_it(shelf, replica):
    """Nobody else may poll while the gateway holds ours; who lost the lease learns of it here."""
    shelf.sign_in()
    one, two = replica("one"), replica("two")
    lease = await one.win()
    shelf.expire("101")
    await lease.session(lease.remaining_seconds + 1.0)
    assert shelf.score() > shelf.now_ms()
    shelf.expire("101")
    one.forget()
    assert "101" in await two.beat()
    with pytest.raises(LeaseLost):
        await lease.session(3600.0)


async def test_a_long_poll_is_covered_by_beats(shelf, replica):
    """A lease that has used up half of its time is renewed by the beat; one that is gone is named."""
    shelf.sign_in("101")
    shelf.sign_in("102")
    one, two = replica("one"), replica("two")
    await one.rota.scan()
    await one.beat()
    await two.beat()
    for lease in one.held.values():
        lease._until -= 20.0
    shelf.expire("101", "102")
    assert len(await two.beat()) == 1
    [taken] = two.held
    await one.beat()
    assert one.lost == {taken}
    [left] = one.held.values()
    assert left.remaining_seconds > 20
    assert shelf.score(left.agent_id) > shelf.now_ms()


async def test_a_copy_of_a_step_that_comes_late_is_left_alone(shelf, replica, take):
    """A step that was given up and repeated may still lie on another connection, until after the next step."""
    shelf.sign_in()
    one = replica("one")
    lease = await one.win()
    sent = []
    script = one.link.script

    async def noted(operation, text, *arguments):
        sent.append((operation, text, *arguments))
        return await script(operation, text, *arguments)

    one.link.script = noted
    await lease.keep(take.step("AgentState_Busy"))
    await lease.keep(take.step("AgentState_Ready"))
    for copy in sent:
        await script(*copy)
    await lease.keep(take.step("AgentState_Work"))
    assert [(position, take.short(item)) for position, item in shelf.entries()] == [
        (1, "AgentState_Busy"),
        (2, "AgentState_Ready"),
        (3, "AgentState_Work"),
    ]
