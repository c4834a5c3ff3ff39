"""Replicas that share one Redis of their own, each behind a wire that can break, before one simulated gateway."""

from __future__ import annotations

import asyncio
import contextlib
import re
from dataclasses import dataclass, field

import pytest
from grpc import StatusCode

from qc_adapter.store.seal import new_key
from qc_adapter.v1 import sessions_pb2
from tests.support.callers import PASSWORD, Caller
from tests.support.opening import opened, simulated
from tests.support.watching import Tape, leaving_nothing, recorded, until
from tests.support.wire import Wire

#: Without one of their own, all clusters seal their sessions with it.
SEAL_KEY = new_key().reveal()


@dataclass(kw_only=True)
class Replica(Caller):
    """One adapter, a caller of it, and its way to Redis."""

    store: Wire
    stack: contextlib.AsyncExitStack

    @property
    def held(self):
        """For whom it polls now."""
        return set(self.adapter.readers._reading)

    async def sample(self, name):
        """The value of a metric, 0 for one that is not there."""
        found = re.search(rf"^{re.escape(name)} (\S+)$", await self.page("/metrics"), re.MULTILINE)
        return float(found[1]) if found else 0.0

    def sign_out(self, agent_id="101"):
        """Begin a sign-out."""
        return self.sessions.SignOut(sessions_pb2.SignOutRequest(agent_id=agent_id), timeout=20)


@dataclass(kw_only=True)
class Cluster:
    """Replicas to start and to stop."""

    simulator: object
    gateway: Wire
    redis: object
    tape: Tape
    environment: dict
    replicas: list = field(default_factory=list)
    #: Whether the test itself ends sign-ins.
    may_sign_out: bool = False
    told: list = field(default_factory=list)

    async def add(self, **environment):
        """Start a replica."""
        store = Wire()
        await store.start(self.redis.port)
        here = {"QC_GATEWAY_URL": self.gateway.url, "QC_STORE_URL": f"redis://127.0.0.1:{store.port}/0"}
        async with contextlib.AsyncExitStack() as failing:
            failing.push_async_callback(_closed, store)
            adapter, channel = await opened(failing, here | self.environment | environment)
            stack = failing.pop_all()
        replica = Replica(simulator=self.simulator, adapter=adapter, channel=channel, store=store, stack=stack)
        self.replicas.append(replica)
        return replica

    async def stop(self, replica):
        """End a replica without a drain, as far as it can end: what it cannot reach it leaves as it is."""
        self.replicas.remove(replica)
        self.told += [await replica.page("/metrics"), await replica.page("/readyz"), *replica.heard]
        await replica.stack.aclose()

    async def leave(self, replica):
        """Drain a replica, and end it."""
        await replica.adapter.drain()
        await self.stop(replica)

    async def write(self, *command):
        """Send a command to Redis as another system would, past all wires."""
        return await asyncio.to_thread(self._write, command)

    def _write(self, command):
        with self.redis.client() as client:
            return client.execute_command(*command)

    async def adopted(self, agent_id="101", **more):
        """Sign an inspector in at the gateway, and write the record as a sign-in service does."""
        guid = self.simulator.sign_in(agent_id)
        record = {"agent_id": agent_id, "guid": guid} | more
        await self.write("HSET", f"qc:session:{agent_id}", *(part for pair in record.items() for part in pair))
        return guid

    async def settled(self, agent_id="101"):
        """Wait until the inspector's first two events are logged and a poll is held; returns who polls, and who not."""
        await until(lambda: sum(agent_id in one.held for one in self.replicas) == 1, "one that polls")
        stream = self.replicas[0].watch(agent_id, cursor="oldest")
        while (await stream.read()).event.event_type != "AgentState_Ready":
            pass
        stream.cancel()
        await self.replicas[0].held_poll(agent_id)
        return sorted(self.replicas, key=lambda one: agent_id not in one.held)

    async def stored_guid(self, agent_id="101"):
        """The GUID that stands in Redis, sealed or plain."""
        return (await self.replicas[0].adapter.store.get(agent_id)).guid.reveal()

    def polls(self, agent_id="101"):
        """How many polls of an inspector reached the gateway."""
        return len(self.simulator.requests("getAgentEvent", agent_id))

    def changes(self, reason):
        """The log lines of lease changes with that reason."""
        lines = [line for line in self.tape.lines if line["event"] == "lease_changed"]
        return [line for line in lines if line["reason"] == reason]

    async def judge(self):
        """One reader at a time, nobody signed out, no secret told, and no defect of our own."""
        assert self.simulator.record.poll_overlaps() == 0
        assert self.may_sign_out or not self.simulator.record.sign_outs
        for replica in self.replicas:
            self.told += [await replica.page("/metrics"), await replica.page("/readyz"), *replica.heard]
        secrets = {PASSWORD} | self.gateway.secrets
        assert self.tape.leaks(secrets, "".join(self.told)) == []
        assert self.tape.defects == []


async def _closed(wire):
    wire.flow()
    await wire.refuse()


@pytest.fixture
async def open_cluster(own_redis_server):
    """Open a cluster with other settings; after the test it is judged and closed."""
    async with leaving_nothing():
        with recorded() as tape:
            async with contextlib.AsyncExitStack() as stack:
                yield lambda replicas=2, *, gateway=None, **environment: _open(
                    stack, tape, own_redis_server, replicas, gateway or {}, environment
                )


async def _open(stack, tape, redis, replicas, gateway, environment):  # noqa: PLR0917 - a fixture's own function
    simulator = await stack.enter_async_context(simulated(**gateway))
    wire = Wire()
    await wire.start(int(simulator.url.rsplit(":", 1)[1]))
    stack.push_async_callback(wire.refuse)
    made = Cluster(
        simulator=simulator,
        gateway=wire,
        redis=redis,
        tape=tape,
        environment={"QC_LEASE_SECONDS": "3", "QC_SEAL_KEYS": SEAL_KEY} | environment,
    )
    stack.push_async_callback(_stop_all, made)
    stack.push_async_callback(made.judge)
    for _ in range(replicas):
        await made.add()
    return made


async def _stop_all(made):
    # Together: the last one would wait for leases that nobody hands back.
    await asyncio.gather(*(replica.stack.aclose() for replica in made.replicas))


@pytest.fixture
async def cluster(open_cluster):
    """Two replicas, and inspector 101 signed in, with its first events logged."""
    made = await open_cluster()
    caller = made.replicas[0]
    assert (await caller.ending(caller.sign_in())).code is StatusCode.OK
    await made.settled()
    return made


@pytest.fixture
def pair(cluster):
    """The replica that polls for inspector 101, and the other one."""
    return sorted(cluster.replicas, key=lambda one: "101" not in one.held)


@pytest.fixture(name="until")
def until_fixture():
    """The function that waits for a condition."""
    return until
