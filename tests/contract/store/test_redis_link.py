"""The way to Redis when it breaks: who tries, who is told at once, and that it heals by itself."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
import uvloop

from bench.redis_server import RedisServer
from qc_adapter.model.errors import StoreUnavailable
from qc_adapter.store.opening import open_link
from qc_adapter.store.script import Script
from tests.support.wire import Wire

#: Longer than any of these tests: what ends before it has not waited for Redis.
LONG_SECONDS = 30.0


class Desk:
    """A link, the wire that it goes through, and the operations that failed."""

    def __init__(self, wire, timeout_seconds):
        self.wire = wire
        self.failed = []
        url = f"redis://127.0.0.1:{wire.port}/0"
        self.link = open_link(url, timeout_seconds=timeout_seconds, on_error=self.failed.append)

    def ping(self):
        """Begin a command."""
        return self.link.command("ping", "PING")

    async def pings(self, count=20):
        """Send so many commands at once; True for each that was answered, else why it was not."""
        endings = await asyncio.gather(*(self.ping() for _ in range(count)), return_exceptions=True)
        assert {type(one) for one in endings} <= {bool, StoreUnavailable}, endings
        return [one if one is True else one.message for one in endings]

    async def trying(self):
        """A command that has begun."""
        task = asyncio.create_task(self.ping())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return task


@contextlib.asynccontextmanager
async def opened(port, timeout_seconds=LONG_SECONDS):
    """Open a link through a wire."""
    wire = Wire()
    await wire.start(port)
    desk = Desk(wire, timeout_seconds)
    try:
        yield desk
    finally:
        wire.flow()
        await desk.link.close()
        await wire.refuse()


@pytest.fixture
async def desk(redis_server, redis_url):
    """A link with much patience."""
    async with opened(redis_server.port) as made:
        yield made


@pytest.fixture
async def away(desk):
    """A link whose Redis refused it, and is silent now."""
    await desk.wire.refuse()
    with pytest.raises(StoreUnavailable, match="Connection refused"):
        await desk.ping()
    desk.failed.clear()
    desk.wire.stall()
    await desk.wire.accept()
    return desk


async def test_while_redis_is_away_one_tries_and_the_others_fail_at_once(away):
    """Nobody waits for what is known already; what they are told is why the last command failed."""
    tries = await away.trying()
    assert len(set(await away.pings())) == 1
    for why in await away.pings(3):
        assert "Connection refused" in why
    assert not tries.done()
    assert away.failed == ["ping"] * 23
    away.wire.flow()
    assert await tries is True


async def test_the_first_success_heals_for_all(away):
    """When the one that tries is answered, every command goes out again."""
    tries = await away.trying()
    assert True not in await away.pings()
    away.wire.flow()
    assert await tries is True
    away.failed.clear()
    assert await away.pings() == [True] * 20
    assert away.failed == []


async def test_after_one_tried_in_vain_another_one_tries(desk):
    """As long as Redis is away each command that comes alone asks for itself: nothing has to wake the link."""
    await desk.wire.refuse()
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match="Connection refused"):
            await desk.ping()
    await desk.wire.accept()
    assert await desk.ping() is True
    assert await desk.pings() == [True] * 20


async def test_a_caller_that_leaves_does_not_stop_the_one_that_tries(away):
    """The try belongs to the link: it goes on without its caller, and heals for all."""
    tries = await away.trying()
    tries.cancel()
    await asyncio.gather(tries, return_exceptions=True)
    assert True not in await away.pings()
    away.wire.flow()
    await asyncio.gather(*away.link._running)  # what the caller left behind
    assert await away.pings() == [True] * 20


async def test_a_silent_redis_is_away_after_one_patience(redis_server, redis_url):
    """The first command waits for its time, and what comes while the next one waits does not."""
    async with opened(redis_server.port, timeout_seconds=0.5) as desk:
        assert await desk.ping() is True
        desk.wire.stall()
        with pytest.raises(StoreUnavailable, match=r"no answer within 0\.5 s"):
            await desk.ping()
        tries = await desk.trying()
        assert {"no answer within 0.5 s" in why for why in await desk.pings()} == {True}
        assert not tries.done()
        await asyncio.gather(tries, return_exceptions=True)
        desk.wire.flow()
        assert await desk.ping() is True


async def test_one_command_that_fails_says_nothing_about_a_redis_that_answers_others(redis_server, redis_url):
    """A command that is too slow fails alone: while others are answered, nobody is told that Redis is away."""
    async with opened(redis_server.port, timeout_seconds=0.5) as desk:
        for _ in range(2):
            slow = asyncio.create_task(desk.link.command("slow", "BLPOP", "nothing", 0))
            assert await desk.pings() == [True] * 20
            with pytest.raises(StoreUnavailable, match=r"no answer within 0\.5 s"):
                await slow
        assert desk.failed == ["slow"] * 2


def on_uvloop(main):
    """Run it as the service runs where uvloop is installed."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


async def _break(wire, how):
    if how == "cut":
        wire.cut()
    else:
        await wire.refuse()
        await wire.accept()


@pytest.mark.parametrize("how", ["cut", "closed"])
def test_on_uvloop_connections_that_closed_are_replaced(redis_server, redis_url, how):
    """Idle connections that broke cost nobody a command: each is sent once more, on a new one."""

    async def main():
        async with opened(redis_server.port) as desk:
            for _ in range(3):
                assert await desk.pings() == [True] * 20
                await _break(desk.wire, how)
                assert await desk.pings() == [True] * 20
            assert desk.failed == []

    on_uvloop(main())


def test_on_uvloop_a_redis_that_is_gone_is_a_failure_of_the_store(redis_server, redis_url):
    """The connections closed and no new one is to be had: the store says so, and it heals."""

    async def main():
        async with opened(redis_server.port) as desk:
            assert await desk.pings() == [True] * 20
            await desk.wire.refuse()
            for why in await desk.pings():
                assert "the session store cannot be reached" in why
            await desk.wire.accept()
            assert await desk.ping() is True
            assert await desk.pings() == [True] * 20

    on_uvloop(main())


async def test_a_wait_for_a_replica_that_is_given_up_leaves_no_reply_to_others(own_redis_server, tmp_path):
    """The patience ends between the two replies on one connection: each later command gets its own reply."""
    write = Script.of("return redis.call('SET', 'written', ARGV[1])")
    replica = RedisServer(tmp_path, replica_of=own_redis_server.port)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(replica.stop)
        replica.start()
        desk = await stack.enter_async_context(opened(own_redis_server.port, timeout_seconds=0.3))
        async with asyncio.timeout(10):
            while (await desk.link.command("get", "ROLE"))[2] == []:
                pass
        await desk.link.look()
        assert (await desk.link.script_copied("command", write, "at both"))[1] is True
        replica.freeze()
        echoes = [desk.link.command("get", "ECHO", str(number)) for number in range(20)]
        writes = [desk.link.script_copied("command", write, "at one") for _ in range(5)]
        found = await asyncio.gather(*writes, *echoes, return_exceptions=True)
        assert {type(one) for one in found[:5]} == {StoreUnavailable}
        assert found[5:] == [str(number).encode() for number in range(20)]
        after = await asyncio.gather(*(desk.link.command("get", "ECHO", str(number)) for number in range(20)))
        assert after == [str(number).encode() for number in range(20)]


@contextlib.asynccontextmanager
async def with_two_replicas(server, folder):
    """Two replicas that copy a server, and a desk that has looked at it."""
    replicas = []
    async with contextlib.AsyncExitStack() as stack:
        for name in ("one", "two"):
            (folder / name).mkdir()
            replicas.append(RedisServer(folder / name, replica_of=server.port))
            stack.callback(replicas[-1].stop)
            replicas[-1].start()
        desk = await stack.enter_async_context(opened(server.port))
        await copied_by(desk, 2)
        await desk.link.look()
        yield desk, replicas


async def copied_by(desk, number):
    async with asyncio.timeout(10):
        while len((await desk.link.command("get", "ROLE"))[2]) != number:
            pass


async def test_one_replica_that_notes_it_is_not_all(own_redis_server, tmp_path):
    """Any replica may be the next master: what one of two has not noted, a failover may forget."""
    write = Script.of("return redis.call('SET', 'written', ARGV[1])")
    async with with_two_replicas(own_redis_server, tmp_path) as (desk, replicas):
        assert (await desk.link.script_copied("command", write, "at all"))[1] is True
        replicas[1].freeze()
        try:
            assert (await desk.link.script_copied("command", write, "at one"))[1] is False
        finally:
            replicas[1].thaw()


async def test_a_replica_that_has_just_left_may_be_the_next_master(own_redis_server, tmp_path):
    """An ordered failover takes the next master away first: what the old one is told then is not taken for kept."""
    write = Script.of("return redis.call('SET', 'written', ARGV[1])")
    async with with_two_replicas(own_redis_server, tmp_path) as (desk, replicas):
        with replicas[1].client() as client:
            client.execute_command("REPLICAOF", "NO", "ONE")
        await copied_by(desk, 1)
        await desk.link.look()
        assert (await desk.link.script_copied("command", write, "at the old one"))[1] is False
