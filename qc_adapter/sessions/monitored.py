"""Whom an inspector monitors: remembered as long as the sign-in, and through its recoveries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qc_adapter.store import keys
from qc_adapter.store.script import Script

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qc_adapter.sessions.memory import MemorySessionStore
    from qc_adapter.store.link import RedisLink

# ARGV: id, agents. Without a session there is nobody whose monitoring could be begun anew.
_BEGIN = Script.of(f"""
if redis.call('EXISTS', '{keys.SESSION}' .. ARGV[1]) == 0 then return 0 end
for i = 2, #ARGV do redis.call('SADD', '{keys.MONITORED}' .. ARGV[1], ARGV[i]) end
return 1
""")


class RedisMonitored:
    """The monitored agents in Redis."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link

    async def begin(self, inspector: str, work_nos: Sequence[str]) -> None:
        """Add these agents."""
        await self._link.script("monitored", _BEGIN, inspector, *work_nos)

    async def end(self, inspector: str, work_nos: Sequence[str]) -> None:
        """Take these agents away."""
        if work_nos:
            await self._link.command("monitored", "SREM", keys.MONITORED + inspector, *work_nos)


class MemoryMonitored:
    """The monitored agents of the only replica."""

    def __init__(self, store: MemorySessionStore) -> None:
        self._store = store

    async def begin(self, inspector: str, work_nos: Sequence[str]) -> None:
        """Add these agents."""
        if await self._store.get(inspector) is not None:
            self._store.monitored.setdefault(inspector, set()).update(work_nos)

    async def end(self, inspector: str, work_nos: Sequence[str]) -> None:
        """Take these agents away."""
        self._store.monitored.get(inspector, set()).difference_update(work_nos)
