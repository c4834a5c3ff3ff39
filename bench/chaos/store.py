"""The Redis of a chaos run: one server that keeps its data on disk, or a master with a replica and sentinels."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from redis import Redis
from redis.exceptions import RedisError

from bench.redis_server import RedisServer, Sentinel
from qc_adapter.store import keys

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MASTER_NAME: Final = "calls"
SERVERS: Final = 3
SENTINELS: Final = 3
DOWN_AFTER_SECONDS: Final = 1.0
FAILOVER_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 0.1


class OneRedis:
    """A server that is reached through proxies."""

    def __init__(self, folder: Path) -> None:
        self._server = RedisServer(_made(folder / "redis"), durable=True)

    @property
    def port(self) -> int:
        """Where it listens, for the proxies."""
        return self._server.port

    @property
    def url(self) -> str:
        """For QC_STORE_URL, without a proxy."""
        return self._server.url

    async def start(self) -> None:
        """Start it."""
        await asyncio.to_thread(self._server.start)

    async def stop(self) -> None:
        """Kill it."""
        await asyncio.to_thread(self._server.stop)

    async def forget(self) -> None:
        """Let it lose all data while it is down."""
        await asyncio.to_thread(self._server.forget)

    async def forget_versions(self) -> None:
        """Let it know nothing of an older version that was there."""
        await asyncio.to_thread(self._forget_versions)

    async def sessions(self, *, sealed: bool) -> int:
        """Return how many sessions are sealed, or how many are in plain text."""
        return await asyncio.to_thread(self._count, "sealed_guid" if sealed else "guid")

    def _forget_versions(self) -> None:
        with self._server.client() as client:
            client.delete(keys.UNSEALED)

    def _count(self, field: str) -> int:
        with self._server.client() as client:
            return sum(bool(client.hexists(key, field)) for key in client.scan_iter(f"{keys.SESSION}*"))


class Sentinels:
    """
    Servers of which the sentinels choose the master; adapters reach them without a proxy.

    Each takes writes only while a replica follows it: without that, an old master that is still reachable goes on
    taking writes that are lost as soon as it is made a replica.
    """

    port = None

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._servers: list[RedisServer] = []
        self._sentinels: list[RedisServer] = []

    @property
    def url(self) -> str:
        """For QC_STORE_URL."""
        nodes = ",".join(f"127.0.0.1:{one.port}" for one in self._sentinels)
        return f"redis+sentinel://{nodes}/{MASTER_NAME}/0"

    async def start(self) -> None:
        """Start them all and wait until the sentinels know the replicas and each other."""
        master = RedisServer(_made(self._folder / "redis-1"), durable=True, replicas_required=1)
        await self._run(master, self._servers)
        for number in range(1, SERVERS):
            folder = _made(self._folder / f"redis-{number + 1}")
            replica = RedisServer(folder, replica_of=master.port, replicas_required=1)
            await self._run(replica, self._servers)
        watched = Sentinel(MASTER_NAME, master.port, quorum=SENTINELS // 2 + 1, down_after_seconds=DOWN_AFTER_SECONDS)
        for number in range(SENTINELS):
            folder = _made(self._folder / f"sentinel-{number + 1}")
            await self._run(RedisServer(folder, sentinel_of=watched), self._sentinels)
        await self.whole()

    async def _run(self, server: RedisServer, kept: list[RedisServer]) -> None:
        kept.append(server)
        await asyncio.to_thread(server.start)

    async def whole(self) -> None:
        """Wait until a failover could succeed: all of them know a master, its linked replicas and each other."""
        async with asyncio.timeout(FAILOVER_SECONDS):
            while not all([await asyncio.to_thread(_ready, one) for one in self._sentinels]):  # noqa: ASYNC110 - theirs
                await asyncio.sleep(_LOOK_SECONDS)

    async def master(self) -> RedisServer:
        """Return the server that is the master now."""
        port = await asyncio.to_thread(_master_port, self._sentinels[0])
        return next(one for one in self._servers if one.port == port)

    async def fail_over(self, cause: Callable[[], None]) -> None:
        """Wait until a failover can succeed, cause it and wait until another master is chosen."""
        await self.whole()
        before = await self.master()
        await asyncio.to_thread(cause)
        async with asyncio.timeout(FAILOVER_SECONDS):
            while await self.master() is before:  # noqa: ASYNC110 - another process
                await asyncio.sleep(_LOOK_SECONDS)

    def order_failover(self) -> None:
        """Tell a sentinel to choose another master although nothing is wrong with this one."""
        with Redis(port=self._sentinels[0].port) as client:
            client.sentinel_failover(MASTER_NAME)

    async def stop(self) -> None:
        """Kill them all."""
        for one in [*self._sentinels, *self._servers]:
            await asyncio.to_thread(one.stop)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _master_port(sentinel: RedisServer) -> int:
    with Redis(port=sentinel.port) as client:
        return int(client.sentinel_get_master_addr_by_name(MASTER_NAME)[1])


def _ready(sentinel: RedisServer) -> bool:
    with Redis(port=sentinel.port) as client:
        try:
            master = client.sentinel_master(MASTER_NAME)
            replicas = client.sentinel_slaves(MASTER_NAME)
        except RedisError:
            return False
    linked = [one for one in replicas if one["flags"] == "slave" and one["master-link-status"] == "ok"]
    met = master["num-other-sentinels"] == SENTINELS - 1
    return bool(master["flags"] == "master" and met and len(linked) == SERVERS - 1)
