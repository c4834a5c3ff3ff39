"""Redis with a replica of its own: a command is sent when that one knows of it, so a failover does not forget it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest
from grpc import StatusCode

from bench.redis_server import RedisServer
from tests.support.wire import Wire

WHOLE = ["accepted", "AgentEvent_Talking", "AgentMediaEvent_Record", "outcome"]


@dataclass
class Copy:
    """A replica of the cluster's Redis, and the wire through which it copies."""

    server: RedisServer
    wire: Wire

    async def promoted(self, cluster):
        """Let the master die, and the replica take its place."""
        await asyncio.to_thread(cluster.redis.stop)
        cluster.redis = self.server
        await cluster.write("REPLICAOF", "NO", "ONE")
        for replica in cluster.replicas:
            await replica.store.refuse()
            await replica.store.start(self.server.port)


@pytest.fixture
async def copy(cluster, tmp_path):
    """A replica in step with the cluster's Redis, which the adapters have learned of."""
    wire = Wire()
    await wire.start(cluster.redis.port)
    server = RedisServer(tmp_path, replica_of=wire.port)
    await asyncio.to_thread(server.start)
    async with asyncio.timeout(10):
        while (await cluster.write("ROLE"))[2] == []:
            pass
    for replica in cluster.replicas:
        await replica.adapter.store.ping()
    yield Copy(server, wire)
    wire.flow()
    await wire.refuse()
    await asyncio.to_thread(server.stop)


async def repeated(caller, **options):
    """Repeat the command until the store is there; return how it ended."""
    async with asyncio.timeout(15):
        while (ended := await caller.ending(caller.intercept(request_id="one", **options))).reason == (
            "STORE_UNAVAILABLE"
        ):
            pass
    return ended


async def test_a_command_that_a_failover_would_forget_is_not_sent(cluster, copy, pair):
    """The replica does not note it: nothing is sent, waiting helps, and after the failover it runs once."""
    first, second = pair
    await first.listening()
    copy.wire.stall()
    ended = await first.ending(first.intercept(request_id="one"))
    assert (ended.code, ended.reason, ended.retry) == (StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE", True), ended
    assert first.puts == 0
    await copy.promoted(cluster)
    again = await repeated(second)
    assert (again.code, again.outcome) == (StatusCode.OK, "CONFIRMED"), again
    assert first.puts == 1


async def test_a_command_that_was_sent_is_joined_after_a_failover(cluster, copy, pair):
    """The replica noted it before it was sent: the other adapter joins it there, and sends nothing."""
    first, second = pair
    await first.listening()
    whole = await first.ending(first.intercept(request_id="one"))
    assert (whole.kinds, whole.outcome) == (WHOLE, "CONFIRMED")
    await copy.promoted(cluster)
    again = await repeated(second, confirm_within=0.5)
    assert again.code in {StatusCode.OK, StatusCode.UNKNOWN}, again  # what came of it may not have been copied
    assert first.puts == 1


async def test_who_may_not_ask_for_the_role_of_redis_can_send_commands(cluster, copy, pair):
    """A user without the right to ROLE gets by with PING; commands go out without a word from the replica."""
    first, _ = pair
    await first.listening()
    await cluster.write("ACL", "SETUSER", "default", "-role")
    copy.wire.stall()
    await first.adapter.store.ping()
    whole = await first.ending(first.intercept(request_id="one"))
    assert (whole.kinds, whole.outcome) == (WHOLE, "CONFIRMED")
