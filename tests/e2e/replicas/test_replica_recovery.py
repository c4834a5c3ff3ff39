"""Recoveries with a shared Redis: any replica goes on with them, and credentials lie there for nobody to read."""

from __future__ import annotations

import asyncio

from grpc import StatusCode

from qc_adapter.model.session import Secret
from qc_adapter.simulator import Fault
from qc_adapter.store.seal import Seal, new_key
from qc_adapter.v1 import sessions_pb2
from tests.support.callers import PASSWORD
from tests.support.watches import read

AGAIN = sessions_pb2.RE_SIGN_IN_SAME_CREDENTIALS
KEY = new_key().reveal()
NEVER, LOST = sessions_pb2.RE_SIGN_IN_NEVER, sessions_pb2.SESSION_STATE_LOST


async def signed_in(cluster, **more):
    """Sign inspector 101 in to be signed in again, some time ago, with two monitored agents."""
    cluster.may_sign_out = True
    [first, *_] = cluster.replicas
    assert (await first.ending(first.sign_in(re_sign_in=AGAIN, **more))).code is StatusCode.OK
    await first.adapter.shared.monitored.begin("101", ["292", "293"])
    await cluster.write("HDEL", "qc:orders:101", "tried_at")
    await cluster.settled()


async def session(replica):
    """The session as Get shows it."""
    return (await replica.ending(replica.get())).updates[0].session


async def state(replica, wanted):
    """Wait until Get shows that state, and return the session."""
    for _ in range(1000):
        found = await session(replica)
        if found.state == sessions_pb2.SessionState.Value(f"SESSION_STATE_{wanted}"):
            return found
        await asyncio.sleep(0.01)
    raise AssertionError(f"never in that state: {found}")


async def seen_without_a_key(cluster):
    """Wait until a replica without the key has found the recovery due."""
    for _ in range(1000):
        if await cluster.write("HEXISTS", "qc:orders:101", "waits_since"):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("nobody looked at it")


async def everything(cluster):
    """All that Redis holds, as bytes."""
    found = []
    for key in await cluster.write("KEYS", "*"):
        dump = await cluster.write("DUMP", key)
        found += [key, dump or b""]
    for reader in ("HGETALL", "SMEMBERS"):
        for key in await cluster.write("KEYS", "qc:[om]*"):
            if (await cluster.write("TYPE", key)) == {"HGETALL": b"hash", "SMEMBERS": b"set"}[reader]:
                found.append(repr(await cluster.write(reader, key)).encode())
    return b"".join(found)


async def test_a_recovery_survives_the_replica_that_began_it(open_cluster, until):
    """One replica signs in again and is gone before the skills are set: the other one sets them."""
    cluster = await open_cluster(QC_SEAL_KEYS=KEY, QC_GATEWAY_TIMEOUT_SECONDS="0.5", QC_GRACE_SECONDS="0")
    await signed_in(cluster, skills={"skill_ids": [7]})
    cluster.simulator.add_fault(Fault("hang", operation="resetSkill"))
    cluster.simulator.restart()
    await until(lambda: len(cluster.simulator.requests("resetSkill")) == 2, "skills to be set")
    [dying] = [one for one in cluster.replicas if one.adapter.recovery._tasks]
    await dying.store.refuse()
    await cluster.stop(dying)
    [other] = cluster.replicas
    assert (await session(other)).state == sessions_pb2.SESSION_STATE_RECOVERING
    found = await state(other, "ACTIVE")
    assert (found.re_sign_in, found.monitored_agents) == (AGAIN, 2)
    assert cluster.simulator.state()["agents"]["101"]["skills"] == (7,)
    assert set(cluster.simulator.watched_by("101")) == {"292", "293"}
    assert len(cluster.simulator.requests("login")) == 2
    stream = other.watch(cursor="oldest")
    gaps = [one.gap.reason for one in await read(stream, 5)]
    assert "TAKEOVER" in gaps
    stream.cancel()


async def test_orders_outlive_the_adapter_and_are_sealed(open_cluster, until):
    """After a restart of both sides it goes on, with a key that was added meanwhile; the password lies nowhere."""
    cluster = await open_cluster(replicas=1, QC_SEAL_KEYS=KEY)
    await signed_in(cluster)
    kept = await everything(cluster)
    assert b"qc:orders:101" in kept
    assert PASSWORD.encode() not in kept
    cluster.told.append(kept.decode(errors="replace"))
    await cluster.leave(cluster.replicas[0])
    cluster.simulator.restart()
    cluster.environment["QC_SEAL_KEYS"] = f"{new_key().reveal()},{KEY}"
    replica = await cluster.add()
    await until(lambda: len(cluster.simulator.requests("login")) == 2, "a sign-in")
    assert (await state(replica, "ACTIVE")).monitored_agents == 2
    assert (await replica.ending(replica.sign_out())).code is StatusCode.OK
    assert await cluster.write("KEYS", "qc:[or]*:101") == []
    assert await cluster.write("ZCARD", "qc:recovering") == 0


async def test_a_replica_without_the_key_leaves_a_recovery_to_one_that_has_it(open_cluster):
    """So one rollout changes the keys: the old replica, which cannot open what a new one has sealed, loses nothing."""
    new = new_key().reveal()
    cluster = await open_cluster(replicas=1, QC_SEAL_KEYS=f"{new},{KEY}", QC_STORE_PLAIN="1")
    await signed_in(cluster)
    old = await cluster.add(QC_SEAL_KEYS=KEY)
    bare = await cluster.add(QC_SEAL_KEYS="")
    stream = old.watch()
    await stream.read()
    await cluster.leave(cluster.replicas[0])
    cluster.simulator.restart()
    await seen_without_a_key(cluster)
    for replica in (old, bare):
        assert (await session(replica)).state == sessions_pb2.SESSION_STATE_RECOVERING
    assert len(cluster.simulator.requests("login")) == 1
    cluster.environment["QC_SEAL_KEYS"] = f"{new},{KEY}"
    await cluster.add()
    found = await state(old, "ACTIVE")
    assert (found.re_sign_in, found.monitored_agents) == (AGAIN, 2)
    assert len(cluster.simulator.requests("login")) == 2
    stream.cancel()


async def test_orders_that_no_key_opens_are_as_good_as_none(open_cluster):
    """Keys that were lost cost the recovery and nothing else: after a while the session is lost, and said to be."""
    cluster = await open_cluster(replicas=1, QC_SEAL_KEYS=KEY, QC_STORE_PLAIN="1")
    await signed_in(cluster)
    await cluster.leave(cluster.replicas[0])
    await cluster.write("DEL", f"qc:seal:{Seal([Secret(KEY)]).names[0]}")  # as after five minutes
    cluster.environment["QC_SEAL_KEYS"] = new_key().reveal()
    replica = await cluster.add()
    stream = replica.watch()
    await stream.read()
    cluster.simulator.restart()
    await seen_without_a_key(cluster)
    await cluster.write("HSET", "qc:orders:101", "waits_since", "1")
    assert (await replica.ending(stream)).reason == "INSPECTOR_SESSION_LOST"
    found = await session(replica)
    assert (found.state, found.re_sign_in) == (LOST, NEVER)
    assert "QC_SEAL_KEYS" in found.detail
    assert len(cluster.simulator.requests("login")) == 1


async def test_without_keys_nothing_is_kept_in_redis(open_cluster):
    """Asking for it is refused with what to set, and nobody is signed in."""
    cluster = await open_cluster(replicas=1, QC_SEAL_KEYS="")
    [replica] = cluster.replicas
    ended = await replica.ending(replica.sign_in(re_sign_in=AGAIN))
    assert (ended.code, ended.fields) == (StatusCode.INVALID_ARGUMENT, ("re_sign_in",))
    assert "QC_SEAL_KEYS" in ended.message
    assert cluster.simulator.requests("login") == ()
