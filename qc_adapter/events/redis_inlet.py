"""The way into the logs in Redis, on whatever replica a batch comes in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from qc_adapter.events import log_scripts
from qc_adapter.events.feed import fresh_epoch
from qc_adapter.events.inlet import REPEATED_WITHIN_SECONDS, Batch, Logged
from qc_adapter.events.standing import NOTHING_HEARD, Standing
from qc_adapter.events.stored import from_standing, to_call_ids, to_line, to_standing
from qc_adapter.model.errors import EventsReadElsewhere, NotSignedIn, SessionUnreadable, StoreUnavailable
from qc_adapter.model.session import EventSource
from qc_adapter.store import keys

if TYPE_CHECKING:
    from qc_adapter.events.hub import Hub
    from qc_adapter.events.redis_lease import Book

#: Each try reads anew what another replica added meanwhile.
_TRIES: Final = 32
#: Of so many inspectors it is known which position their last batch got here.
_MOST_KNOWN: Final = 20_000
#: The gateway gives up after 120 s of failed pushes, with 10 s between two of them.
_MOST_DOUBTFUL: Final = 16


@dataclass(frozen=True, slots=True)
class _End:
    """How a log ends as far as is known, and how many items of a batch repeat what stands there."""

    epoch: str = ""
    position: int = 0
    standing: Standing = NOTHING_HEARD
    repeated: int = 0


class RedisInlet:
    """The way into the logs that all replicas share."""

    def __init__(self, book: Book, hub: Hub) -> None:
        self._book = book
        self._hub = hub
        #: Where the last batches were put: callers may have these positions, and a failover of Redis may lose them.
        self._put: dict[str, tuple[str, int]] = {}
        #: Arrivals of which nobody knows whether they were logged: a Redis that stood still may run them later.
        self._doubtful: dict[str, tuple[str, ...]] = {}

    async def take(self, agent_id: str, source: EventSource, batch: Batch) -> Logged:
        """Log what is new of a batch; a batch that was logged by a script whose reply got lost is not logged again."""
        arrivals = (batch.nonce, *self._doubtful.get(agent_id, ()))[:_MOST_DOUBTFUL]
        try:
            reply = await self._append_at_end(agent_id, source, batch, arrivals)
        except StoreUnavailable:
            self._doubtful[agent_id] = arrivals
            raise
        self._doubtful.pop(agent_id, None)
        return self._logged(agent_id, batch, reply)

    async def _append_at_end(self, agent_id: str, source: EventSource, batch: Batch, arrivals: tuple[str, ...]) -> Any:
        feed = self._hub.find(agent_id)
        end = _End() if feed is None else _End(feed.epoch, feed.position, feed.standing)
        for _ in range(_TRIES):
            reply = await self._append(agent_id, source, batch, arrivals, end)
            if reply[0] != b"again":
                return reply
            _, epoch, position, talking, standing, repeated = reply
            stood = from_standing(standing.decode(), talking.decode())
            end = _End(epoch.decode(), int(position), stood, int(repeated))
        raise StoreUnavailable("append", "others write to the same log all the time")

    async def _append(
        self, agent_id: str, source: EventSource, batch: Batch, arrivals: tuple[str, ...], end: _End
    ) -> Any:
        standing = end.standing
        for item in batch.items[end.repeated :]:
            standing = standing.after(item)
        terms = self._book.terms
        return await self._book.link.script(
            "append", log_scripts.APPEND, agent_id, source.value, fresh_epoch(), terms.capacity, terms.retention_ms,
            int(batch.repeats_after_seconds * 1000), int(REPEATED_WITHIN_SECONDS * 1000), " ".join(arrivals),
            end.epoch, end.position, end.repeated,
            to_call_ids(standing.talking), to_standing(standing), " ".join(batch.marks),
            *self._put.get(agent_id, ("", 0)), *map(to_line, batch.items),
        )  # fmt: skip

    def _logged(self, agent_id: str, batch: Batch, reply: Any) -> Logged:
        status = reply[0]
        if status == b"gone":
            raise NotSignedIn(agent_id)
        if status == b"elsewhere":
            raise EventsReadElsewhere(agent_id, EventSource(reply[1].decode()))
        if status == b"unreadable":
            raise SessionUnreadable(agent_id, f"the key {keys.SESSION}{agent_id} holds no hash")
        _, epoch, before, known = reply
        new = batch.items[known:]
        if new:
            self._book.mirrors.added(agent_id, epoch.decode(), int(before), new)
        put = epoch.decode(), int(before) + len(new)
        self._put.pop(agent_id, None)
        self._put[agent_id] = put
        if len(self._put) > _MOST_KNOWN:
            del self._put[next(iter(self._put))]
        return Logged(len(new), int(known), f"{put[0]}-{put[1]}")
