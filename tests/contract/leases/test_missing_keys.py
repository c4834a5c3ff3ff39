"""Replicas that have different keys beside each other: a session goes to who can read it, and nobody hides it."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from qc_adapter.events.leases import PollState
from qc_adapter.model.errors import SessionUnreadable
from qc_adapter.model.session import Secret, Session
from qc_adapter.sessions.records import Records, forms_of
from qc_adapter.store.seal import Seal, new_key

ONE, OTHER = new_key(), new_key()
NAME = Seal([ONE]).names[0]
IDS = [str(number) for number in range(101, 111)]


@pytest.fixture
async def blind(replica):
    """A replica with the key has ten sessions, and one comes that lacks it."""
    able = replica("able", records=Records(Seal([ONE])))
    blind = replica("blind", records=Records(Seal([OTHER])))
    for agent_id in IDS:
        await able.store.put(Session(agent_id, Secret("first")))
        await able.rota.enlist(agent_id)
    return able, blind


async def test_who_lacks_a_key_leaves_the_session_free(blind, shelf):
    """It claims nothing that it cannot read, says once which key it lacks, and reads what is behind it."""
    able, one = blind
    await able.rota.beat([], claiming=False)  # it has the key, and is just drained
    shelf.sign_in("999")
    await one.rota.enlist("999")
    with capture_logs() as lines:
        assert set(await one.beat()) == {"999"}
        await one.beat()
    assert [(line["event"], NAME in line["detail"]) for line in lines] == [("sessions_need_key", True)]
    assert {shelf.score(agent_id) for agent_id in IDS} == {shelf.FREE}
    assert set(await able.beat()) == set(IDS)


async def test_who_has_the_key_keeps_more_than_a_fair_share(blind):
    """Half of the sessions would be nobody's if they were shared with who cannot read them."""
    able, one = blind
    await able.beat()
    for _ in range(3):
        assert await one.beat() == {}
        await able.beat()
    lease = able.forget("101")
    await lease.release()
    assert await one.beat() == {}
    assert set(await able.beat()) == {"101"}
    assert able.share >= len(IDS)


async def test_a_lease_whose_record_is_sealed_anew_by_others_is_handed_back(replica, shelf):
    """The reader says which key it lacks, and the lease is free for those that have it."""
    one, able = replica("one", records=Records(Seal([OTHER]))), replica("able", records=Records(Seal([ONE])))
    shelf.sign_in()
    lease = await one.win()
    await able.store.put(Session("101", Secret("second")))
    await able.beat()
    lease._record = await one.store.stored("101")
    with pytest.raises(SessionUnreadable) as unreadable:
        await lease.session(0.0)
    assert unreadable.value.key == NAME
    await lease.release()
    one.forget()
    assert await one.beat() == {}
    assert set(await able.beat()) == {"101"}


async def test_without_any_replica_that_has_the_key_the_session_waits_for_one(blind, shelf):
    """It is told as lost, with the key that is wanting, holds up nobody, and goes on when a replica has the key."""
    able, one = blind
    await able.beat()
    shelf.client.delete(f"qc:seal:{NAME}")
    shelf.expire(*IDS)
    able.held.clear()
    for _ in range(5):  # each parks a fair share
        assert await one.beat() == {}
    assert {shelf.score(agent_id) for agent_id in IDS} == {shelf.PARKED}
    await one.rota.scan()
    assert {shelf.score(agent_id) for agent_id in IDS} == {shelf.PARKED}
    told = (await one.rota.statuses(["101"]))["101"]
    assert (told.state, NAME in told.detail) == (PollState.LOST, True)
    await able.beat()
    await one.rota.scan()
    won = set(await able.beat())
    assert await one.beat() == {}
    assert won | set(await able.beat()) == set(IDS)


async def test_another_record_ends_the_waiting_for_a_key(blind, shelf):
    """A session that is written anew, by a sign-in or by another system, waits for no key any more."""
    able, one = blind
    await able.beat()
    shelf.client.delete(f"qc:seal:{NAME}")
    shelf.expire(*IDS)
    shelf.silence("able")
    assert await one.beat() == {}
    shelf.client.hset("qc:session:101", mapping={"guid": "second", "cookies": ""})
    await one.store.put(Session("102", Secret("third")))
    await one.rota.scan()
    assert set(await one.beat()) == {"101", "102"}


async def test_thousands_of_sessions_of_another_key_hold_up_nobody(replica, shelf):
    """Who lacks their key looks past all of them, and finds the one that it can read."""
    one = replica("one", records=Records(Seal([OTHER])))
    with shelf.client.pipeline() as pipeline:
        pipeline.set(f"qc:seal:{NAME}", "")
        for number in range(1000, 2500):
            mapping = {"agent_id": str(number), "sealed_guid": f"{NAME}:text", "mark": "0"}
            pipeline.hset(f"qc:session:{number}", mapping=mapping)
            pipeline.zadd("qc:leases", {str(number): 0})
        pipeline.execute()
    shelf.sign_in("9999")
    await one.rota.enlist("9999")
    assert set(await one.beat()) == {"9999"}


async def test_sessions_are_sealed_with_a_key_that_all_have(replica, shelf):
    """A new key before the old one, in one replica only: it is used when all have it, and till then the way back is."""
    old, new = replica("old", records=Records(Seal([OTHER]))), replica("new", records=Records(Seal([ONE, OTHER])))
    await old.beat()
    await new.store.put(Session("101", Secret("first")))  # before its first beat
    lease = await new.win()
    assert forms_of(await new.store.stored("101")) == set(Seal([OTHER]).names)
    assert await lease.session(0.0)
    shelf.silence("old")
    await new.beat()
    await lease.release()  # to one that has the new key only
    assert forms_of(await new.store.stored("101")) == {NAME}
    await old.beat()
    await new.beat()
    await new.store.put(Session("101", Secret("second")))
    assert (await old.store.get("101")).guid == Secret("second")
