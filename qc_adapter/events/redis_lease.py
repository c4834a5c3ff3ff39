"""One lease in Redis: the right to poll for an inspector, as long as its fencing token is the last one."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import structlog

from qc_adapter.events import lease_scripts, log_scripts
from qc_adapter.events.activity import Activity, activity
from qc_adapter.events.feed import fresh_epoch
from qc_adapter.events.leases import LeaseLost, PollState, SessionGone
from qc_adapter.events.model import GapReason
from qc_adapter.events.standing import Standing
from qc_adapter.events.stored import from_inspection, from_standing, to_call_ids, to_line, to_standing
from qc_adapter.model.errors import SessionUnreadable
from qc_adapter.model.session import EventSource
from qc_adapter.sessions.changes import Teller
from qc_adapter.sessions.orders import LONGEST_PAUSE_SECONDS, QUIET_SECONDS, TOLD_PAUSE_SECONDS
from qc_adapter.sessions.record import mark_of
from qc_adapter.sessions.records import Records
from qc_adapter.store import keys
from qc_adapter.store.generation import Generation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qc_adapter.events.inspection import Inspection
    from qc_adapter.events.leases import Step
    from qc_adapter.events.model import Item
    from qc_adapter.events.quiet_polls import QuietPolls
    from qc_adapter.model.session import Session
    from qc_adapter.sessions.changes import Changes
    from qc_adapter.store.link import RedisLink

#: An empty Redis may be followed by another one; more often than that something else is wrong.
_RESTORATIONS: Final = 3
#: A whole step also drops what is too old in the log.
_LONGEST_QUIET_SECONDS: Final = 60.0


class Mirrors(Protocol):
    """Is told what this replica itself added to a log, so that it need not read it back."""

    def adding(self, agent_id: str, lines: Sequence[bytes], items: Sequence[Item]) -> None: ...

    def added(self, agent_id: str, epoch: str, before: int, items: Sequence[Item]) -> None: ...


@dataclass(frozen=True, slots=True)
class LeaseTerms:
    """
    How leases and logs are kept.

    `replica` is this process's name among the others. A replica that was silent for `gone_seconds` has no share any
    more. After a time without any replica, holders have `respite_seconds` to renew before others take over.
    """

    replica: str
    lease_seconds: float = 30.0
    gone_seconds: float = 3.0
    respite_seconds: float = 3.0
    capacity: int = 1000
    retention_seconds: float = 600.0
    #: So long may all replicas that have a key be away: time to start them, or to put a key back.
    abandoned_seconds: float = 300.0

    @property
    def lease_ms(self) -> int:
        """The life of a lease."""
        return int(self.lease_seconds * 1000)

    @property
    def retention_ms(self) -> int:
        """How long entries are kept."""
        return int(self.retention_seconds * 1000)


@dataclass(frozen=True, slots=True)
class Book:
    """Where leases and logs are kept, on which terms, who is told of it, and how records are written."""

    link: RedisLink
    terms: LeaseTerms
    mirrors: Mirrors
    generation: Generation = field(default_factory=Generation)
    records: Records = field(default_factory=Records)
    changes: Changes = field(default_factory=Teller)


class _Said(NamedTuple):
    """What a step left behind, and until when a whole one is to look at it again."""

    likeness: str
    state: PollState
    detail: str
    until: float


class RedisLease:
    """One lease, as long as its token is the last one that was given."""

    def __init__(self, book: Book, quiet: QuietPolls, store: str, claim: Sequence[Any], until: float) -> None:
        """Take a claim as the script `BEAT` returns it; `until` is on the monotonic clock."""
        agent_id, token, forced, position, epoch, talking, record, _, standing, inspection = claim
        self.agent_id: str = agent_id.decode()
        self._link = book.link
        self._quiet = quiet
        self._terms = book.terms
        self._mirrors = book.mirrors
        self._records = book.records
        self._changes = book.changes
        self._store = store
        self._holder = f"{book.terms.replica}:{token}"
        self._position = int(position)
        self._epoch: str = epoch.decode()
        stands, self._inspection = _sum(talking, standing, inspection)
        self._standing = stands.after(GapReason.TAKEOVER) if forced else stands
        #: None stands for a record that cannot be read, an empty one for none.
        self._record: Sequence[bytes] | None = record or None
        #: The record that was read last, and what it says: most steps find the same one.
        self._read: tuple[Sequence[bytes], Session | None] | None = None
        #: The key that it is known to be sealed with, as ours are by now; empty where they are plain.
        self._form: str | None = None
        self._until = until
        #: Tells the steps of this lease from all others: a step that comes again, or late, is known by its number.
        self._name = fresh_epoch()
        self._log = structlog.get_logger()
        self._steps = 0
        self._pending: Step | None = None
        #: What the last whole step said, as long as a poll that brings nothing may leave it at that.
        self._said: _Said | None = None

    @property
    def holder(self) -> str:
        """What stands in Redis for this lease."""
        return self._holder

    @property
    def activity(self) -> Activity:
        """What the inspector does."""
        return activity(self._standing, self._inspection)

    @property
    def store(self) -> str:
        """The name of the data in Redis that it is of."""
        return self._store

    @property
    def until(self) -> float:
        """When it ends, on the monotonic clock."""
        return self._until

    @property
    def remaining_seconds(self) -> float:
        """How long nobody else will poll."""
        return self._until - time.monotonic()

    def extended(self, until: float) -> None:
        """Note that the lease was renewed."""
        self._until = max(self._until, until)

    async def session(self, seconds: float) -> Session | None:
        """Return the session that the last step or claim found."""
        if self.remaining_seconds < seconds:
            until = time.monotonic() + self._terms.lease_seconds
            if await self._link.script(
                "extend", lease_scripts.EXTEND, self._terms.lease_ms, self.agent_id, self._holder
            ):
                await self._restore_or_lose()
            self.extended(until)
        found = self._record
        if found is None:
            raise SessionUnreadable(self.agent_id, f"the key {keys.SESSION}{self.agent_id} holds no session")
        session = self._session(found)
        if session is not None:
            await self._recast()
        return session

    async def _recast(self) -> None:
        """Put the record into our form, where it is not known to be in it."""
        form = self._records.key
        if self._record and self._form != form:
            if change := self._records.to_recast(self.agent_id, self._record):
                self._record = await self._link.script("renew", lease_scripts.RECAST, *change)
            self._form = form

    def _session(self, record: Sequence[bytes]) -> Session | None:
        if self._read is None or self._read[0] != record:
            self._read = record, self._records.read(self.agent_id, record)
            self._form = None
        return self._read[1]

    async def keep(self, step: Step) -> Session | None:
        """Run the poll step; again with the same step it does nothing twice."""
        if step is not self._pending:
            if await self._still(step):
                return step.used
            self._pending = step
            self._steps += 1
        lines = [to_line(item) for item in step.items]
        self._mirrors.adding(self.agent_id, lines, step.items)
        until, reply = await self._stored(step, lines)
        status, epoch, before, record, lost, (talking, standing, inspection), likeness = reply
        self._epoch, self._position = epoch.decode(), int(before) + int(lost) + len(lines)
        # Others may have added to them: what is pushed comes in anywhere.
        self._standing, self._inspection = _sum(talking or b"", standing or b"", inspection or b"")
        self.extended(until)
        if step.items and not lost:
            self._mirrors.added(self.agent_id, self._epoch, int(before), step.items)
        self._record = None if status == b"unreadable" else record
        if likeness and step.state is PollState.ACTIVE:
            self._said = _Said(likeness.decode(), step.state, step.detail, until + _LONGEST_QUIET_SECONDS)
        if status == b"gone":
            return None
        return self._session(record) if status == b"kept" else step.used

    async def _stored(self, step: Step, lines: list[bytes]) -> tuple[float, Any]:
        """Run the script until Redis knows the lease; return until when it is ours, and the reply."""
        stands = functools.reduce(Standing.after, step.items, self._standing)
        changes = self._records.to_changes(self.agent_id, step.renewal) if step.renewal is not None else ()
        for _ in range(_RESTORATIONS):
            until = time.monotonic() + self._terms.lease_seconds
            reply = await self._step(step, stands, changes, lines)
            if reply[0] != b"forgotten":
                break
            await self.restore(step.used.renewed(step.renewal) if step.renewal else step.used)
        if reply[0] in {b"fenced", b"forgotten", b"late"}:
            raise LeaseLost
        return until, reply

    async def _still(self, step: Step) -> bool:
        """Whether the step changes nothing of what the last one said, so that renewing the lease was all of it."""
        said, self._said = self._said, None
        if said is None or step.items or step.renewal is not None:
            return False
        until = time.monotonic() + self._terms.lease_seconds
        if (step.state, step.detail) != (said.state, said.detail) or until > said.until:
            return False
        if await self._quiet.renew(self._store, self.agent_id, self._holder, said.likeness):
            self.extended(until)
            self._said = said
            return True
        return False

    async def _step(self, step: Step, standing: Standing, changes: tuple[str, ...], lines: list[bytes]) -> Any:
        terms = self._terms
        # A heartbeat brings no events: what the inspector does is added up where they come in.
        polled = step.used.event_source is EventSource.POLL
        return await self._link.script(
            "step", log_scripts.STEP, self.agent_id, self._holder, self._store, f"{self._name}/{self._steps}",
            terms.lease_ms, mark_of(step.used.guid.reveal()), self._epoch, self._position, fresh_epoch(),
            terms.capacity, terms.retention_ms, to_call_ids(standing.talking), step.state.value, step.detail,
            to_standing(standing) if polled else "", len(changes), *changes, *lines,
        )  # fmt: skip

    async def restore(self, session: Session) -> None:
        """
        Give a Redis that lost everything the session back, and the lease to ourselves.

        The inspector is still signed in at the gateway, and nobody but the one who polled knows the GUID.
        """
        until = time.monotonic() + self._terms.lease_seconds
        fields = self._records.to_fields(session)
        store, token = await self._link.script(
            "restore", lease_scripts.RESTORE, self.agent_id, self._terms.replica, self._terms.lease_ms, fresh_epoch(),
            *fields,
        )  # fmt: skip
        if not token:
            raise LeaseLost
        self._store = store.decode()
        self._holder = f"{self._terms.replica}:{token}"
        self._record = [part.encode() for part in fields]
        self.extended(until)

    async def restore_known(self, store: str) -> None:
        """Do so with what is known now, if this lease is still of the Redis that was lost."""
        if self._store == store:
            return
        found = self._record
        session = self._session(found) if found else None
        if session is not None:
            await self.restore(session)

    async def _restore_or_lose(self) -> None:
        if not await self._forgotten():
            raise LeaseLost
        await self.restore_known("")

    async def _forgotten(self) -> bool:
        """Whether it was Redis that lost the lease, with everything else."""
        name = await self._link.command("get", "GET", keys.STORE)
        return name is None or name.decode() != self._store

    async def end(self, used: Session, retcode: str, detail: str) -> PollState | None:
        """Note that the gateway ended the session."""
        told, record = await self._park(mark_of(used.guid.reveal()), f"lost {retcode}", detail)
        self._record = record
        if told == b"newer":
            return None
        if told == b"parked":
            raise SessionGone
        if told in {b"lost", b"recovering"}:
            self._log.warning(f"session_{told.decode()}", agent_id=self.agent_id, retcode=retcode, detail=detail)
            self._changes.changed(f"session_{told.decode()}", self.agent_id, retcode)
        return PollState.RECOVERING if told == b"recovering" else PollState.LOST

    async def park(self, unreadable: str = "") -> None:
        """Leave the inspector alone until the record changes; one that is unreadable is told as lost, and why."""
        await self._park("", "", unreadable, _digest(self._record or ()))

    async def release(self) -> None:
        """Let others claim the lease now, with a record that all can read."""
        with contextlib.suppress(SessionUnreadable):
            await self._recast()
        if await self._release(0):
            return
        if await self._forgotten():
            await self.restore_known("")
            await self._release(0)

    async def abandon(self) -> None:
        """Let others take the lease over, which leaves a gap: nobody knows what the last poll brought."""
        await self._release(1)

    async def _release(self, cut_off: int) -> Any:
        return await self._link.script(
            "release", lease_scripts.RELEASE, self.agent_id, self._holder, cut_off, self._epoch, self._position,
            self._terms.capacity, self._terms.retention_ms,
        )  # fmt: skip

    async def _park(self, mark: str, ended: str, detail: str, judged: str = "") -> Any:
        return await self._link.script(
            "park", lease_scripts.PARK, self.agent_id, self._holder, mark, ended, detail,
            int(QUIET_SECONDS * 1000), int(LONGEST_PAUSE_SECONDS * 1000), int(TOLD_PAUSE_SECONDS * 1000),
            judged,
        )  # fmt: skip


def _digest(record: Sequence[bytes]) -> str:
    """Return the name that scripts give to a record, empty for none."""
    fields = sorted(b"\0".join(pair) for pair in zip(record[::2], record[1::2], strict=True))
    return hashlib.sha1(b"\0".join(fields), usedforsecurity=False).hexdigest() if fields else ""


def _sum(talking: bytes, standing: bytes, inspection: bytes) -> tuple[Standing, Inspection | None]:
    """Return what events and receipts add up to, as it stands in Redis."""
    return from_standing(standing.decode(), talking.decode()), from_inspection(inspection.decode())
