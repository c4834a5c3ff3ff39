"""Which server the sentinels take for the master."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from redis.asyncio.sentinel import MasterNotFoundError, Sentinel
from redis.exceptions import RedisError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from redis.asyncio import Redis

Address = tuple[str, int]
#: So long those are waited for that answered last time.
_GATHERING_SECONDS: Final = 0.3


class _Told(NamedTuple):
    """What a sentinel says: the greater one knows more."""

    #: Counts the failovers of the master.
    epoch: int
    #: Whether the next master is master already, though not all replicas have changed over.
    promoted: bool
    address: Address


class Sentinels(Sentinel):
    """
    Takes the word of the sentinel that knows most.

    The client library takes that of the first one that answers. For a moment that one may not have heard of a failover;
    and the one that leads it lists the old master until every replica has changed over, which takes a second or more.
    """

    def __init__(self, nodes: list[Address], sentinel_kwargs: dict[str, Any]) -> None:
        super().__init__(nodes, sentinel_kwargs=sentinel_kwargs)  # type: ignore[no-untyped-call]
        self._asked: set[asyncio.Task[_Told | None]] = set()
        #: Who is not waited for any more.
        self._silent: dict[Redis, asyncio.Task[_Told | None]] = {}

    async def discover_master(self, service_name: str) -> Address:
        """Return the address; raises `MasterNotFoundError`."""
        silent = {one: task for one, task in self._silent.items() if not task.done()}
        asked = {one: self._begin_to_ask(one, service_name) for one in self.sentinels if one not in silent}
        if asked:
            await asyncio.wait(asked.values(), timeout=_GATHERING_SECONDS)
        asked |= silent
        while not (told := _told(asked.values())) and (waiting := [task for task in asked.values() if not task.done()]):
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        self._silent = asked
        if not told:
            raise MasterNotFoundError
        return max(told).address

    async def aclose(self) -> None:
        """Wait for the answers that are still to come, each of which has its time limit, and close the connections."""
        if self._asked:
            await asyncio.wait(self._asked)
        await super().aclose()

    def _begin_to_ask(self, sentinel: Redis, name: str) -> asyncio.Task[_Told | None]:
        """Ask in a task that is never cut off: what others ask on that connection would get its answer."""
        task = asyncio.create_task(self._ask(sentinel, name), name="store sentinel")
        self._asked.add(task)
        task.add_done_callback(self._asked.discard)
        return task

    async def _ask(self, sentinel: Redis, name: str) -> _Told | None:
        try:
            masters: Any = await sentinel.sentinel_masters()
            found: Any = await sentinel.sentinel_get_master_addr_by_name(name)
        except (RedisError, OSError):
            return None
        if not found or (state := masters.get(name)) is None:
            return None
        address = found[0].decode(), found[1]
        promoted = address != (state["ip"], state["port"])
        if promoted or self.check_master_state(state, name):
            return _Told(state["config-epoch"], promoted, address)
        return None


def _told(asked: Iterable[asyncio.Task[_Told | None]]) -> list[_Told]:
    return [told for task in asked if task.done() and (told := task.result())]
