"""
Hears from Redis what other replicas did.

Notices are a hint: they may get lost with a connection. What they tell of is read from Redis by whoever misses them.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from qc_adapter.events.lua import ENTRIES, RECEIPTS, STATE_CHANGED
from qc_adapter.sessions.script import SESSION_CHANGED
from qc_adapter.store import keys

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio.client import PubSub

    from qc_adapter.store.link import RedisLink

_SEND_SECONDS: Final = 2.0
_READ_SECONDS: Final = 1.0
_RECONNECT_SECONDS: Final = 0.5
_STALE: Final = "the server was replaced, or was silent and may have been"
#: uvloop answers a write on a closed connection with a RuntimeError.
_BROKEN: Final = (RedisError, OSError, RuntimeError)


@dataclass(frozen=True, slots=True)
class Notice:
    """
    Something changed for an inspector.

    `lines` are entries of the log, the first behind the position `before`; with `accepted` the one line is the
    inspection after a receipt.
    """

    agent_id: str
    session_changed: bool
    state_changed: bool
    epoch: str
    before: int
    lines: tuple[bytes, ...]
    accepted: bool = False


def read_notice(channel: str, data: bytes) -> Notice | None:
    """Return the notice on an inspector's channel, None for one that makes no sense."""
    first, *lines = data.split(b"\n")
    flags, _, place = first.decode(errors="replace").partition(" ")
    epoch, _, before = place.partition(" ")
    if ENTRIES in flags and not before.isdecimal():
        return None
    return Notice(
        channel.removeprefix(keys.NOTICE),
        SESSION_CHANGED in flags,
        STATE_CHANGED in flags,
        epoch,
        int(before) if before.isdecimal() else 0,
        tuple(lines),
        RECEIPTS in flags,
    )


class Notices:
    """
    One connection that listens to any number of channels, and comes back when it breaks.

    It is replaced too when the server is another one, or was silent: a master that was frozen wakes up, runs what lay
    in its connections and tells of it, although another one has its place, where the same is stored once more and at
    other positions.

    `heard` is called with channel and data, `resumed` whenever it listens (again): what was told before is lost.
    """

    def __init__(
        self, link: RedisLink, *, heard: Callable[[str, bytes], None], resumed: Callable[[], None], always: set[str]
    ) -> None:
        self._link = link
        self._heard = heard
        self._resumed = resumed
        self._always = always
        self._channels: set[str] = set()
        self._pubsub: PubSub | None = None
        self._log = structlog.get_logger()

    @property
    def listening(self) -> bool:
        """Whether notices arrive, as far as we know."""
        return self._pubsub is not None

    async def listen(self, channel: str) -> None:
        """Listen to another channel; without a connection, as soon as there is one."""
        self._channels.add(channel)
        await self._send("SUBSCRIBE", channel)

    async def leave(self, channel: str) -> None:
        """Stop listening to a channel."""
        self._channels.discard(channel)
        await self._send("UNSUBSCRIBE", channel)

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            pubsub = self._link.subscriber()
            try:
                await self._listen(pubsub)
            except _BROKEN as failure:
                if self._pubsub is not None:
                    self._log.warning("notices_lost", detail=type(failure).__name__)
            finally:
                self._pubsub = None
                await _close(pubsub)
            await asyncio.sleep(_RECONNECT_SECONDS)

    async def _listen(self, pubsub: PubSub) -> None:
        doubts = self._link.doubts
        async with asyncio.timeout(_SEND_SECONDS):
            await pubsub.subscribe(*self._always, *self._channels)
        connection = pubsub.connection
        if connection is None:
            return
        # A connection that breaks is replaced by us: the library would forget the channels that were added later.
        connection.retry = Retry(NoBackoff(), 0)
        self._pubsub = pubsub
        self._resumed()
        while True:
            message = await pubsub.get_message(timeout=_READ_SECONDS)
            if self._link.doubts != doubts:
                raise RedisConnectionError(_STALE)
            if message is not None and message["type"] == "message":
                self._heard(message["channel"].decode(), message["data"])

    async def _send(self, *command: str) -> None:
        """Send on the connection that `run` reads; when it fails, `run` finds out and subscribes to everything."""
        pubsub = self._pubsub
        if pubsub is None or pubsub.connection is None:
            return
        try:
            async with asyncio.timeout(_SEND_SECONDS):
                await pubsub.connection.send_command(*command, check_health=False)
        except _BROKEN:
            self._pubsub = None


async def _close(pubsub: PubSub) -> None:
    try:
        async with asyncio.timeout(_SEND_SECONDS):
            await pubsub.aclose()  # type: ignore[no-untyped-call]
    except _BROKEN:
        return
