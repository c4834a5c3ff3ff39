"""Replicas that seal beside replicas of a release that reads plain records only: nothing is hidden from those."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from qc_adapter.model.session import Renewal, Secret, Session
from qc_adapter.sessions.records import PLAIN, Records, forms_of
from qc_adapter.store.seal import Seal, new_key

KEY = new_key()
NAME = Seal([KEY]).names[0]
FIRST = Session("101", Secret("first"))


def sealing(*, at_once=False):
    return Records(Seal([KEY]), at_once=at_once)


@pytest.fixture
def older(shelf):
    """A replica of the older release: it is there, and says nothing of what it can read."""

    class Older:
        @staticmethod
        def comes():
            shelf.client.zadd("qc:replicas", {"older": shelf.now_ms() + 60_000})

        @staticmethod
        def drains():
            shelf.client.zrem("qc:replicas", "older")
            shelf.client.zadd("qc:departing", {"older": shelf.now_ms() + 60_000})

        @staticmethod
        def goes():
            shelf.client.zrem("qc:replicas", "older")
            shelf.client.zrem("qc:departing", "older")

        @staticmethod
        def is_long_gone():
            shelf.client.delete("qc:unsealed")

    return Older


async def form(one, agent_id="101"):
    [found] = forms_of(await one.store.stored(agent_id))
    return found


@pytest.mark.parametrize("drains", [False, True], ids=["serving", "draining"])
async def test_nothing_is_sealed_before_an_older_release_is_long_gone(replica, shelf, older, drains):
    """Sign-ins and renewals stay plain beside it and for an hour after, for the way back; then all is sealed."""
    older.comes()
    if drains:
        older.drains()
    one = replica("one", records=sealing())
    with capture_logs() as lines:
        await one.store.put(FIRST)
        lease = await one.win()
        await one.store.renew("101", Secret("first"), Renewal(Secret("second")))
        await one.beat()
        older.goes()
        for _ in range(2):
            await one.beat()
        assert await form(one) == PLAIN
        lease._record = await one.store.stored("101")
        assert (await lease.session(0.0)).guid == Secret("second")
        assert await form(one) == PLAIN
        assert 3000 < shelf.client.ttl("qc:unsealed") <= 3600
        older.is_long_gone()
        await one.beat()
        assert (await lease.session(0.0)).guid == Secret("second")
    assert await form(one) == NAME
    assert [line["event"] for line in lines] == ["sealing_waits", "sealing_begins"]


async def test_who_writes_before_its_first_beat_asks_first(replica, older):
    """A call may be quicker than the first look at the others."""
    older.comes()
    one = replica("one", records=sealing())
    await one.store.put(FIRST)
    assert await form(one) == PLAIN
    other = replica("other", records=sealing())
    await other.store.renew("101", Secret("first"), Renewal(Secret("second")))
    assert await form(other) == PLAIN


async def test_it_is_sealed_at_once_where_that_is_wanted(replica, older):
    """QC_STORE_PLAIN=0 waits for nobody."""
    older.comes()
    one = replica("one", records=sealing(at_once=True))
    await one.beat()
    await one.store.put(FIRST)
    assert await form(one) == NAME


async def test_an_older_release_that_comes_back_changes_nothing(replica, shelf, older):
    """Who seals goes on, new ones follow it, and those who can read take more than a share from who cannot."""
    one = replica("one", records=sealing())
    for agent_id in ("101", "102"):
        await one.store.put(Session(agent_id, Secret("first")))
        await one.rota.enlist(agent_id)
    await one.beat()
    older.comes()
    await one.beat()
    assert one.share == 2
    other = replica("other", records=sealing())
    await other.beat()
    await other.store.put(FIRST)
    assert (await form(other), await form(one, "102")) == (NAME, NAME)
    assert not shelf.client.exists("qc:unsealed")


async def test_what_an_older_release_could_not_read_is_read_again(replica, shelf, older):
    """It parks a sealed session as one that nobody can read; whoever can read it does."""
    one = replica("one", records=sealing())
    await one.store.put(FIRST)
    lease = await one.win()
    older.comes()
    await lease.park("it has no guid")  # as the older release does that claimed it
    one.forget()
    assert shelf.score() == shelf.PARKED
    shelf.client.set("qc:scanner", "older")  # it looks for changes, and sees none
    await one.rota.scan()
    assert shelf.client.get("qc:scanner") == b"one"
    assert set(await one.beat()) == {"101"}
    await one.held["101"].end(FIRST, "100-006", "gone")
    await one.rota.scan()
    assert shelf.score() == shelf.PARKED


async def test_a_redis_that_lost_everything_is_no_proof_that_all_can_read(replica, shelf, older):
    """Until everybody has come again a replica that waits goes on waiting."""
    older.comes()
    one = replica("one", records=sealing())
    await one.beat()
    shelf.client.flushall()
    await one.beat()
    await one.store.put(FIRST)
    assert await form(one) == PLAIN
    older.comes()
    shelf.client.delete("qc:relearning")
    await one.beat()
    assert shelf.client.exists("qc:unsealed")
