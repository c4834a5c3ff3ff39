"""What only the Redis store has: records of other writers, outages, cancelled callers."""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest
import structlog

from qc_adapter.model.errors import SessionUnreadable, StoreUnavailable
from qc_adapter.model.session import EventSource, Renewal, Secret, Session
from qc_adapter.sessions.opening import open_store
from qc_adapter.store.opening import open_link
from tests.support.watching import until
from tests.support.wire import Wire


def opened_store(url, **options):
    return open_store(open_link(url, **options))


@pytest.fixture
async def store(redis_url):
    opened = opened_store(redis_url)
    yield opened
    await opened.close()


@pytest.fixture
def writer(redis_server, redis_url):
    with redis_server.client() as client:
        yield client


@pytest.fixture
async def far_store(own_redis_server):
    """A store whose server the test may take away, and the operations that failed."""
    failed: list[str] = []
    opened = opened_store(own_redis_server.url, timeout_seconds=0.5, on_error=failed.append)
    yield opened, failed
    await opened.close()


async def test_a_record_by_hand_needs_two_fields(store, writer):
    """HSET qc:session:101 agent_id 101 guid X is a session that is polled."""
    writer.hset("qc:session:101", mapping={"agent_id": "101", "guid": "XXX"})
    assert await store.get("101") == Session("101", Secret("XXX"), EventSource.POLL)
    assert await store.agent_ids() == ["101"]


async def test_a_record_by_hand_is_renewed_and_removed_like_ours(store, writer):
    """The prefix of a copied header does not break comparing and setting."""
    writer.hset("qc:session:101", mapping={"agent_id": "101", "guid": "JSESSIONID=XXX", "note": "kept"})
    assert await store.renew("101", Secret("XXX"), Renewal(Secret("YYY"))) == Session("101", Secret("YYY"))
    assert writer.hget("qc:session:101", "note") == b"kept"
    writer.hset("qc:session:101", "guid", "JSESSIONID=ZZZ")
    assert await store.remove("101", Secret("ZZZ")) is True


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"agent_id": "102", "guid": "canary"}, id="of another inspector"),
        pytest.param({"guid": "canary"}, id="of nobody"),
        pytest.param({"agent_id": "101"}, id="without a guid"),
        pytest.param({"agent_id": "101", "guid": "canary\r\nX: y"}, id="with a broken guid"),
        pytest.param({"agent_id": "101", "guid": "canary", "cookies": "a\nb"}, id="with broken cookies"),
        pytest.param({"agent_id": "101", "guid": "canary", "event_source": "pigeon"}, id="of an unknown source"),
        pytest.param({"agent_id": "101", "guid": "canary", "version": "2"}, id="of a newer version"),
        pytest.param({"agent_id": "101", "guid": b"canary\xff"}, id="that is not UTF-8"),
    ],
)
async def test_a_record_that_cannot_be_trusted_is_never_used(store, writer, fields):
    """A record that is not readable as this inspector's is an error that names the key and not the value."""
    writer.hset("qc:session:101", mapping=fields)
    with structlog.testing.capture_logs() as logs, pytest.raises(SessionUnreadable) as refused:
        await store.get("101")
    assert "qc:session:101" in refused.value.message
    assert "canary" not in refused.value.message + repr(logs)


async def test_a_minor_version_and_unknown_fields_are_read(store, writer):
    """Fields that a later release adds do not hinder this one."""
    writer.hset("qc:session:101", mapping={"agent_id": "101", "guid": "XXX", "version": "1.4", "colour": "red"})
    assert await store.get("101") == Session("101", Secret("XXX"))


async def test_foreign_keys_are_not_inspectors(store, writer):
    """Only ids as the adapter writes them are listed: two spellings of one would be two sessions of one inspector."""
    for odd in ("lock", "0101", "0", "default/101", "north/0101", "north/101/2", "NORTH/101", "/101", " 101", "\u0663"):
        writer.hset(f"qc:session:{odd}", mapping={"agent_id": odd.rpartition("/")[2], "guid": "XXX"})
    writer.set("other:101", "1")
    for agent_id in ("101", "north/101"):
        await store.put(Session(agent_id, Secret("XXX")))
    assert sorted(await store.agent_ids()) == ["101", "north/101"]


async def test_a_key_of_another_type_is_no_session(store, writer):
    """What is no hash is a fault of its writer, not of the store; it names the key and not the value."""
    writer.set("qc:session:101", "canary")
    for access in (
        store.get("101"),
        store.renew("101", Secret("XXX"), Renewal(Secret("YYY"))),
        store.remove("101", Secret("XXX")),
    ):
        with pytest.raises(SessionUnreadable, match="qc:session:101 holds no hash") as refused:
            await access
        assert "canary" not in refused.value.message


async def test_scripts_survive_that_redis_forgets_them(store, writer):
    """A restarted or promoted Redis knows no script: the text is sent once more."""
    await store.put(Session("101", Secret("XXX")))
    writer.script_flush()
    assert await store.renew("101", Secret("XXX"), Renewal(Secret("YYY"))) == Session("101", Secret("YYY"))


async def test_a_store_that_is_away_says_so_and_comes_back(far_store, own_redis_server):
    """While Redis is away each operation fails with its name; when it is back the same store works."""
    store, failed = far_store
    await store.put(Session("101", Secret("XXX")))
    own_redis_server.stop()
    for operation, attempt in {
        "get": lambda: store.get("101"),
        "put": lambda: store.put(Session("101", Secret("XXX"))),
        "renew": lambda: store.renew("101", Secret("XXX"), Renewal(Secret("YYY"))),
        "remove": lambda: store.remove("101"),
        "list": store.agent_ids,
        "ping": store.ping,
    }.items():
        with pytest.raises(StoreUnavailable, match="Connection refused") as failure:
            await attempt()
        assert failure.value.operation == operation
    assert failed == ["get", "put", "renew", "remove", "list", "ping"]
    own_redis_server.start()
    await store.put(Session("101", Secret("ZZZ")))
    assert await store.get("101") == Session("101", Secret("ZZZ"))


@pytest.mark.parametrize(
    ("setting", "hindering", "why"),
    [("maxmemory", "1", "OOM"), ("min-replicas-to-write", "1", "takes no writes")],
    ids=["full", "no master any more"],
)
async def test_a_store_that_takes_no_writes_is_not_well(far_store, own_redis_server, setting, hindering, why):
    """A Redis that answers and cannot store what a poll brings is as good as away, until it takes writes again."""
    store, _failed = far_store
    with own_redis_server.client() as client:
        client.config_set(setting, hindering)
        with pytest.raises(StoreUnavailable, match=why):
            await store.ping()
        client.config_set(setting, "0")
    await store.ping()


async def test_a_restart_between_two_operations_is_not_noticed(far_store, own_redis_server):
    """A connection that went stale while idle is replaced within the operation."""
    store, failed = far_store
    await asyncio.gather(*(store.ping() for _ in range(10)))
    own_redis_server.stop()
    own_redis_server.start()
    await asyncio.gather(*(store.ping() for _ in range(10)))
    assert failed == []


async def test_a_frozen_store_ends_in_time_and_its_late_replies_reach_nobody(far_store, own_redis_server):
    """A Redis that does not answer is given up after the time limit; what it says later belongs to no one."""
    store, _failed = far_store
    for agent in range(101, 121):
        await store.put(Session(str(agent), Secret(f"guid-{agent}")))
    own_redis_server.freeze()
    outcomes = await asyncio.gather(*(store.get(str(agent)) for agent in range(101, 121)), return_exceptions=True)
    assert {str(outcome) for outcome in outcomes} == {str(StoreUnavailable("get", "no answer within 0.5 s"))}
    own_redis_server.thaw()
    for agent in range(120, 100, -1):
        assert (await store.get(str(agent))).guid == Secret(f"guid-{agent}")


async def test_cancelled_reads_never_cross(store):
    """However many reads are cancelled at any point, every later read returns the right inspector's GUID."""
    agents = [str(agent) for agent in range(101, 201)]
    for agent in agents:
        await store.put(Session(agent, Secret(f"guid-{agent}")))
    dice = random.Random(7)  # noqa: S311

    async def read_and_leave(agent):
        task = asyncio.create_task(store.get(agent))
        for _ in range(dice.randrange(40)):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            return agent, await task

    finished = await asyncio.gather(*(read_and_leave(dice.choice(agents)) for _ in range(500)))
    assert None in finished
    for agent, session in filter(None, finished):
        assert session.guid == Secret(f"guid-{agent}")
    for agent in agents * 2:
        assert (await store.get(agent)).guid == Secret(f"guid-{agent}")


async def test_a_cancelled_caller_does_not_undo_its_change(store, redis_url):
    """A put whose caller leaves right after it began is carried out."""
    task = asyncio.create_task(store.put(Session("101", Secret("XXX"))))
    await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await store.close()
    again = opened_store(redis_url)
    assert await again.get("101") == Session("101", Secret("XXX"))
    await again.close()


async def test_more_callers_than_connections_wait_their_turn(store):
    """A burst beyond the connection limit is served, not refused."""
    await store.put(Session("101", Secret("XXX")))
    sessions = await asyncio.gather(*(store.get("101") for _ in range(500)))
    assert set(sessions) == {Session("101", Secret("XXX"))}


async def test_a_closed_store_refuses(redis_url):
    """After close no connection is opened any more."""
    store = opened_store(redis_url)
    await store.ping()
    await store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.ping()


async def test_a_wrong_password_is_said_without_repeating_it(locked_redis_server):
    """Refused credentials are named as such; neither the right nor the wrong password shows."""
    wrong = opened_store(locked_redis_server.url.replace("open-sesame", "canary-word"))
    none = opened_store(locked_redis_server.url.replace(":open-sesame@", ""))
    right = opened_store(locked_redis_server.url)
    for store in (wrong, none):
        with pytest.raises(StoreUnavailable, match="the credentials were refused") as failure:
            await store.ping()
        assert "canary" not in failure.value.message
        await store.close()
    await right.ping()
    await right.close()


async def test_a_demoted_server_is_named_and_left(far_store, own_redis_server):
    """Writing to a Redis that became a replica says so, and works again after its promotion."""
    store, _failed = far_store
    await store.put(Session("101", Secret("XXX")))
    with own_redis_server.client() as admin:
        admin.replicaof("127.0.0.1", 1)
        with pytest.raises(StoreUnavailable, match="takes no writes") as failure:
            await store.renew("101", Secret("XXX"), Renewal(Secret("YYY")))
        assert "YYY" not in failure.value.message
        assert await store.get("101") == Session("101", Secret("XXX"))
        admin.replicaof("NO", "ONE")
    assert await store.renew("101", Secret("XXX"), Renewal(Secret("YYY"))) == Session("101", Secret("YYY"))


async def test_the_mark_of_a_replica_that_died_lapses(store, writer):
    """A sign-in whose replica is gone keeps others waiting for its time only; a repetition does not make it longer."""
    assert await store.begin("101", "dead", 60.0) is True
    assert 50_000 < writer.pttl("qc:busy:101") <= 60_000
    writer.pexpire("qc:busy:101", 20_000)
    assert await store.begin("101", "dead", 60.0) is True
    assert await store.begin("101", "alive", 60.0) is False
    assert writer.pttl("qc:busy:101") <= 20_000
    writer.pexpire("qc:busy:101", 1)
    await until(lambda: not writer.exists("qc:busy:101"), "the mark gone")
    assert await store.begin("101", "alive", 60.0) is True
    await store.finish("101", "dead")
    assert writer.get("qc:busy:101") == b"alive"


@pytest.fixture
async def wire(redis_server, redis_url):
    """The way to Redis, which can break."""
    made = Wire()
    await made.start(redis_server.port)
    yield made
    made.flow()
    await made.refuse()


async def test_a_mark_whose_answer_was_lost_is_still_ours(wire, writer):
    """The mark is set and the connection breaks before the answer: asked again, the store says that we may go on."""
    store = opened_store(f"redis://127.0.0.1:{wire.port}/0")
    await store.begin("102", "earlier", 60.0)  # the script is known from here on: one request does it
    wire.stall(replies_only=True)
    begun = asyncio.create_task(store.begin("101", "mine", 60.0))
    await until(lambda: writer.exists("qc:busy:101"), "the mark")
    wire.cut()
    wire.flow()
    assert await begun is True
    assert writer.get("qc:busy:101") == b"mine"
    await store.close()


async def test_the_sentinels_are_asked_for_the_master(own_sentinel):
    """With redis+sentinel:// the store finds its Redis by name, past a sentinel that is away."""
    store = opened_store(f"redis+sentinel://127.0.0.1:1,127.0.0.1:{own_sentinel.port}/calls/0")
    await store.put(Session("101", Secret("XXX")))
    assert await store.get("101") == Session("101", Secret("XXX"))
    await store.close()


async def test_a_master_that_no_sentinel_knows_is_an_error(own_sentinel):
    """An unknown name is reported as such."""
    store = opened_store(f"redis+sentinel://127.0.0.1:{own_sentinel.port}/nobody/0")
    with pytest.raises(StoreUnavailable, match="no sentinel knows a master"):
        await store.ping()
    await store.close()


async def test_a_copy_of_a_sign_in_that_comes_late_puts_no_old_guid_back(store):
    """A script may be run twice, the second time when the GUID was renewed since: the newer one stays."""
    session = Session("101", Secret("first"), EventSource.POLL, signed_in_at=1700000000.5)
    await store.put(session)
    await store.renew("101", Secret("first"), Renewal(Secret("second")))
    assert not await store.put(session)
    assert (await store.get("101")).guid.reveal() == "second"
