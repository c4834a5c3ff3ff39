"""Keeps one reader running for every lease that this replica holds."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from qc_adapter.events import reader as reading
from qc_adapter.events.census import Census, parts
from qc_adapter.events.crowd import CrowdLog
from qc_adapter.events.leases import LeaseLost, PollState, Taken
from qc_adapter.events.model import GapReason
from qc_adapter.events.reader import Company, Pace, Reader, Reads
from qc_adapter.events.turns import Turns
from qc_adapter.model.errors import StoreUnavailable
from qc_adapter.model.inspector import gateway_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qc_adapter.events.crowd import Level
    from qc_adapter.events.leases import Claim, Lease, PollStatus, Rota
    from qc_adapter.model.session import Session

#: Between two looks at the book; a free lease is told of at once.
_BEAT_SECONDS: Final = 0.5
#: Many leases that become free one after the other are claimed together.
_CLAIM_PAUSE_SECONDS: Final = 0.02
_LOST_CHECK_SECONDS: Final = 5.0
_LAST_WORDS_SECONDS: Final = 2.0


class Counts(reading.Counts, Protocol):
    """What the readers count."""

    def leases_held(self, counts: Mapping[str, int]) -> None: ...

    def sessions_unread(self, counts: Mapping[str, int]) -> None: ...

    def lease_changed(self, gateway: str, reason: str) -> None: ...


class Readers:
    """Claims leases, polls with each of them, and hands over what others should have."""

    def __init__(self, *, gateway: Reads, rota: Rota, counts: Counts, pace: Pace) -> None:
        self._gateway = gateway
        self._rota = rota
        self._counts = counts
        self._pace = pace
        self._reading: dict[str, Reader] = {}
        self._leases: dict[str, Lease] = {}
        self._tasks: dict[str, asyncio.Task[str]] = {}
        self._superseded: set[asyncio.Task[str]] = set()
        #: Leases whose reader ended in the middle of a poll, to be given up when the store can be reached.
        self._cut_off: deque[Lease] = deque()
        #: Inspectors whose session this replica saw end, lost or recovering.
        self._lost: dict[str, PollState] = {}
        self._loops: list[asyncio.Task[None]] = []
        self._wanted = asyncio.Event()
        #: How many leases there are by gateway.
        self._held: Counter[str] = Counter()
        self._claiming = True
        self._blind = False
        self._crowd = CrowdLog()
        self._companies: dict[str, Company] = {}
        #: For first polls, of all gateways together: as they begin, they come back, and all of them are ours to answer.
        self._first_turns = Turns(pace.turns_a_second)
        #: Who has just signed in here: they do not take turns with those who were found in the store.
        self._fresh: set[str] = set()
        self._census = Census()
        #: Gateways with more inspectors than polls may be open at once.
        self._crowded: set[str] = set()
        self._log = structlog.get_logger()

    def start(self) -> None:
        """Begin to claim and to poll."""
        loops = {"leases": self._beat_always(), "scan": self._scan_always(), "lost sessions": self._look_at_the_lost()}
        self._loops = [asyncio.create_task(loop, name=name) for name, loop in loops.items()]

    async def hand_over(self, timeout_seconds: float) -> None:
        """Let the other replicas have all leases, each when its poll has ended; return when they have them."""
        if not self._rota.shared:
            return  # nobody would poll on
        self._claiming = False
        self.wake()
        for reader in self._reading.values():
            reader.leave()
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=timeout_seconds)

    async def stop(self) -> None:
        """Stop polling, wait until every reader has ended, and give up the leases that are left."""
        tasks = [*self._loops, *self._tasks.values(), *self._superseded]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._loops:
            with contextlib.suppress(StoreUnavailable, TimeoutError):
                async with asyncio.timeout(_LAST_WORDS_SECONDS):
                    await self._abandon()
                    await self._rota.beat([], claiming=False)  # we have no share any more
        self._loops = []
        self._crowd.sum_up(all_of_them=True)

    def wake(self) -> None:
        """Look for free leases now."""
        self._wanted.set()

    def revoked(self, agent_id: str, holder: str = "") -> None:
        """Stop polling at once: that lease was taken away, or whichever there is."""
        task = self._tasks.get(agent_id)
        if task is not None and holder in {"", self._reading[agent_id].lease.holder}:
            task.cancel()

    async def notice(self, session: Session) -> None:
        """Poll for this session, if it is to be polled: it is still there after all."""
        await self._enlist(session.agent_id, Taken.NOT)

    async def replaced(self, session: Session) -> None:
        """
        Poll for a session that took the place of another one.

        A poll that is still held for the older sign-in would keep the new one waiting; what it may have taken away
        is a gap.
        """
        await self._enlist(session.agent_id, Taken.REPLACED)

    async def adopted(self, session: Session) -> None:
        """Poll with another GUID, which may be of the same sign-in at the gateway or of another one."""
        await self._enlist(session.agent_id, Taken.REVOKED)

    async def leaving(self, agent_id: str) -> None:
        """Expect the end of a session that is just being signed out; `forget` or `notice` follows."""
        await self._rota.leaving(agent_id)

    async def forget(self, agent_id: str) -> None:
        """Stop polling for an inspector who signed out, and end the streams."""
        self.revoked(agent_id)
        try:
            await self._rota.retire(agent_id)
        except StoreUnavailable as failure:
            self._put_off(agent_id, failure)

    async def statuses(self, agent_ids: Sequence[str]) -> dict[str, PollStatus]:
        """Return how polling goes for each inspector, on whatever replica; without the store, for none."""
        try:
            return await self._rota.statuses(agent_ids)
        except StoreUnavailable:
            return {}

    def counts(self) -> Counter[tuple[str, str]]:
        """Return how many sessions of each gateway are in each state: what is wrong, else what the inspector does."""
        census = Census()
        census.add(self._reading.items())
        census.lost(self._lost)
        return census.states

    def counted(self) -> Mapping[tuple[str, str], int]:
        """Return the same, at the last census."""
        return self._census.states

    def oldest_poll_seconds(self, gateway: str) -> float:
        """Return the age of the poll at a gateway that was the oldest answered one at the last census."""
        return self._census.oldest_poll_seconds(gateway)

    async def take_census(self) -> None:
        """
        Count all sessions by state, for the metrics.

        With 20,000 that takes long. So calls and polls go on in between.
        """
        census = Census()
        for part in parts(list(self._reading.items())):
            census.add(part)
            await asyncio.sleep(0)
        census.lost(self._lost)
        self._census = census

    async def _enlist(self, agent_id: str, taken: Taken) -> None:
        if taken is not Taken.NOT:
            self.revoked(agent_id)
        self._fresh.add(agent_id)
        try:
            await self._rota.enlist(agent_id, taken)
        except StoreUnavailable as failure:
            self._put_off(agent_id, failure)
        self.wake()

    def _put_off(self, agent_id: str, failure: StoreUnavailable) -> None:
        # The scan finds it when the store is back.
        self._log.warning("session_change_noticed_later", agent_id=agent_id, detail=failure.message)

    async def _beat_always(self) -> None:
        while True:
            self._wanted.clear()
            try:
                await self._beat()
            except StoreUnavailable as failure:
                if not self._blind:
                    self._blind = True
                    self._log.warning("leases_not_renewed", detail=failure.message)
            except Exception as defect:  # noqa: BLE001 - without this loop nobody is polled for any more
                self._log.error("look_failed", exc_info=defect)
            await self._stop_expired()
            self._crowd.sum_up()
            try:
                async with asyncio.timeout(_BEAT_SECONDS):
                    await self._wanted.wait()
                    await asyncio.sleep(_CLAIM_PAUSE_SECONDS)
            except TimeoutError:
                continue

    async def _abandon(self) -> None:
        while self._cut_off:
            with contextlib.suppress(LeaseLost):  # somebody has it already
                await self._cut_off[0].abandon()
            self._cut_off.popleft()  # others may have been added meanwhile, behind it

    async def _beat(self) -> None:
        await self._abandon()
        beat = await self._rota.beat(list(self._leases.values()), claiming=self._claiming)
        if self._blind:
            self._blind = False
            self._log.info("leases_renewed_again")
        for agent_id in beat.lost:  # before the claims: one of them may be for the same inspector
            self.revoked(agent_id)
        for claim in beat.claims:
            self._start(claim)
        if beat.claims:
            self.wake()  # there may be more than are handed out at once
        else:
            self._fresh.clear()  # whoever is left has a reader elsewhere
        self._count_crowded()
        if len(self._reading) > beat.share:
            staying = [reader for reader in self._reading.values() if not reader.leaving]
            for reader in staying[beat.share :]:
                reader.leave()
        self._counts.leases_held(self._held)

    def _count_crowded(self) -> None:
        """Say at which gateways there are more inspectors than polls may be open: some poll late, or not at all."""
        for gateway, held in self._held.items():
            if held <= self._pace.most_polls:
                self._crowded.discard(gateway)
            elif gateway not in self._crowded:
                self._crowded.add(gateway)
                detail = f"{held} inspectors share {self._pace.most_polls} polls: another replica, or fewer sign-ins"
                self._log.error("too_many_inspectors", gateway=gateway, detail=detail)

    async def _stop_expired(self) -> None:
        """End polls that the gateway holds longer than we may wait: another replica may poll by now."""
        if not self._rota.shared:
            return  # nobody else does
        for part in parts(list(self._reading.items())):
            for agent_id, reader in part:
                if reader.polling and reader.lease.remaining_seconds <= 0 and self._reading.get(agent_id) is reader:
                    self.revoked(agent_id)
            await asyncio.sleep(0)

    def _start(self, claim: Claim) -> None:
        agent_id = claim.lease.agent_id
        if (older := self._tasks.get(agent_id)) is not None:
            older.cancel()
            self._held[gateway_of(agent_id)] -= 1
            self._superseded.add(older)
            older.add_done_callback(self._superseded.discard)
        self._lost.pop(agent_id, None)
        if claim.forced:
            self._counts.gap(gateway_of(agent_id), GapReason.TAKEOVER.lower())
        company, fresh = self._company(gateway_of(agent_id)), agent_id in self._fresh
        self._fresh.discard(agent_id)
        reader = Reader(
            claim.lease,
            gateway=self._gateway,
            counts=self._counts,
            pace=self._pace,
            company=company,
            cut_off=claim.cut_off,
            polled_ago_seconds=claim.polled_ago_seconds,
            begin_after_seconds=0.0 if fresh else self._first_turns.take(),
        )
        self._reading[agent_id] = reader
        self._leases[agent_id] = claim.lease
        self._held[gateway_of(agent_id)] += 1
        self._changed(agent_id, "taken_over" if claim.forced else "won")
        task = asyncio.create_task(reader.run(), name=f"reader {agent_id}")
        self._tasks[agent_id] = task
        task.add_done_callback(lambda done: self._ended(agent_id, reader, done))
        if not self._claiming:
            reader.leave()  # it was on its way when we began to leave

    def _company(self, gateway: str) -> Company:
        company = self._companies.get(gateway)
        if company is None:
            company = self._companies[gateway] = Company(Turns(self._pace.turns_a_second), self._crowd)
        return company

    def _ended(self, agent_id: str, reader: Reader, task: asyncio.Task[str]) -> None:
        if self._tasks.get(agent_id) is task:
            del self._tasks[agent_id]
            del self._reading[agent_id], self._leases[agent_id]
            self._held[gateway_of(agent_id)] -= 1
        if task.cancelled():
            self._cut_off.append(reader.lease)
            self._changed(agent_id, "revoked")
        elif (failure := task.exception()) is not None:
            self._log.error("reader_failed", agent_id=agent_id, exc_info=failure)
            self._cut_off.append(reader.lease)
            self._changed(agent_id, "revoked")
        else:
            if reader.state in reading.ENDED:
                self._lost[agent_id] = reader.state
            self._changed(agent_id, task.result())
        self._counts.leases_held(self._held)

    def _changed(self, agent_id: str, reason: str) -> None:
        self._counts.lease_changed(gateway_of(agent_id), reason)
        level: Level = "warning" if reason in {"taken_over", "fenced", "session_lost"} else "info"
        self._crowd.write(level, "lease_changed", agent_id, kind=reason, reason=reason, held=len(self._reading))

    async def _scan_always(self) -> None:
        blind = False
        while True:
            unread: Mapping[str, int] = {}
            try:
                unread = await self._rota.scan()
                blind = False
            except StoreUnavailable as failure:
                if not blind:
                    blind = True
                    self._log.warning("sessions_not_listed", detail=failure.message)
            except Exception as defect:  # noqa: BLE001 - without this loop no new session is noticed any more
                self._log.error("look_failed", exc_info=defect)
            self._counts.sessions_unread(unread)
            await asyncio.sleep(_BEAT_SECONDS)

    async def _look_at_the_lost(self) -> None:
        """Forget those whose session came back, perhaps to another replica."""
        while True:
            await asyncio.sleep(_LOST_CHECK_SECONDS)
            lost = sorted(self._lost)
            with contextlib.suppress(StoreUnavailable):
                known = await self._rota.statuses(lost)
                for agent_id in lost:
                    status = known.get(agent_id)
                    if status is not None and status.state in reading.ENDED:
                        self._lost[agent_id] = status.state
                    else:
                        self._lost.pop(agent_id, None)
