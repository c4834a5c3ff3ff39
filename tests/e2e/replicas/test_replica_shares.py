"""Replicas share the inspectors fairly, and hand them over between two polls."""

from __future__ import annotations

import asyncio

import pytest

IDS = [str(number) for number in range(101, 111)]


def shares(cluster):
    """How many inspectors each replica polls for, most first."""
    return sorted((len(one.held) for one in cluster.replicas), reverse=True)


@pytest.fixture
async def shared(open_cluster, until):
    """Two replicas and ten inspectors, each of whom is polled for."""
    cluster = await open_cluster()
    await asyncio.gather(*(one.ending(one.sign_in(agent_id)) for agent_id in IDS for one in cluster.replicas[:1]))
    await until(lambda: shares(cluster) == [5, 5], "a fair share")
    return cluster


async def test_two_replicas_share_ten_inspectors(shared):
    """Ten inspectors: five for each replica, nobody twice and nobody left out."""
    assert set.union(*(one.held for one in shared.replicas)) == set(IDS)
    assert shared.changes("taken_over") == []


async def test_replicas_that_come_and_go_get_their_share(shared, until):
    """A third replica comes, and one goes: inspectors move without a gap, without an overlap, and with every event."""
    await shared.add()
    await until(lambda: shares(shared) == [4, 4, 2] or shares(shared) == [4, 3, 3], "shares for three")
    await shared.leave(shared.replicas[0])
    await until(lambda: shares(shared) == [5, 5], "shares for two again")
    assert set.union(*(one.held for one in shared.replicas)) == set(IDS)
    assert shared.changes("taken_over") == shared.changes("fenced") == shared.changes("revoked") == []
    caller = shared.replicas[0]
    for agent_id in IDS:
        stream = caller.watch(agent_id, cursor="oldest")
        kinds = [(await stream.read()).WhichOneof("update") for _ in range(3)]
        assert kinds == ["subscribed", "event", "event"]
        stream.cancel()
