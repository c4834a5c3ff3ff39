"""What a failover of Redis means for the link: where it goes, and that one command does not keep the others waiting."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from bench.chaos.store import FAILOVER_SECONDS, Sentinels
from bench.redis_server import RedisServer, Sentinel
from qc_adapter.model.errors import StoreUnavailable
from qc_adapter.store.opening import open_link
from qc_adapter.store.script import Script
from tests.contract.store.test_redis_link import with_two_replicas
from tests.support.wire import Wire

WRITE = Script.of("return redis.call('SET', 'written', ARGV[1])")
WHERE = Script.of("return string.match(redis.call('INFO', 'server'), 'tcp_port:(%d+)')")
WAITING = Script.of("return string.match(redis.call('INFO', 'clients'), 'blocked_clients:(%d+)')")


async def test_who_waits_for_replicas_keeps_nobody_waiting(own_redis_server, tmp_path):
    """After a failure one command tries and the others are refused: not for as long as a copy takes."""
    async with with_two_replicas(own_redis_server, tmp_path) as (desk, replicas):
        replicas[1].freeze()
        try:
            await desk.wire.refuse()
            with pytest.raises(StoreUnavailable):
                await desk.link.look()
            await desk.wire.accept()
            write, found = asyncio.create_task(desk.link.script_copied("command", WRITE, "at one")), set()
            for _ in range(3):
                await asyncio.sleep(0)  # it is the one that tries
            while not write.done():
                found |= set(await asyncio.gather(desk.link.script("get", WAITING), return_exceptions=True))
                await asyncio.sleep(0)
            assert await write == (b"OK", False)
            assert b"1" in found
        finally:
            replicas[1].thaw()


@pytest.fixture
async def servers(tmp_path):
    """A master, its replicas and sentinels."""
    made = Sentinels(tmp_path)
    try:
        await made.start()
        yield made
    finally:
        await made.stop()


async def test_who_connects_to_a_frozen_master_goes_to_the_next_one(own_redis_server, own_sentinel, tmp_path, take):
    """It answers when it wakes up, and still believes to be it; the sentinels know better by then."""
    (tmp_path / "next").mkdir()
    successor, wire = RedisServer(tmp_path / "next"), Wire()
    successor.start()
    await wire.start(own_redis_server.port)
    link = open_link(f"redis+sentinel://127.0.0.1:{own_sentinel.port}/moving/0")
    try:
        with own_sentinel.client() as sentinel:
            sentinel.sentinel_monitor("moving", "127.0.0.1", wire.port, 1)
            await take.until(lambda: wire.connections == 2)  # the sentinel's own
            wire.stall()
            asked = asyncio.create_task(link.script("get", WHERE))
            await take.until(lambda: wire.connections == 3)
            sentinel.sentinel_remove("moving")
            sentinel.sentinel_monitor("moving", "127.0.0.1", successor.port, 1)
        wire.flow()
        assert await asked == str(successor.port).encode()
    finally:
        wire.flow()
        await link.close()
        await wire.refuse()
        successor.stop()


async def test_the_next_master_is_known_as_soon_as_it_is_one(servers, take):
    """The sentinel that leads a failover lists the old master until all replicas have changed over."""
    link = open_link(servers.url)
    before = now = await servers.master()
    await link.look()
    assert await link.script("get", WHERE) == str(before.port).encode()
    servers.order_failover()
    async with asyncio.timeout(FAILOVER_SECONDS):
        while now is before:
            now = await servers.master()
    await link.look()
    await take.until(lambda: link.doubts)
    assert await link.script("get", WHERE) == str(now.port).encode()
    await link.close()


@pytest.fixture
def two_views(own_redis_server, tmp_path):
    """A server that was master, one that is, and sentinels of which one has not heard of it: the current one first."""
    folders = [tmp_path / name for name in ("now", "hears", "behind")]
    for folder in folders:
        folder.mkdir()
    now = RedisServer(folders[0])
    with contextlib.ExitStack() as stack:
        stack.callback(now.stop)
        now.start()
        views = [Sentinel("calls", now.port, failovers=3), Sentinel("calls", own_redis_server.port, failovers=2)]
        sentinels = [RedisServer(folder, sentinel_of=view) for folder, view in zip(folders[1:], views, strict=True)]
        for sentinel in sentinels:
            stack.callback(sentinel.stop)
            sentinel.start()
        yield now, *sentinels


@pytest.mark.parametrize("current_first", [True, False])
async def test_the_sentinel_that_knows_of_more_failovers_is_believed(two_views, current_first):
    """Whichever is listed first, and answers first."""
    now, *sentinels = two_views
    nodes = [f"127.0.0.1:{one.port}" for one in sentinels][:: 1 if current_first else -1]
    link = open_link(f"redis+sentinel://{','.join(nodes)}/calls/0")
    assert await link.script("get", WHERE) == str(now.port).encode()
    await link.close()


async def test_a_sentinel_that_hangs_is_not_waited_for(two_views):
    """What the others say is enough, the first time and each time after that."""
    now, current, behind = two_views
    behind.freeze()
    try:
        link = open_link(f"redis+sentinel://127.0.0.1:{behind.port},127.0.0.1:{current.port}/calls/0")
        for _ in range(3):
            await link.look()
            assert await link.script("get", WHERE) == str(now.port).encode()
        await link.close()
    finally:
        behind.thaw()


async def test_redis_is_well_without_sentinels(own_redis_server, own_sentinel):
    """They are needed to find it, not to go on with it."""
    link = open_link(f"redis+sentinel://127.0.0.1:{own_sentinel.port}/calls/0")
    try:
        assert await link.script("get", WHERE) == str(own_redis_server.port).encode()
        await link.look()
        own_sentinel.stop()
        for _ in range(3):
            await link.look()
            assert await link.script("get", WHERE) == str(own_redis_server.port).encode()
        assert link.doubts == 0
    finally:
        await link.close()


async def test_a_link_that_is_closed_asks_no_sentinel(own_redis_server, own_sentinel):
    """A look that comes late is refused, and leaves no task behind that nobody waits for."""
    link = open_link(f"redis+sentinel://127.0.0.1:{own_sentinel.port}/calls/0")
    await link.look()
    await link.close()
    tasks = asyncio.all_tasks()
    with pytest.raises(StoreUnavailable, match="it is closed"):
        await link.look()
    assert asyncio.all_tasks() == tasks
