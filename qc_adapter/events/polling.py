"""
One inspector's polls: what a reply brought, and what may have got lost with a poll that broke off.

The gateway does not notice that a client is gone: a poll that was cut off may be held on, and be given an event after
a later poll brought some. Until such a poll must have ended, each event has a gap before it, and so has the end of
that time.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from qc_adapter.events.model import GapReason, Item
from qc_adapter.events.translate import translate
from qc_adapter.gateway.envelope import plain_text
from qc_adapter.model.inspector import gateway_of, number_of

if TYPE_CHECKING:
    from qc_adapter.events.backlog import Backlog
    from qc_adapter.gateway.client import PollReply
    from qc_adapter.gateway.envelope import RawEvent
    from qc_adapter.model.errors import PollFailed
    from qc_adapter.model.session import Session

#: Beyond the hold, for the poll to arrive and its reply to come back before the lease ends.
POLL_SPARE_SECONDS: Final = 1.0
_CUT_OFF: Final = "a poll that was cut off may have taken an event"
_UNREAD: Final = "a part of the reply could not be read"


class Polls(Protocol):
    """The part of the gateways that polling needs."""

    async def poll(self, session: Session, *, hold_seconds: float) -> PollReply: ...


class CountsEvents(Protocol):
    """What is counted of events that are read."""

    def event_read(self, gateway: str, event_type: str) -> None: ...

    def event_foreign(self, gateway: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Brought:
    """What a poll adds to the log; `gap` says why a gap is among it, empty if none is."""

    items: tuple[Item, ...] = ()
    gap: str = ""


class Polling:
    """The polls of one inspector. `cut_off` says that an older one may be held on from the beginning."""

    def __init__(
        self,
        agent_id: str,
        *,
        gateway: Polls,
        counts: CountsEvents,
        hold_seconds: float,
        backlog: Backlog,
        cut_off: bool,
    ) -> None:
        self._agent_id = agent_id
        self._number, self._gateway_name = number_of(agent_id), gateway_of(agent_id)
        self._gateway = gateway
        self._counts = counts
        self._hold_seconds = hold_seconds
        self._backlog = backlog
        self._polled_at = time.monotonic()
        #: Until when a poll that was cut off may take events away.
        self._doubtful_until = 0.0
        self._log = structlog.get_logger()
        #: Whether the gateway has a poll of ours now.
        self.under_way = False
        if cut_off:
            self._doubt()

    @property
    def doubtful(self) -> bool:
        """Whether a poll that was cut off may take an event away even now."""
        return self._doubtful_until > time.monotonic()

    async def poll(self, session: Session) -> PollReply:
        """Poll once; raises what the gateway client raises."""
        self.under_way = True
        self._polled_at = time.monotonic()
        try:
            return await self._gateway.poll(session, hold_seconds=self._hold_seconds)
        finally:
            self.under_way = False

    def answered(self, reply: PollReply) -> Brought:
        """Return what a reply adds to the log."""
        received_at = time.time()
        queued_since = self._backlog.answered(time.monotonic() - self._polled_at, events=bool(reply.events))
        items: list[Item] = []
        for raw in reply.events:
            self._counts.event_read(self._gateway_name, raw.event_type)
            if raw.work_no not in (self._number, ""):
                self._foreign(raw)
            else:
                # Some events are documented without a workNo: a poll is for one inspector, so they are its own.
                items.append(translate(raw, received_at, work_no=self._number, queued_since=queued_since))
        gap = ""
        over = self._doubtful_until < time.monotonic()
        if self._doubtful_until and (items or over):
            items.insert(0, GapReason.POLL_REPLY_LOST)
            gap = _CUT_OFF
            self._doubtful_until = 0.0 if over else self._doubtful_until
        if reply.event_may_be_lost:
            items.append(GapReason.POLL_REPLY_LOST)
            gap = _UNREAD
        return Brought(tuple(items), gap)

    def failed(self, failure: PollFailed) -> Brought:
        """Return what a poll without a readable reply adds to the log."""
        if failure.still_held:
            self._doubt()
        return _lost(failure.message) if failure.event_may_be_lost else Brought()

    def settled(self) -> Brought:
        """Say before others poll on that a poll which was cut off may have taken an event."""
        if not self._doubtful_until:
            return Brought()
        self._doubtful_until = 0.0
        return _lost(_CUT_OFF)

    def _doubt(self) -> None:
        """Note that the last poll may be held on."""
        until = self._polled_at + self._hold_seconds
        if until > time.monotonic():
            self._doubtful_until = until + POLL_SPARE_SECONDS

    def _foreign(self, raw: RawEvent) -> None:
        self._counts.event_foreign(self._gateway_name)
        work_no, event_type = plain_text(raw.work_no), plain_text(raw.event_type)
        self._log.warning("foreign_event_dropped", agent_id=self._agent_id, work_no=work_no, event_type=event_type)


def _lost(why: str) -> Brought:
    return Brought((GapReason.POLL_REPLY_LOST,), why)
