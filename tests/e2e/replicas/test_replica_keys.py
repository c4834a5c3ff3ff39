"""Sessions that are sealed in a shared Redis, read by replicas whose keys change."""

from __future__ import annotations

from grpc import StatusCode

from qc_adapter.model.session import Secret
from qc_adapter.store.seal import Seal, new_key

OLD, NEW = new_key().reveal(), new_key().reveal()


def name_of(key):
    return Seal([Secret(key)]).names[0]


async def sealed_with(cluster, agent_id="101"):
    """The name of the key that a session is sealed with, "" for a plain one."""
    sealed = await cluster.write("HGET", f"qc:session:{agent_id}", "sealed_guid")
    return (sealed or b"").decode().partition(":")[0]


async def becomes_sealed_with(cluster, key, *agent_ids):
    """Wait until the sessions are sealed with that key, or plain."""
    for agent_id in agent_ids:
        while await sealed_with(cluster, agent_id) != (name_of(key) if key else ""):
            assert cluster.replicas
        assert (await cluster.write("HEXISTS", f"qc:session:{agent_id}", "guid")) == int(not key)


async def test_keys_change_without_a_sign_out(open_cluster):
    """Plain, sealed, a new key (all at once), the old one gone, plain: inspectors notice nothing."""
    cluster = await open_cluster(replicas=1, QC_SEAL_KEYS=OLD, QC_STORE_PLAIN="1")
    await cluster.adopted("101")
    await cluster.adopted("103", event_source="none")
    await cluster.settled()
    steps = [{"QC_SEAL_KEYS": OLD}, {"QC_SEAL_KEYS": f"{NEW},{OLD}"}]
    for step in [*steps, {"QC_SEAL_KEYS": NEW}, {"QC_SEAL_KEYS": NEW, "QC_STORE_PLAIN": "1"}]:
        await cluster.add(**{"QC_STORE_PLAIN": "0"} | step)
        await cluster.leave(cluster.replicas[0])
        key = "" if step.get("QC_STORE_PLAIN") else step["QC_SEAL_KEYS"].split(",")[0]
        await becomes_sealed_with(cluster, key, "101", "103")
        assert (await cluster.replicas[0].ending(cluster.replicas[0].get("103"))).code is StatusCode.OK


async def test_a_replica_with_the_wrong_keys_harms_nobody(open_cluster, until):
    """It names the key that it lacks and reads for nobody of that key; who has the key keeps all, and commands work."""
    cluster = await open_cluster(replicas=1, QC_SEAL_KEYS=OLD)
    for agent_id in ("101", "102", "103", "104"):
        await cluster.adopted(agent_id)
    [able] = cluster.replicas
    await until(lambda: len(able.held) == 4, "all leases")
    await becomes_sealed_with(cluster, OLD, "101", "102", "103", "104")
    wrong = await cluster.add(QC_SEAL_KEYS=NEW)
    await until(lambda: any(line["event"] == "sessions_need_key" for line in cluster.tape.lines), "a word of the key")
    await until(lambda: len(able.held) == 4, "all leases back")
    assert not wrong.held
    ended = await wrong.ending(wrong.intercept("101"))
    assert (ended.reason, name_of(OLD) in ended.message) == ("INSPECTOR_SESSION_UNREADABLE", True)
    [needed] = [line for line in cluster.tape.lines if line["event"] == "sessions_need_key"]
    assert name_of(OLD) in needed["detail"]
    await able.listening("101")
    assert (await able.ending(able.intercept("101"))).outcome == "CONFIRMED"
