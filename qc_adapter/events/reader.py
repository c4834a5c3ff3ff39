"""
Keeps one inspector's sign-in alive and brings its events into the log, as long as this replica has the lease.

Where the adapter polls, a poll does both: it takes the event away from the gateway, is the heartbeat of the sign-in,
and brings the next GUID (cec_07_1274). Where the gateway pushes, a heartbeat every half minute does the rest
(cec_07_1204). So the reader goes on through every failure that is not the end of the session, and says when an event
may be lost. What a reply brought is stored before the next request goes out, however long that takes.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

import structlog

from qc_adapter.events.backlog import Backlog
from qc_adapter.events.crowd import CrowdLog
from qc_adapter.events.leases import LeaseLost, PollState, SessionGone, Step
from qc_adapter.events.model import GapReason
from qc_adapter.events.polling import POLL_SPARE_SECONDS, Brought, CountsEvents, Polling, Polls
from qc_adapter.events.turns import Turns
from qc_adapter.model.errors import (
    GatewayMisconfigured,
    GatewayRefused,
    GatewayUnavailable,
    OutcomeUnknown,
    PollFailed,
    SessionUnreadable,
    StoreUnavailable,
)
from qc_adapter.model.inspector import gateway_of
from qc_adapter.model.session import EventSource

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from qc_adapter.events.crowd import Level
    from qc_adapter.events.leases import Lease
    from qc_adapter.model.session import Renewal, Session

T = TypeVar("T")

#: 000-003 may be a GUID that is just being renewed: bear it this often in a row (cec_07_1274, public clients).
BORNE_REFUSALS: Final = 5
GUID_REFUSED: Final = "000-003"
#: The gateway says that the sign-in is over.
SIGNED_OUT: Final = frozenset({"100-006", "100-008", "105-005", "105-006", "105-007"})
#: Another node takes over, or the platform behind the gateway is away: the sign-in lives on.
PASSING: Final = frozenset({"000-004", "105-002", "100-003", "900-001", "000-007"})
#: There is nothing to read any more.
ENDED: Final = frozenset({PollState.LOST, PollState.RECOVERING})

_NOTHING: Final = Brought()
_BESIDE_REFUSAL: Final = Brought((GapReason.POLL_REPLY_LOST,), "a refusal came with an event")


class Reads(Polls, Protocol):
    """The part of the gateways that a reader needs."""

    async def heartbeat(self, session: Session) -> Renewal | None: ...


class Counts(CountsEvents, Protocol):
    """What a reader counts."""

    def gap(self, gateway: str, reason: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds between polls and between heartbeats, of the gateway's hold, and of the pauses after failures."""

    pause_seconds: float = 0.2
    hold_seconds: float = 10.0
    heartbeat_seconds: float = 30.0
    first_backoff_seconds: float = 0.5
    last_backoff_seconds: float = 5.0
    misconfigured_seconds: float = 15.0
    #: The store is asked more often: a reply in hand waits for it, and with it the sign-in.
    store_backoff_seconds: float = 1.0
    #: First polls of all inspectors, and polls after failures of those of one gateway: 20,000 take turns for ten
    #: seconds, as their polls do from then on.
    turns_a_second: float = 2000.0
    #: So many polls may be open at once at each gateway.
    most_polls: int = 20_000


@dataclass(frozen=True, slots=True)
class Company:
    """What the readers of one gateway share."""

    turns: Turns
    log: CrowdLog


class Reader:
    """
    Reads for one inspector until its session ends, the lease is gone or handed back, or the task is cancelled.

    A reply that comes at once may bring an event that waited in the gateway's queue since nobody polled: it says since
    when the queue may have filled, so that an old event proves nothing about a new command. `cut_off` says that a poll
    of the reader before may be held on. The first poll is sent after `begin_after_seconds`.
    """

    def __init__(
        self,
        lease: Lease,
        *,
        gateway: Reads,
        counts: Counts,
        pace: Pace,
        company: Company | None = None,
        cut_off: bool = False,
        polled_ago_seconds: float | None = None,
        begin_after_seconds: float = 0.0,
    ) -> None:
        self._lease = lease
        self._agent_id = lease.agent_id
        self._gateway = gateway
        self._counts = counts
        self._pace = pace
        self._failures = 0
        self._refusals = 0
        self._polling = Polling(
            lease.agent_id,
            gateway=gateway,
            counts=counts,
            hold_seconds=pace.hold_seconds,
            backlog=Backlog(pace.pause_seconds, polled_ago_seconds),
            cut_off=cut_off,
        )
        self._company = company or Company(Turns(pace.turns_a_second), CrowdLog())
        self._begin_after_seconds = begin_after_seconds
        self._leaving = False
        #: The pause between two polls, while there is one.
        self._pausing: asyncio.Future[None] | None = None
        self._used: Session | None = None
        self._log = structlog.get_logger()
        self.state = PollState.STARTING
        self.detail = ""
        #: When the gateway last answered a poll or heartbeat, also of another replica, on the monotonic clock.
        self.answered_at = time.monotonic() - (polled_ago_seconds or 0.0)

    @property
    def _source(self) -> str:
        return "" if self._used is None else self._used.event_source.value

    @property
    def polling(self) -> bool:
        """Whether the gateway has a poll of ours now."""
        return self._polling.under_way

    @property
    def lease(self) -> Lease:
        """The right to read."""
        return self._lease

    @property
    def leaving(self) -> bool:
        """Whether the lease is handed back after this poll."""
        return self._leaving

    def leave(self) -> None:
        """Hand the lease back once the poll that is under way has ended: to cancel it would lose its event."""
        self._leaving = True
        if self._pausing is not None:
            _end(self._pausing)

    async def run(self) -> str:
        """Read; return why it is over: released, fenced, session_gone, session_lost or parked."""
        try:
            return await self._run()
        except SessionGone:
            return "session_gone"
        except LeaseLost:
            return "fenced"

    async def _run(self) -> str:
        if self._begin_after_seconds:
            await self._pause(self._begin_after_seconds)
        while not self.leaving or self._polling.doubtful:
            try:
                session = await self._patiently(self._session)
            except SessionUnreadable as failure:
                self._log.warning("session_unreadable", agent_id=self._agent_id, detail=failure.message)
                if failure.key:  # others can read it
                    await self._patiently(self._lease.release)
                    return "released"
                self.state, self.detail = PollState.LOST, failure.message
                await self._patiently(lambda: self._lease.park(self.detail))
                return "parked"
            if session is None:
                return "session_gone"
            if session.event_source is EventSource.NONE or session.recovering:
                await self._patiently(self._lease.park)
                return "parked"
            self._used = session
            pushed = session.event_source is EventSource.PUSH
            pause = await (self._beat(session) if pushed else self._poll(session))
            if pause is None:
                return "session_lost"
            await self._pause(pause)
            if self._failures and (seconds := self._company.turns.take()):
                await self._pause(seconds)  # many may have failed at once
        await self._settle_doubt()
        await self._patiently(self._lease.release)
        return "released"

    async def _session(self) -> Session | None:
        return await self._lease.session(self._pace.hold_seconds + POLL_SPARE_SECONDS)

    async def _poll(self, session: Session) -> float | None:
        """Poll once. Returns the seconds to pause, or None when the session is over."""
        try:
            reply = await self._polling.poll(session)
        except PollFailed as failure:
            self._degraded(failure.message)
            await self._keep(session, failure.renewal, self._polling.failed(failure))
            return self._backoff()
        except (GatewayRefused, GatewayUnavailable, GatewayMisconfigured) as failure:
            return await self._unanswered(session, failure)
        self._answered()
        await self._keep(session, reply.renewal, self._polling.answered(reply))
        return self._pace.pause_seconds

    async def _beat(self, session: Session) -> float | None:
        """Send one heartbeat. Returns the seconds to pause, or None when the session is over."""
        try:
            renewal = await self._gateway.heartbeat(session)
        except OutcomeUnknown as failure:
            self._degraded(failure.message)
            await self._keep(session, failure.renewal)
            return self._backoff()
        except (GatewayRefused, GatewayUnavailable, GatewayMisconfigured) as failure:
            return await self._unanswered(session, failure)
        self._answered()
        stored = await self._keep(session, renewal)
        # Another system may have changed how its events come: then they wait in the gateway's queue.
        pushed = stored.event_source is EventSource.PUSH
        # From the answer on: while the store was away the next one has become due.
        due = self.answered_at + self._pace.heartbeat_seconds - time.monotonic()
        return max(due, self._pace.pause_seconds) if pushed else self._pace.pause_seconds

    async def _unanswered(
        self, session: Session, failure: GatewayRefused | GatewayUnavailable | GatewayMisconfigured
    ) -> float | None:
        if isinstance(failure, GatewayRefused):
            return await self._refused(session, failure)
        misconfigured = isinstance(failure, GatewayMisconfigured)
        self._degraded(failure.message, loud=misconfigured)
        await self._keep(session, None)
        return self._backoff(self._pace.misconfigured_seconds if misconfigured else None)

    async def _settle_doubt(self) -> None:
        brought = self._polling.settled()
        if brought.items and self._used is not None:
            await self._keep(self._used, None, brought)

    async def _keep(self, used: Session, renewal: Renewal | None, brought: Brought = _NOTHING) -> Session:
        """
        Store what a reply brought; returns what is stored then, and raises `SessionGone` if nothing is.

        However long the store is away: the events and the GUID exist nowhere else, and the next request waits.
        """
        step = Step(used, renewal, brought.items, self.state, self.detail)
        try:
            kept = await self._patiently(lambda: self._lease.keep(step))
        except SessionUnreadable:
            kept = used  # it is kept; the next look at the session says what is wrong
        for item in brought.items:
            if isinstance(item, GapReason):
                self._counts.gap(gateway_of(self._agent_id), item.lower())
                self._say("warning", "event_gap", brought.gap)
        if kept is None:
            raise SessionGone
        return kept

    async def _refused(self, session: Session, refusal: GatewayRefused) -> float | None:
        ends = refusal.retcode in SIGNED_OUT
        lost = _BESIDE_REFUSAL if refusal.event_may_be_lost else _NOTHING
        if not ends and refusal.retcode != GUID_REFUSED:
            self._degraded(refusal.message, loud=refusal.retcode not in PASSING)
            await self._keep(session, refusal.renewal, lost)
            return self._backoff()
        self._refusals += 1
        stored = await self._keep(session, refusal.renewal, lost)
        if stored.guid != session.guid:
            return self._pace.pause_seconds  # the GUID was renewed while the poll was on its way
        if not ends and self._refusals < BORNE_REFUSALS:
            self._degraded(refusal.message)
            return self._pace.first_backoff_seconds
        ended = await self._patiently(lambda: self._lease.end(session, refusal.retcode, refusal.message))
        if ended is None:
            return self._pace.pause_seconds
        self.state, self.detail = ended, refusal.message
        if ended is PollState.RECOVERING:
            # It stands before what comes first of the next sign-in.
            self._counts.gap(gateway_of(self._agent_id), GapReason.TAKEOVER.lower())
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
        """Wait so long, or until the lease is to be handed back; with that in mind already, wait all the same."""
        if not seconds:
            await asyncio.sleep(0)  # without a timer; others have their turn all the same
            return
        loop = asyncio.get_running_loop()
        pausing: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(seconds, _end, pausing)
        self._pausing = None if self._leaving else pausing
        try:
            await pausing
        finally:
            timer.cancel()
            self._pausing = None

    def _answered(self) -> None:
        self._failures = self._refusals = 0
        if self.state is PollState.DEGRADED:
            self._say("info", "polling_recovered", event_source=self._source)
        elif self.state is PollState.STARTING:
            self._say("info", "polling_started", event_source=self._source)
        self.state = PollState.ACTIVE
        self.detail = ""
        self.answered_at = time.monotonic()

    def _degraded(self, why: str, *, loud: bool = False) -> None:
        """Note a failure."""
        # Said when it begins and when it becomes something worse, not at every poll.
        if self.state is not PollState.DEGRADED or (loud and self.detail != why):
            self._say("error" if loud else "warning", "polling_degraded", why, event_source=self._source)
        self.state = PollState.DEGRADED
        self.detail = why

    def _backoff(self, seconds: float | None = None) -> float:
        """
        Count a failure; return the seconds to wait after it, by default doubling with jitter.

        With the turn that is waited for after that it is far below the gateway's 120 s.
        """
        self._failures += 1
        if seconds is None:
            pace = self._pace
            longest = pace.first_backoff_seconds * 2.0 ** min(self._failures - 1, 10)
            seconds = min(pace.last_backoff_seconds, longest) * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
        return seconds

    def _say(self, level: Level, event: str, detail: str = "", **fields: str) -> None:
        if detail:
            fields["detail"] = detail
        self._company.log.write(level, event, self._agent_id, **fields)


def _end(pausing: asyncio.Future[None]) -> None:
    if not pausing.done():
        pausing.set_result(None)
