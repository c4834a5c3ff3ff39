"""Renewals find their way into the store, late rather than never, and never over something newer."""

import asyncio
import time

import pytest

from qc_adapter.model.errors import StoreUnavailable
from qc_adapter.model.session import Renewal, Secret, Session
from qc_adapter.sessions.keeper import GuidKeeper
from qc_adapter.sessions.memory import MemorySessionStore


class Store(MemorySessionStore):
    """The store in memory, with a way to be away."""

    away = False
    refused = 0

    async def renew(self, agent_id, used, renewal):
        if self.away:
            self.refused += 1
            raise StoreUnavailable("renew", "away")
        return await super().renew(agent_id, used, renewal)


@pytest.fixture
async def store():
    made = Store()
    await made.put(Session("101", Secret("first")))
    return made


@pytest.fixture
async def keeper(store):
    made = GuidKeeper(store, retry_seconds=0.001)
    yield made
    await made.close()


async def until(condition):
    ends = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < ends, "the condition never came true"
        await asyncio.sleep(0.001)


async def guid_of(store):
    return (await store.get("101")).guid.reveal()


async def test_a_renewal_is_stored(store, keeper):
    """What a reply brought is there when `absorb` returns."""
    await keeper.absorb(await store.get("101"), Renewal(Secret("second"), Secret("a=b")))
    stored = await store.get("101")
    assert (stored.guid.reveal(), stored.cookies.reveal()) == ("second", "a=b")


async def test_nothing_is_stored_for_a_reply_without_news(store, keeper):
    """Most replies change nothing."""
    await keeper.absorb(await store.get("101"), None)
    assert await guid_of(store) == "first"


async def test_an_older_reply_changes_nothing(store, keeper):
    """A reply belongs to the GUID that its request was sent with."""
    old = await store.get("101")
    await keeper.absorb(old, Renewal(Secret("second")))
    await keeper.absorb(old, Renewal(Secret("late")))
    assert await guid_of(store) == "second"


async def test_a_renewal_waits_for_the_store(store, keeper):
    """A store that is away gets the renewal when it comes back; the caller does not wait for it."""
    session = await store.get("101")
    store.away = True
    await keeper.absorb(session, Renewal(Secret("second")))
    await until(lambda: store.refused >= 3)
    assert await guid_of(store) == "first"
    store.away = False
    await until(lambda: store._sessions["101"].guid == Secret("second"))
    await until(lambda: not keeper._tasks)


async def test_a_worthless_renewal_is_given_up(store):
    """A GUID that the gateway no longer takes is not tried for ever."""
    keeper = GuidKeeper(store, retry_seconds=0.001, worthless_after_seconds=0.01)
    session = await store.get("101")
    store.away = True
    await keeper.absorb(session, Renewal(Secret("second")))
    await until(lambda: not keeper._tasks)
    assert store.refused >= 1


async def test_closing_gives_up_and_leaves_no_task(store, keeper):
    """After `close` nothing tries on."""
    session = await store.get("101")
    store.away = True
    await keeper.absorb(session, Renewal(Secret("second")))
    await keeper.close()
    await until(lambda: not keeper._tasks)
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("renewal")]
