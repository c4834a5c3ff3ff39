"""Session records that are sealed in a real Redis, beside those that other systems write in plain text."""

from __future__ import annotations

import hashlib

import pytest

from qc_adapter.events import lease_scripts
from qc_adapter.model.errors import SessionUnreadable
from qc_adapter.model.session import Renewal, Secret, Session
from qc_adapter.sessions.records import PLAIN, Records, forms_of
from qc_adapter.sessions.redis import RedisSessionStore
from qc_adapter.store.opening import open_link
from qc_adapter.store.seal import Seal, new_key

OLD, NEW = new_key(), new_key()
GUID = "0a1b2c3d4e5f60718293a4b5c6d7e8f90123456789abcdef.AgentGateway0"
NEXT = GUID.replace("0a1b", "ffff")
COOKIES = "route=cookie-canary"
SESSION = Session("101", Secret(GUID), cookies=Secret(COOKIES))


def name_of(key):
    return Seal([key]).names[0]


def sealing(*keys, plain=False):
    return Records(Seal(keys), plain=plain)


@pytest.fixture
async def open_records(redis_url):
    """Opens stores that write records in one way or another; they share one link."""
    link = open_link(redis_url)
    yield lambda records: RedisSessionStore(link, records)
    await link.close()


@pytest.fixture
def store(open_records):
    """A store that seals."""
    return open_records(sealing(NEW))


@pytest.fixture
def writer(redis_server, redis_url):
    """Another system that writes records."""
    with redis_server.client() as client:
        yield client


def fields(writer, agent_id="101"):
    return {name.decode(): value.decode() for name, value in writer.hgetall(f"qc:session:{agent_id}").items()}


async def test_neither_guid_nor_cookies_stand_in_a_record_of_ours(store, writer):
    """What gives a sign-in away is sealed when it is written and when it is renewed, and read back whole."""
    await store.put(SESSION)
    found = fields(writer)
    assert not {"guid", "cookies"} & set(found)
    assert found["mark"] == hashlib.sha1(GUID.encode(), usedforsecurity=False).hexdigest()
    renewed = await store.renew("101", Secret(GUID), Renewal(Secret(NEXT), Secret("route=other-canary")))
    assert renewed == await store.get("101") == Session("101", Secret(NEXT), cookies=Secret("route=other-canary"))
    for stored in (found, fields(writer)):
        assert not [value for value in stored.values() if GUID in value or NEXT in value or "canary" in value]


async def test_no_argument_of_a_script_tells_a_secret(store, writer):
    """Who listens with MONITOR or reads SLOWLOG learns no GUID and no cookie of sealed records."""
    writer.config_set("slowlog-log-slower-than", 0)
    writer.slowlog_reset()
    with writer.monitor() as monitor:
        await store.put(SESSION)
        await store.renew("101", Secret(GUID), Renewal(Secret(NEXT)))
        await store.remove("101", Secret(GUID))
        await store.remove("101", Secret(NEXT))
        writer.set("qc:end", "1")
        heard = []
        while "qc:end" not in repr(heard[-1:]):
            heard.append(monitor.next_command())
    writer.config_set("slowlog-log-slower-than", 10_000)
    told = repr(heard) + repr(writer.slowlog_get(100))
    assert "sealed_guid" in told
    assert not [one for one in (GUID, NEXT, COOKIES) if one in told]
    assert not writer.exists("qc:session:101")


async def test_others_may_write_plain_values_over_sealed_ones(store, writer):
    """What another system sets in a sealed record is newer, and the next change of ours takes its place."""
    await store.put(SESSION)
    writer.hset("qc:session:101", "guid", f"JSESSIONID={NEXT}")
    assert (await store.get("101")).guid == Secret(NEXT)
    # A slow reply that belongs to the GUID before changes nothing.
    assert (await store.renew("101", Secret(GUID), Renewal(Secret("late")))).guid == Secret(NEXT)
    assert await store.remove("101", Secret(GUID)) is False
    assert (await store.renew("101", Secret(NEXT), Renewal(Secret("third")))).guid == Secret("third")
    assert "guid" not in fields(writer)
    writer.hset("qc:session:101", "cookies", "")
    assert (await store.get("101")).cookies == Secret("")


async def test_a_plain_value_of_ours_leaves_no_sealed_one_behind(open_records, writer):
    """With QC_STORE_PLAIN the record is as it always was, also when a replica that seals had it before."""
    await open_records(sealing(NEW)).put(SESSION)
    plain = open_records(sealing(NEW, plain=True))
    assert await plain.get("101") == SESSION
    await plain.renew("101", Secret(GUID), Renewal(Secret(NEXT), Secret("a=b")))
    assert (fields(writer)["guid"], fields(writer)["cookies"]) == (NEXT, "a=b")
    assert not {"sealed_guid", "sealed_cookies", "mark"} & set(fields(writer))


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        pytest.param(lambda mine, other: mine | {"sealed_guid": other["sealed_guid"]}, "something else", id="copied"),
        pytest.param(lambda mine, _: mine | {"sealed_guid": mine["sealed_cookies"]}, "something else", id="swapped"),
        pytest.param(
            lambda mine, _: mine | {"sealed_guid": mine["sealed_guid"][:-4] + "AAAA"}, "changed", id="changed"
        ),
        pytest.param(lambda mine, _: mine | {"sealed_cookies": "text"}, "no sealed text", id="no sealed text"),
        pytest.param(lambda mine, _: mine | {"mark": "0" * 40}, "its mark", id="another mark"),
        pytest.param(lambda mine, _: {**mine, "sealed_guid": ""}, "no sealed text", id="empty"),
    ],
)
async def test_what_was_tampered_with_is_refused(store, open_records, writer, damage, why):
    """A sealed value opens in the record and in the field that it was sealed for, as it was sealed, or not at all."""
    await store.put(SESSION)
    await store.put(Session("102", Secret(NEXT), cookies=Secret(COOKIES)))
    writer.hset("qc:session:101", mapping=damage(fields(writer), fields(writer, "102")))
    for reader in (store, open_records(sealing(NEW))):
        with pytest.raises(SessionUnreadable, match=why) as refused:
            await reader.get("101")
        assert refused.value.key == ""
        assert not [one for one in (GUID, NEXT, "canary") if one in refused.value.message]


@pytest.mark.parametrize("records", [Records(), sealing(OLD)], ids=["without keys", "with another key"])
async def test_a_missing_key_is_named(store, open_records, writer, records):
    """The name of a key opens nothing; it says which one to put into QC_SEAL_KEYS."""
    await store.put(SESSION)
    before = fields(writer)
    with pytest.raises(SessionUnreadable, match=name_of(NEW)) as refused:
        await open_records(records).get("101")
    assert refused.value.key == name_of(NEW)
    assert "QC_SEAL_KEYS" in refused.value.message
    assert fields(writer) == before


async def test_keys_change_in_three_steps(open_records, writer):
    """New behind old, new before old, new alone: at each step replicas of the one before and after read all."""
    await open_records(sealing(OLD)).put(SESSION)
    for keys in ([OLD], [OLD, NEW], [NEW, OLD], [NEW]):
        one = open_records(sealing(*keys))
        session = await one.get("101")
        assert await one.renew("101", session.guid, Renewal(session.guid, session.cookies)) == SESSION
        assert fields(writer)["sealed_guid"].startswith(name_of(keys[0]))


@pytest.mark.parametrize(
    ("before", "after", "form"),
    [
        pytest.param(Records(), sealing(NEW), {name_of(NEW)}, id="plain to sealed"),
        pytest.param(sealing(OLD), sealing(NEW, OLD), {name_of(NEW)}, id="old key to new"),
        pytest.param(sealing(NEW), sealing(NEW, plain=True), {PLAIN}, id="sealed to plain"),
    ],
)
async def test_a_record_is_put_into_the_form_of_who_reads_for_it(replica, shelf, before, after, form):
    """So a key goes out of use by itself, and what others wrote is sealed: at the first look, and only once."""
    one = replica("one", records=after)
    await RedisSessionStore(one.link, before).put(SESSION)
    lease = await one.win()
    assert await lease.session(0.0) == SESSION
    assert forms_of(await one.store.stored("101")) == form
    stored = fields(shelf.client)
    await lease.session(0.0)
    assert fields(shelf.client) == stored
    assert await one.store.get("101") == SESSION


@pytest.mark.parametrize("meanwhile", [{"guid": NEXT}, {"cookies": "newer=1"}, {"sealed_cookies": "text"}])
async def test_a_change_meanwhile_is_not_undone_by_another_form(replica, shelf, meanwhile):
    """What was written between the look and the change of form stays."""
    one = replica("one", records=sealing(NEW, OLD))
    await RedisSessionStore(one.link, sealing(OLD)).put(SESSION)
    change = one.records.to_recast("101", await one.store.stored("101"))
    shelf.client.hset("qc:session:101", mapping=meanwhile)
    before = fields(shelf.client)
    await one.link.script("test", lease_scripts.RECAST, *change)
    assert fields(shelf.client) == before


@pytest.mark.parametrize("ended", ["", "lost 100-006"], ids=["read elsewhere", "lost"])
async def test_records_that_nobody_reads_for_change_their_form_too(replica, shelf, ended):
    """A session whose events come another way, or that is lost, is sealed anew by who looks at the records."""
    old, one = replica("old", records=sealing(OLD)), replica("one", records=sealing(NEW, OLD))
    await old.store.put(SESSION)
    lease = await old.win()
    await (lease.end(SESSION, "100-006", "gone") if ended else lease.park())
    old.forget()
    shelf.silence("old")
    await one.rota.scan()  # nobody else has looked yet
    assert forms_of(await one.store.stored("101")) == {name_of(NEW)}
    await one.rota.scan()
    assert await one.beat() == {}
    assert shelf.head().get("ended", "") == ended
