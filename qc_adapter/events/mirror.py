"""
Keeps the feeds of this replica in step with the logs in Redis.

A log is mirrored from the first call that follows it until nobody has followed it for a while. News come with notices;
once a second every mirrored log is compared with Redis, so that a notice that got lost costs that second and nothing
else.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import structlog

from qc_adapter.events import log_scripts
from qc_adapter.events.feed import Feed, fresh_epoch
from qc_adapter.events.leases import poll_state
from qc_adapter.events.model import GapReason
from qc_adapter.events.notices import Notices, read_notice
from qc_adapter.events.receipts import RedisReceipts
from qc_adapter.events.stored import from_inspection, from_line, from_standing, to_inspection
from qc_adapter.model.errors import NotSignedIn, SessionConflict, SessionLost, StoreUnavailable
from qc_adapter.model.inspector import gateway_of
from qc_adapter.store import keys

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qc_adapter.events.hub import Hub
    from qc_adapter.events.model import Item
    from qc_adapter.events.notices import Notice
    from qc_adapter.events.standing import Standing
    from qc_adapter.store.link import RedisLink

_CHECK_SECONDS: Final = 1.0
_CHECKED_AT_ONCE: Final = 500
_END: Final = {"lost": SessionLost, "conflict": SessionConflict}
#: A feed stays for the next call that long after the last one.
_LINGER_SECONDS: Final = 60.0
#: Gaps behind positions that a log never had, or lost.
_SAID_OF_HOLES: Final = frozenset({GapReason.LOG_LOST, GapReason.TAKEOVER})
_NOTHING_TOLD: Final = ("", "", "")
_NOTHING_ADDED: Final[tuple[tuple[bytes, ...], Sequence[Item]]] = ((), ())


class Counts(Protocol):
    """What the mirror counts."""

    def gap(self, gateway: str, reason: str) -> None: ...


class Mirror:
    """The logs that calls on this replica follow."""

    def __init__(
        self,
        link: RedisLink,
        hub: Hub,
        counts: Counts,
        *,
        replica: str,
        session_changed: Callable[[str], None],
    ) -> None:
        self._link = link
        self._hub = hub
        self._counts = counts
        self._session_changed = session_changed
        self._revoked: Callable[[str, str], None] = lambda _agent_id, _holder: None
        self._woken: Callable[[], None] = lambda: None
        self._own_channel = keys.REPLICA + replica
        self._notices = Notices(link, heard=self._heard, resumed=self._resumed, always={keys.WAKE, self._own_channel})
        self.receipts = RedisReceipts(link, hub)
        self._opening: dict[str, asyncio.Task[Feed]] = {}
        #: How each mirrored log ended, and state and detail of its session, as Redis had them when it was read last.
        self._told: dict[str, tuple[str, str, str]] = {}
        #: What our own pollers stored last, as lines and as items.
        self._added: dict[str, tuple[tuple[bytes, ...], Sequence[Item]]] = {}
        self._stale: set[str] = set()
        self._news = asyncio.Event()
        self._loops: list[asyncio.Task[None]] = []
        self._log = structlog.get_logger()

    @property
    def listening(self) -> bool:
        """Whether notices arrive."""
        return self._notices.listening

    def tell(self, *, revoked: Callable[[str, str], None], woken: Callable[[], None]) -> None:
        """Say who is to hear of leases that are taken away, and of those that are free."""
        self._revoked, self._woken = revoked, woken

    def start(self) -> None:
        """Begin to listen and to compare."""
        loops = {
            "notices": self._notices.run(),
            "mirror": self._read_stale(),
            "mirror check": self._check_always(),
            "receipts": self.receipts.run(),
        }
        self._loops = [asyncio.create_task(loop, name=name) for name, loop in loops.items()]

    async def stop(self) -> None:
        """Stop, and wait for what is under way."""
        tasks: list[asyncio.Task[Any]] = [*self._loops, *self._opening.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def follow(self, agent_id: str, *, fresh: bool = False) -> Feed:
        """Return the inspector's feed, read from Redis if nobody followed it lately; raises `StoreUnavailable`."""
        feed = self._hub.find(agent_id)
        if feed is not None:
            feed.touch()
            if fresh or feed.ended is not None:
                await self._catch_up(agent_id)  # a new sign-in may not have been heard of yet
            return feed
        opening = self._opening.get(agent_id)
        if opening is None:
            # In a task of its own: others may wait for it when the first caller goes away.
            opening = asyncio.create_task(self._open(agent_id), name=f"mirror {agent_id}")
            self._opening[agent_id] = opening
            opening.add_done_callback(lambda done: self._opened(agent_id, done))
        return await asyncio.shield(opening)

    def at_hand(self, agent_id: str) -> Feed | None:
        """Return the feed if it is mirrored, and not one that has ended: that would be compared first."""
        feed = self._hub.find(agent_id)
        if feed is None or feed.ended is not None:
            return None
        feed.touch()
        return feed

    def adding(self, agent_id: str, lines: Sequence[bytes], items: Sequence[Item]) -> None:
        """Note what our own poller is about to store: we shall hear of it too, before the reply or after it."""
        if lines and self._hub.find(agent_id) is not None:
            self._added[agent_id] = tuple(lines), items

    def added(self, agent_id: str, epoch: str, before: int, items: Sequence[Item]) -> None:
        """Take over what our own poller has just stored."""
        feed = self._hub.find(agent_id)
        if feed is not None and not feed.mirror(epoch, before, items):
            self._look_again(agent_id)

    async def _open(self, agent_id: str) -> Feed:
        await self._notices.listen(keys.NOTICE + agent_id)
        read = _Log(*await self._read(agent_id, "", 0, self._hub.capacity))
        feed = Feed(self._hub.capacity, self._hub.retention_seconds, read.epoch.decode(), int(read.newest))
        feed.restore(_items(read.entries), _standing(read))
        feed.inspection = from_inspection(read.inspection.decode())
        self._hub.put(agent_id, feed)
        self._tell(agent_id, feed, read)
        # What was told between the reading and now was told to nobody.
        self._look_again(agent_id)
        return feed

    def _opened(self, agent_id: str, task: asyncio.Task[Feed]) -> None:
        del self._opening[agent_id]
        if not task.cancelled():
            task.exception()  # callers may all be gone

    def _heard(self, channel: str, data: bytes) -> None:
        if channel == keys.WAKE:
            self._woken()
        elif channel == self._own_channel:
            agent_id, _, holder = data.decode(errors="replace").partition(" ")
            self._revoked(agent_id, holder)
        elif (notice := read_notice(channel, data)) is not None:
            if notice.session_changed:
                self._session_changed(notice.agent_id)
            feed = self._hub.find(notice.agent_id)
            if feed is not None and not self._follows(feed, notice):
                self._look_again(notice.agent_id)

    def _follows(self, feed: Feed, notice: Notice) -> bool:
        """Take over what a notice tells; False if it does not tell all that is to be known."""
        if notice.accepted:
            feed.inspection = from_inspection(b"".join(notice.lines).decode(errors="replace"))
            return True
        lines, items = self._added.get(notice.agent_id, _NOTHING_ADDED)
        try:
            if notice.lines != lines:  # mostly it is our own poller's, and need not be read
                items = [from_line(line) for line in notice.lines]
        except (ValueError, KeyError, TypeError):
            return False  # no line of ours: the log itself says what is true
        return (not items or feed.mirror(notice.epoch, notice.before, items)) and not notice.state_changed

    def _resumed(self) -> None:
        for agent_id, _ in self._hub.feeds():
            self._session_changed(agent_id)
            self._look_again(agent_id)
        self._woken()

    def _look_again(self, agent_id: str) -> None:
        self._stale.add(agent_id)
        self._news.set()

    async def _read_stale(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            while self._stale:
                agent_id = self._stale.pop()
                try:
                    await self._catch_up(agent_id)
                except StoreUnavailable:
                    continue  # the next check finds it
                except Exception as defect:  # noqa: BLE001 - one bad log must not blind the others
                    self._log.error("log_not_read", agent_id=agent_id, exc_info=defect)

    async def _catch_up(self, agent_id: str) -> None:
        feed = self._hub.find(agent_id)
        if feed is None:
            return
        read = _Log(*await self._read(agent_id, feed.epoch, feed.position, self._hub.capacity))
        epoch, newest, entries = read.epoch.decode(), int(read.newest), _items(read.entries)
        first = entries[0][0] if entries else newest + 1
        lost = epoch != feed.epoch
        if lost or (first > feed.position + 1 and (not entries or entries[0][1] not in _SAID_OF_HOLES)):
            if len(entries) == self._hub.capacity:  # the gap takes a place: who is not behind has to find it
                first = entries.pop(0)[0] + 1
            self._jump(agent_id, feed, epoch, first - 1, GapReason.LOG_LOST if lost else GapReason.CURSOR_EXPIRED)
        feed.catch_up(entries)
        if feed.position == newest:  # else a notice has told more meanwhile
            feed.standing = _standing(read)
        feed.inspection = from_inspection(read.inspection.decode())
        self._tell(agent_id, feed, read)

    def _jump(self, agent_id: str, feed: Feed, epoch: str, position: int, reason: GapReason) -> None:
        self._counts.gap(gateway_of(agent_id), reason.lower())
        feed.jump(epoch, position, reason)

    def _tell(self, agent_id: str, feed: Feed, read: _Log) -> None:
        """Let those who follow the feed know how its session is, and whether it has ended."""
        ended, state, detail = read.ended.decode(), read.state.decode(), read.detail.decode()
        before = self._told.get(agent_id, _NOTHING_TOLD)
        self._told[agent_id] = (ended, state, detail)
        feed.tell(poll_state(state), detail)
        if before[0] != ended:
            if ended:
                how, _, retcode = ended.partition(" ")
                feed.end(_END[how](agent_id, retcode) if how in _END else NotSignedIn(agent_id))
            else:
                feed.reopen()

    async def _check_always(self) -> None:
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            try:
                await self._check()
            except StoreUnavailable:
                continue  # health says it
            except Exception as defect:  # noqa: BLE001 - without this loop a lost notice is lost for good
                self._log.error("look_failed", exc_info=defect)

    async def _check(self) -> None:
        for agent_id in self._hub.prune(_LINGER_SECONDS):
            self._told.pop(agent_id, None)
            self._added.pop(agent_id, None)
            self._session_changed(agent_id)
            if self._hub.find(agent_id) is None and agent_id not in self._opening:
                await self._notices.leave(keys.NOTICE + agent_id)
        feeds = list(self._hub.feeds())
        for start in range(0, len(feeds), _CHECKED_AT_ONCE):
            known = [
                part
                for agent_id, feed in feeds[start : start + _CHECKED_AT_ONCE]
                for part in (agent_id, feed.epoch, feed.position, *self._known(agent_id, feed))
            ]
            for agent_id in await self._link.script("check", log_scripts.CHECK, *known):
                self._look_again(agent_id.decode())

    def _known(self, agent_id: str, feed: Feed) -> tuple[str, str, str, str]:
        ended, state, detail = self._told.get(agent_id, _NOTHING_TOLD)
        return ended, to_inspection(feed.inspection), state, detail

    async def _read(self, agent_id: str, epoch: str, position: int, most: int) -> Any:
        retention_ms = int(self._hub.retention_seconds * 1000)
        return await self._link.script(
            "read", log_scripts.READ, agent_id, epoch, position, fresh_epoch(), retention_ms, most
        )


class _Log(NamedTuple):
    """What the script `READ` returns."""

    epoch: bytes
    newest: int
    ended: bytes
    talking: bytes
    standing: bytes
    inspection: bytes
    state: bytes
    detail: bytes
    entries: Sequence[Any]


def _standing(read: _Log) -> Standing:
    return from_standing(read.standing.decode(), read.talking.decode())


def _items(entries: Sequence[Any]) -> list[tuple[int, Item]]:
    """Return the positions and items of stream entries."""
    return [(int(entry[0].partition(b"-")[0]), from_line(entry[1][3])) for entry in entries]
