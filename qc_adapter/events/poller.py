"""
Reads one inspector's events from the gateway: poll, keep what came, pause, poll again.

A poll takes the event away from the gateway, is the heartbeat of the sign-in, and brings the next GUID (cec_07_1274).
So the poller goes on through every failure that is not the end of the session, and says when an event may be lost.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from qc_adapter.events.model import GapReason
from qc_adapter.events.translate import translate
from qc_adapter.model.errors import (
    GatewayMisconfigured,
    GatewayRefused,
    GatewayUnavailable,
    NotSignedIn,
    PollFailed,
    SessionLost,
    SessionUnreadable,
    StoreUnavailable,
)
from qc_adapter.model.session import EventSource

if TYPE_CHECKING:
    from collections.abc import Callable

    from qc_adapter.events.feed import Feed
    from qc_adapter.gateway.client import PollReply
    from qc_adapter.gateway.envelope import RawEvent
    from qc_adapter.model.session import Renewal, Secret, Session

#: 000-003 may be a GUID that is just being renewed: bear it this often in a row (cec_07_1274, public clients).
BORNE_REFUSALS: Final = 5
GUID_REFUSED: Final = "000-003"
#: The gateway says that the sign-in is over.
SIGNED_OUT: Final = frozenset({"100-006", "100-008", "105-005", "105-006", "105-007"})
#: Another node takes over, or the platform behind the gateway is away: the sign-in lives on.
PASSING: Final = frozenset({"000-004", "105-002", "100-003", "900-001", "000-007"})


class PollState(Enum):
    """What a poller knows of its session."""

    STARTING = "starting"
    ACTIVE = "active"
    DEGRADED = "degraded"
    LOST = "lost"


@dataclass(slots=True)
class PollStatus:
    """How polling goes. `answered_at` is on the monotonic clock, `answered_time` seconds since the epoch."""

    state: PollState
    answered_at: float
    answered_time: float = 0.0
    detail: str = ""


class Polls(Protocol):
    """The part of the gateway client that a poller needs."""

    async def poll(self, session: Session, *, hold_seconds: float) -> PollReply: ...


class Sessions(Protocol):
    """The part of the session store that a poller needs."""

    async def get(self, agent_id: str) -> Session | None: ...

    async def renew(self, agent_id: str, used: Secret, renewal: Renewal) -> Session | None: ...


class Counts(Protocol):
    """What a poller counts."""

    def event_read(self, event_type: str) -> None: ...

    def event_foreign(self) -> None: ...

    def gap(self, reason: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds between polls, of the gateway's hold, and of the pauses after failures."""

    pause_seconds: float = 0.2
    hold_seconds: float = 10.0
    first_backoff_seconds: float = 0.5
    last_backoff_seconds: float = 5.0
    misconfigured_seconds: float = 15.0


class Poller:
    """Polls for one inspector until its session ends or the task is cancelled."""

    def __init__(
        self, agent_id: str, *, gateway: Polls, sessions: Sessions, feed: Feed, counts: Counts, pace: Pace
    ) -> None:
        self._agent_id = agent_id
        self._gateway = gateway
        self._sessions = sessions
        self._feed = feed
        self._counts = counts
        self._pace = pace
        self._failures = 0
        self._refusals = 0
        self._log = structlog.get_logger()
        self.status = PollStatus(PollState.STARTING, time.monotonic())
        self.lost_guid: Secret | None = None
        #: The inspector is just being signed out: the end of the session is wanted.
        self.leaving = False

    async def run(self) -> None:
        """Poll until the session is gone from the store, is not polled any more, or is lost at the gateway."""
        while True:
            try:
                session = await self._sessions.get(self._agent_id)
            except (StoreUnavailable, SessionUnreadable) as failure:
                await asyncio.sleep(self._degraded(failure.message))
                continue
            if session is None:
                self._feed.end(NotSignedIn(self._agent_id))
                return
            if session.event_source is not EventSource.POLL:
                return
            pause = await self._step(session)
            if pause is None:
                return
            await asyncio.sleep(pause)

    async def _step(self, session: Session) -> float | None:
        """Poll once. Returns the seconds to pause, or None when the session is lost."""
        try:
            reply = await self._gateway.poll(session, hold_seconds=self._pace.hold_seconds)
        except GatewayRefused as refusal:
            await self._renew(session, refusal.renewal)
            return await self._refused(session, refusal)
        except PollFailed as failure:
            await self._renew(session, failure.renewal)
            if failure.event_may_be_lost:
                self._report_gap(failure.message)
            return self._degraded(failure.message)
        except GatewayUnavailable as failure:
            return self._degraded(failure.message)
        except GatewayMisconfigured as failure:
            self._degraded(failure.message, loud=True)
            return self._pace.misconfigured_seconds
        await self._renew(session, reply.renewal, meanwhile=lambda: self._keep(reply))
        self._answered()
        return self._pace.pause_seconds

    def _keep(self, reply: PollReply) -> None:
        received_at = time.time()
        for raw in reply.events:
            self._counts.event_read(raw.event_type)
            if raw.work_no not in (self._agent_id, ""):
                self._foreign(raw)
            else:
                # Some events are documented without a workNo: a poll is for one inspector, so they are its own.
                event = translate(raw, received_at)
                self._feed.append(event if event.work_no else replace(event, work_no=self._agent_id))
        if reply.event_may_be_lost:
            self._report_gap("a part of the reply could not be read")

    def _foreign(self, raw: RawEvent) -> None:
        self._counts.event_foreign()
        self._log.warning(
            "foreign_event_dropped", agent_id=self._agent_id, work_no=raw.work_no, event_type=raw.event_type
        )

    async def _renew(
        self, session: Session, renewal: Renewal | None, meanwhile: Callable[[], None] = lambda: None
    ) -> None:
        """
        Store what the reply brought, then let its events out.

        The GUID goes first: whoever acts on an event finds it. When the store is away the events do not wait for it,
        but the next poll does.
        """
        waited = False
        while renewal is not None:
            try:
                await self._sessions.renew(self._agent_id, session.guid, renewal)
            except (StoreUnavailable, SessionUnreadable) as failure:
                if not waited:
                    waited = True
                    meanwhile()
                await asyncio.sleep(self._degraded(failure.message))
            else:
                break
        if not waited:
            meanwhile()

    async def _refused(self, session: Session, refusal: GatewayRefused) -> float | None:
        if refusal.retcode == GUID_REFUSED or refusal.retcode in SIGNED_OUT:
            if await self._newer(session):
                return self._pace.pause_seconds
            self._refusals += 1
            if refusal.retcode in SIGNED_OUT or self._refusals >= BORNE_REFUSALS:
                if not self.leaving:
                    self._lost(session, refusal)
                return None
            self._degraded(refusal.message)
            return self._pace.first_backoff_seconds
        return self._degraded(refusal.message, loud=refusal.retcode not in PASSING)

    async def _newer(self, session: Session) -> bool:
        """Whether the store has another GUID than the one that was refused, or no session any more."""
        while True:
            try:
                stored = await self._sessions.get(self._agent_id)
            except (StoreUnavailable, SessionUnreadable) as failure:
                await asyncio.sleep(self._degraded(failure.message))
            else:
                return stored is None or stored.guid != session.guid

    def _answered(self) -> None:
        self._failures = self._refusals = 0
        if self.status.state is PollState.DEGRADED:
            self._log.info("polling_recovered", agent_id=self._agent_id)
        elif self.status.state is PollState.STARTING:
            self._log.info("polling_started", agent_id=self._agent_id)
        self.status.state = PollState.ACTIVE
        self.status.detail = ""
        self.status.answered_at = time.monotonic()
        self.status.answered_time = time.time()

    def _degraded(self, why: str, *, loud: bool = False) -> float:
        """Note a failure. Returns the seconds to wait: doubling, with jitter, far below the gateway's 120 s."""
        # Said when it begins and when it becomes something worse, not at every poll.
        if self.status.state is not PollState.DEGRADED or (loud and self.status.detail != why):
            write = self._log.error if loud else self._log.warning
            write("polling_degraded", agent_id=self._agent_id, detail=why)
        self.status.state = PollState.DEGRADED
        self.status.detail = why
        self._failures += 1
        longest = min(
            self._pace.last_backoff_seconds, self._pace.first_backoff_seconds * 2 ** min(self._failures - 1, 10)
        )
        return float(longest * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret

    def _report_gap(self, why: str) -> None:
        self._counts.gap(GapReason.POLL_REPLY_LOST.lower())
        entry = self._feed.append_gap(GapReason.POLL_REPLY_LOST)
        self._log.warning("event_gap", agent_id=self._agent_id, detail=why, cursor=entry.cursor)

    def _lost(self, session: Session, refusal: GatewayRefused) -> None:
        self.lost_guid = session.guid
        self.status.state = PollState.LOST
        self.status.detail = refusal.message
        self._log.warning("session_lost", agent_id=self._agent_id, retcode=refusal.retcode)
        self._feed.end(SessionLost(self._agent_id, refusal.retcode))
