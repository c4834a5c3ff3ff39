"""
Reads one inspector's events from the gateway: poll, keep what came, pause, poll again.

A poll takes the event away from the gateway, is the heartbeat of the sign-in, and brings the next GUID (cec_07_1274).
So the poller goes on through every failure that is not the end of the session, and says when an event may be lost.
What a reply brought is stored before the next poll goes out, however long that takes.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

import structlog

from qc_adapter.events.backlog import Backlog
from qc_adapter.events.leases import LeaseLost, PollState, Step
from qc_adapter.events.model import GapReason, Item
from qc_adapter.events.translate import translate
from qc_adapter.model.errors import (
    GatewayMisconfigured,
    GatewayRefused,
    GatewayUnavailable,
    PollFailed,
    SessionUnreadable,
    StoreUnavailable,
)
from qc_adapter.model.inspector import gateway_of, number_of
from qc_adapter.model.session import EventSource

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from qc_adapter.events.leases import Lease
    from qc_adapter.gateway.client import PollReply
    from qc_adapter.gateway.envelope import RawEvent
    from qc_adapter.model.session import Renewal, Session

T = TypeVar("T")

#: 000-003 may be a GUID that is just being renewed: bear it this often in a row (cec_07_1274, public clients).
BORNE_REFUSALS: Final = 5
GUID_REFUSED: Final = "000-003"
#: The gateway says that the sign-in is over.
SIGNED_OUT: Final = frozenset({"100-006", "100-008", "105-005", "105-006", "105-007"})
#: Another node takes over, or the platform behind the gateway is away: the sign-in lives on.
PASSING: Final = frozenset({"000-004", "105-002", "100-003", "900-001", "000-007"})
#: Beyond the hold, for the poll to arrive and its reply to come back before the lease ends.
_POLL_SPARE_SECONDS: Final = 1.0
_CUT_OFF: Final = "a poll that was cut off may have taken an event"


class Polls(Protocol):
    """The part of the gateway client that a poller needs."""

    async def poll(self, session: Session, *, hold_seconds: float) -> PollReply: ...


class Counts(Protocol):
    """What a poller counts."""

    def event_read(self, gateway: str, event_type: str) -> None: ...

    def event_foreign(self, gateway: str) -> None: ...

    def gap(self, gateway: str, reason: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds between polls, of the gateway's hold, and of the pauses after failures."""

    pause_seconds: float = 0.2
    hold_seconds: float = 10.0
    first_backoff_seconds: float = 0.5
    last_backoff_seconds: float = 5.0
    misconfigured_seconds: float = 15.0
    #: The store is asked more often: a reply in hand waits for it, and with it the sign-in.
    store_backoff_seconds: float = 1.0


class Poller:
    """
    Polls for one inspector until its session ends, the lease is gone or handed back, or the task is cancelled.

    A reply that comes at once may bring an event that waited in the gateway's queue since nobody polled: it says since
    when the queue may have filled, so that an old event proves nothing about a new command.

    The gateway does not notice that a client is gone: a poll that was cut off may be held on, and be given an event
    after a later poll brought some. Until such a poll must have ended, each event has a gap before it, and so has the
    end of that time. `cut_off` says that there may be such a poll from the beginning.
    """

    def __init__(
        self,
        lease: Lease,
        *,
        gateway: Polls,
        counts: Counts,
        pace: Pace,
        cut_off: bool = False,
        polled_ago_seconds: float | None = None,
    ) -> None:
        self._lease = lease
        self._agent_id = lease.agent_id
        self._gateway_name, self._number = gateway_of(lease.agent_id), number_of(lease.agent_id)
        self._gateway = gateway
        self._counts = counts
        self._pace = pace
        self._failures = 0
        self._refusals = 0
        self._backlog = Backlog(pace.pause_seconds, polled_ago_seconds)
        self._leave = asyncio.Event()
        self._polled_at = time.monotonic()
        self._used: Session | None = None
        #: Until when a poll that was cut off may take events away.
        self._doubtful_until = 0.0
        self._gap_detail = ""
        if cut_off:
            self._doubt()
        self._log = structlog.get_logger()
        self.state = PollState.STARTING
        self.detail = ""
        #: When the gateway last answered a poll, also of another replica, on the monotonic clock.
        self.answered_at = time.monotonic() - (polled_ago_seconds or 0.0)
        #: Whether the gateway has a poll of ours now.
        self.polling = False

    @property
    def lease(self) -> Lease:
        """The right to poll."""
        return self._lease

    @property
    def leaving(self) -> bool:
        """Whether the lease is handed back after this poll."""
        return self._leave.is_set()

    def leave(self) -> None:
        """Hand the lease back once the poll that is under way has ended: to cancel it would lose its event."""
        self._leave.set()

    async def run(self) -> str:
        """Poll; return why it is over: released, fenced, session_gone, session_lost or parked."""
        try:
            return await self._run()
        except LeaseLost:
            return "fenced"

    async def _run(self) -> str:
        while not self.leaving or self._doubtful_until > time.monotonic():
            try:
                session = await self._patiently(self._session)
            except SessionUnreadable as failure:
                self._log.warning("session_unreadable", agent_id=self._agent_id, detail=failure.message)
                await self._patiently(self._lease.park)
                return "parked"
            if session is None:
                return "session_gone"
            if session.event_source is not EventSource.POLL:
                await self._patiently(self._lease.park)
                return "parked"
            pause = await self._step(session)
            if pause is None:
                return "session_lost" if self.state is PollState.LOST else "parked"
            await self._pause(pause)
        await self._settle_doubt()
        await self._patiently(self._lease.release)
        return "released"

    async def _session(self) -> Session | None:
        return await self._lease.session(self._pace.hold_seconds + _POLL_SPARE_SECONDS)

    async def _step(self, session: Session) -> float | None:
        """Poll once. Returns the seconds to pause, or None when the session is over."""
        try:
            reply = await self._poll(session)
        except GatewayRefused as refusal:
            return await self._refused(session, refusal)
        except PollFailed as failure:
            pause = self._degraded(failure.message)
            await self._keep(session, failure.renewal, self._gap(failure))
            return pause
        except GatewayUnavailable as failure:
            pause = self._degraded(failure.message)
            await self._keep(session, None)
            return pause
        except GatewayMisconfigured as failure:
            self._degraded(failure.message, loud=True)
            await self._keep(session, None)
            return self._pace.misconfigured_seconds
        self._answered()
        await self._keep(session, reply.renewal, self._items(reply))
        return self._pace.pause_seconds

    async def _settle_doubt(self) -> None:
        """Say before others poll on that a poll which was cut off may have taken an event."""
        if self._doubtful_until and self._used is not None:
            self._doubtful_until = 0.0
            await self._keep(self._used, None, self._report_gap(_CUT_OFF))

    async def _poll(self, session: Session) -> PollReply:
        self.polling = True
        self._used = session
        self._polled_at = time.monotonic()
        try:
            return await self._gateway.poll(session, hold_seconds=self._pace.hold_seconds)
        finally:
            self.polling = False

    async def _keep(self, used: Session, renewal: Renewal | None, items: tuple[Item, ...] = ()) -> Session | None:
        """
        Store what a poll brought; returns what is stored then.

        However long the store is away: the events and the GUID exist nowhere else, and the next poll waits.
        """
        step = Step(used, renewal, items, self.state, self.detail)
        try:
            kept = await self._patiently(lambda: self._lease.keep(step))
        except SessionUnreadable:
            kept = used  # it is kept; the next look at the session says what is wrong
        for item in items:
            if isinstance(item, GapReason):
                self._counts.gap(self._gateway_name, item.lower())
                self._log.warning("event_gap", agent_id=self._agent_id, detail=self._gap_detail)
        return kept

    def _items(self, reply: PollReply) -> tuple[Item, ...]:
        received_at = time.time()
        queued_since = self._backlog.answered(time.monotonic() - self._polled_at, events=bool(reply.events))
        items: list[Item] = []
        for raw in reply.events:
            self._counts.event_read(self._gateway_name, raw.event_type)
            if raw.work_no not in (self._number, ""):
                self._foreign(raw)
            else:
                # Some events are documented without a workNo: a poll is for one inspector, so they are its own.
                event = translate(raw, received_at)
                items.append(replace(event, work_no=self._number, queued_since=queued_since))
        over = self._doubtful_until < time.monotonic()
        if self._doubtful_until and (items or over):
            items[:0] = self._report_gap(_CUT_OFF)
            self._doubtful_until = 0.0 if over else self._doubtful_until
        if reply.event_may_be_lost:
            items += self._report_gap("a part of the reply could not be read")
        return tuple(items)

    def _gap(self, failure: PollFailed) -> tuple[Item, ...]:
        if failure.still_held:
            self._doubt()
        return self._report_gap(failure.message) if failure.event_may_be_lost else ()

    def _doubt(self) -> None:
        """Note that the last poll may be held on."""
        until = self._polled_at + self._pace.hold_seconds
        if until > time.monotonic():
            self._doubtful_until = until + _POLL_SPARE_SECONDS

    def _foreign(self, raw: RawEvent) -> None:
        self._counts.event_foreign(self._gateway_name)
        self._log.warning(
            "foreign_event_dropped", agent_id=self._agent_id, work_no=raw.work_no, event_type=raw.event_type
        )

    async def _refused(self, session: Session, refusal: GatewayRefused) -> float | None:
        ends = refusal.retcode in SIGNED_OUT
        if not ends and refusal.retcode != GUID_REFUSED:
            pause = self._degraded(refusal.message, loud=refusal.retcode not in PASSING)
            await self._keep(session, refusal.renewal)
            return pause
        self._refusals += 1
        stored = await self._keep(session, refusal.renewal)
        if stored is not None and stored.guid != session.guid:
            return self._pace.pause_seconds  # the GUID was renewed while the poll was on its way
        if not ends and self._refusals < BORNE_REFUSALS:
            self._degraded(refusal.message)
            return self._pace.first_backoff_seconds
        if not await self._patiently(lambda: self._lease.end(session, refusal.retcode, refusal.message)):
            return self._pace.pause_seconds
        self.state, self.detail = PollState.LOST, refusal.message
        return None

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask the store until it answers."""
        failures = 0
        while True:
            try:
                return await ask()
            except StoreUnavailable as failure:
                self._degraded(failure.message)
                failures += 1
                longest = min(self._pace.store_backoff_seconds, 0.1 * 2.0 ** min(failures, 10))
            await asyncio.sleep(longest * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret

    async def _pause(self, seconds: float) -> None:
        if self.leaving:
            await asyncio.sleep(seconds)  # it has to stay a little longer
            return
        try:
            async with asyncio.timeout(seconds):
                await self._leave.wait()
        except TimeoutError:
            return

    def _answered(self) -> None:
        self._failures = self._refusals = 0
        if self.state is PollState.DEGRADED:
            self._log.info("polling_recovered", agent_id=self._agent_id)
        elif self.state is PollState.STARTING:
            self._log.info("polling_started", agent_id=self._agent_id)
        self.state = PollState.ACTIVE
        self.detail = ""
        self.answered_at = time.monotonic()

    def _degraded(self, why: str, *, loud: bool = False) -> float:
        """Note a failure. Returns the seconds to wait: doubling, with jitter, far below the gateway's 120 s."""
        # Said when it begins and when it becomes something worse, not at every poll.
        if self.state is not PollState.DEGRADED or (loud and self.detail != why):
            write = self._log.error if loud else self._log.warning
            write("polling_degraded", agent_id=self._agent_id, detail=why)
        self.state = PollState.DEGRADED
        self.detail = why
        self._failures += 1
        longest = min(
            self._pace.last_backoff_seconds, self._pace.first_backoff_seconds * 2 ** min(self._failures - 1, 10)
        )
        return float(longest * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret

    def _report_gap(self, why: str) -> tuple[Item, ...]:
        """Return a gap for the log; it is told of when it stands there."""
        self._gap_detail = why
        return (GapReason.POLL_REPLY_LOST,)
