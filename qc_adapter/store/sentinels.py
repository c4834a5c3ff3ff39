"""Which server the sentinels take for the master."""

from __future__ import annotations

import contextlib
from typing import Any

from redis.asyncio.sentinel import Sentinel
from redis.exceptions import RedisError


class Sentinels(Sentinel):
    """
    Knows the next master as soon as it is one.

    The client library asks for the state of all masters. There the sentinel that leads a failover names the old one
    until every replica has changed over, which takes a second or more, while that takes no writes any more.
    """

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        """Return the address; raises `MasterNotFoundError`."""
        address: tuple[str, int] = await super().discover_master(service_name)
        told: Any = None
        with contextlib.suppress(RedisError, OSError):
            # The one that has just answered stands first now.
            told = await self.sentinels[0].sentinel_get_master_addr_by_name(service_name)
        return (told[0].decode(), told[1]) if told else address
