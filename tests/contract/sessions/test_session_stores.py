"""What every session store promises, on the memory store and on a real Redis."""

from __future__ import annotations

import asyncio

import pytest

from qc_adapter.model.errors import InvalidRequest
from qc_adapter.model.session import EventSource, Renewal, Secret, Session
from qc_adapter.sessions.opening import open_store
from qc_adapter.sessions.records import Records
from qc_adapter.store.opening import open_link
from qc_adapter.store.seal import Seal, new_key


@pytest.fixture(params=["memory", "redis", "sealed"])
async def store(request):
    url = "memory://" if request.param == "memory" else request.getfixturevalue("redis_url")
    records = Records(Seal([new_key()])) if request.param == "sealed" else None
    opened = open_store(open_link(url), records)
    yield opened
    await opened.close()


def session(agent_id="101", guid="guid-1", **fields):
    return Session(agent_id=agent_id, guid=Secret(guid), **fields)


async def test_an_unknown_inspector_has_no_session(store):
    """Reading, renewing and removing what is not there is an answer, not an error."""
    assert await store.get("101") is None
    assert await store.renew("101", Secret("guid-1"), Renewal(Secret("guid-2"))) is None
    assert await store.remove("101") is False
    assert await store.agent_ids() == []


async def test_a_session_comes_back_whole(store):
    """Every field of a session is kept."""
    stored = session(
        event_source=EventSource.PUSH,
        cookies=Secret("route=a1; lb=b2"),
        server_name="ctiserver 1 äß",
        signed_in_at=1785312000.125,
    )
    await store.put(stored)
    assert await store.get("101") == stored


async def test_put_replaces_the_whole_session(store):
    """Nothing of an older sign-in shines through a newer one."""
    await store.put(session(cookies=Secret("route=a1"), server_name="one", signed_in_at=1.0))
    await store.put(session(guid="guid-2"))
    assert await store.get("101") == session(guid="guid-2")


async def test_put_says_whether_another_sign_in_was_there(store):
    """A first sign-in and a change of the same one replace nothing; another GUID does, whatever stands before it."""
    assert await store.put(session()) is False
    assert await store.put(session(guid="JSESSIONID=guid-1", event_source=EventSource.NONE)) is False
    assert await store.put(session(guid="guid-2")) is True
    await store.remove("101")
    assert await store.put(session(guid="guid-3")) is False


async def test_sessions_of_several_inspectors_do_not_mix(store):
    """Each inspector gets its own session, and the list names them all."""
    agents = [str(number) for number in range(101, 181)]
    for agent in agents:
        await store.put(session(agent, f"guid-of-{agent}"))
    assert sorted(await store.agent_ids()) == agents
    found = await asyncio.gather(*map(store.get, agents))
    assert [one.guid.reveal() for one in found] == [f"guid-of-{agent}" for agent in agents]


async def test_renew_with_the_stored_guid_changes_it(store):
    """A reply to the current GUID brings the next one; the other fields stay."""
    await store.put(session(cookies=Secret("route=a1"), server_name="one"))
    renewed = await store.renew("101", Secret("guid-1"), Renewal(Secret("guid-2")))
    assert renewed == session(guid="guid-2", cookies=Secret("route=a1"), server_name="one")
    assert await store.get("101") == renewed


async def test_renew_of_cookies_alone_keeps_the_guid(store):
    """A reply may bring new cookies without a new GUID, and may clear them."""
    await store.put(session(cookies=Secret("route=a1")))
    assert await store.renew("101", Secret("guid-1"), Renewal(cookies=Secret("route=b2"))) == session(
        cookies=Secret("route=b2")
    )
    assert await store.renew("101", Secret("guid-1"), Renewal(cookies=Secret(""))) == session()


async def test_a_late_reply_does_not_overwrite_a_newer_guid(store):
    """A reply to an older GUID changes nothing, and the caller gets the newer session."""
    await store.put(session(guid="guid-3"))
    assert await store.renew("101", Secret("guid-1"), Renewal(Secret("guid-2"))) == session(guid="guid-3")
    assert await store.get("101") == session(guid="guid-3")


async def test_an_empty_renewal_changes_nothing(store):
    """A reply without Set-GUID and cookies leaves the session as it is."""
    await store.put(session())
    assert await store.renew("101", Secret("guid-1"), Renewal()) == session()


async def test_of_many_renewals_of_one_guid_one_wins(store):
    """Replies that race with the same GUID agree on one successor."""
    await store.put(session())
    offers = [Renewal(Secret(f"next-{number}")) for number in range(50)]
    seen = await asyncio.gather(*(store.renew("101", Secret("guid-1"), offer) for offer in offers))
    assert len({one.guid for one in seen}) == 1
    assert await store.get("101") == seen[0]


async def test_remove_with_a_guid_spares_a_newer_sign_in(store):
    """Signing out an old session does not remove the one that came after it."""
    await store.put(session(guid="guid-2"))
    assert await store.remove("101", Secret("guid-1")) is False
    assert await store.get("101") == session(guid="guid-2")
    assert await store.remove("101", Secret("guid-2")) is True
    assert await store.get("101") is None


async def test_remove_without_a_guid_removes_whatever_is_there(store):
    """Without a GUID the session goes, and says so once."""
    await store.put(session())
    assert await store.remove("101") is True
    assert await store.remove("101") is False
    assert await store.agent_ids() == []


async def test_a_copied_set_guid_header_is_understood(store):
    """A GUID that still has its JSESSIONID= prefix is stored without it."""
    await store.put(session(guid="JSESSIONID=guid-1"))
    assert await store.get("101") == session(guid="guid-1")


@pytest.mark.parametrize("guid", ["", "JSESSIONID=", "a b", "a\r\nX: y", "a\x00", "ä", "a" * 4097])
async def test_a_guid_that_is_no_header_value_is_refused(store, guid):
    """What could break out of a header is not stored, and the refusal does not repeat it."""
    with pytest.raises(InvalidRequest) as refused:
        await store.put(session(guid=guid))
    assert not guid or guid not in str(refused.value)
    assert await store.get("101") is None


async def test_a_renewal_that_is_no_header_value_is_refused(store):
    """A reply cannot plant a broken header either: the session stays as it was."""
    await store.put(session())
    with pytest.raises(InvalidRequest):
        await store.renew("101", Secret("guid-1"), Renewal(Secret("a\r\nb")))
    with pytest.raises(InvalidRequest):
        await store.renew("101", Secret("guid-1"), Renewal(cookies=Secret("a\r\nb")))
    assert await store.get("101") == session()


async def test_an_open_store_answers_a_ping(store):
    """Readiness asks with a ping."""
    await store.ping()


async def test_of_two_who_begin_one_may(store):
    """While one signs an inspector in or out, no other one begins; another inspector is another matter."""
    assert await store.begin("101", "mine", 60.0) is True
    assert await store.begin("101", "yours", 60.0) is False
    assert await store.begin("102", "yours", 60.0) is True
    await store.finish("101", "mine")
    assert await store.begin("101", "yours", 60.0) is True


async def test_of_many_who_begin_at_once_one_may(store):
    """However many begin at the same moment, one of them may go on."""
    begun = await asyncio.gather(*(store.begin("101", f"mark-{number}", 60.0) for number in range(20)))
    assert begun.count(True) == 1


async def test_who_began_may_begin_again(store):
    """The same mark is the same sign-in: an answer may have been lost."""
    assert [await store.begin("101", "mine", 60.0) for _ in range(2)] == [True, True]


async def test_only_who_began_lets_others_begin(store):
    """A late word of somebody else frees nothing, and to finish twice harms nobody."""
    await store.begin("101", "mine", 60.0)
    await store.finish("101", "yours")
    assert await store.begin("101", "yours", 60.0) is False
    for _ in range(2):
        await store.finish("101", "mine")
    assert await store.begin("101", "yours", 60.0) is True
