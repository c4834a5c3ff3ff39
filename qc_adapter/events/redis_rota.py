"""The book of all leases in Redis: who polls for whom among the replicas."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from typing import TYPE_CHECKING, Final, TypeVar

import structlog

from qc_adapter.events import lease_scripts, log_scripts
from qc_adapter.events.activity import activity
from qc_adapter.events.feed import fresh_epoch
from qc_adapter.events.leases import Beat, Claim, LeaseLost, PollState, PollStatus, Taken, poll_state
from qc_adapter.events.quiet_polls import QuietPolls
from qc_adapter.events.redis_lease import RedisLease
from qc_adapter.events.stored import from_inspection, from_standing
from qc_adapter.model.errors import SessionUnreadable, StoreUnavailable
from qc_adapter.model.inspector import gateway_of
from qc_adapter.sessions.record import agent_id_of
from qc_adapter.sessions.redis import find_form
from qc_adapter.store import keys

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from qc_adapter.events.leases import Lease
    from qc_adapter.events.redis_lease import Book

T = TypeVar("T")

#: So many leases change hands at once: a script must not keep Redis from the others for long.
_MOST_CLAIMS: Final = 100
_BATCH: Final = 500
#: A scanner that is gone is replaced within this time.
_SCANNER_MS: Final = 1200
_KEY_BEGINS: Final = keys.SESSION.encode()
#: Records are compared with the book for a tenth of the time at most; up to 20,000 sessions that is twice a second.
_REST: Final = 9.0
_USUAL_REST_SECONDS: Final = 0.5
_LONGEST_REST_SECONDS: Final = 2.0
_LEAVING_MS: Final = 30_000
#: How the script `BEAT` says that a poll of the holder before may be held on.
_REVOKED: Final = 2


class RedisRota:
    """The book of all leases."""

    shared = True

    def __init__(self, book: Book) -> None:
        self._book = book
        self._link = book.link
        self._terms = book.terms
        self._quiet = QuietPolls(book.link, book.terms.lease_ms)
        self._number = 1
        self._store = ""
        self._looked_at = 0
        self._compared_until = 0.0
        #: Names of keys that sessions are sealed with, and that are not ours.
        self._lacked: set[str] = set()
        self._log = structlog.get_logger()
        #: Who had no reader when we looked last.
        self._unread: set[str] = set()

    async def beat(self, held: Sequence[Lease], *, claiming: bool) -> Beat:
        """Beat; a beat whose reply was lost is repeated with its number, so that no claim is forgotten."""
        terms = self._terms
        until = time.monotonic() + terms.lease_seconds
        records = self._book.records
        store, share, _, lacked, key, *claims = await self._link.script(
            "beat", lease_scripts.BEAT, terms.replica, self._number, terms.lease_ms, int(terms.gone_seconds * 1000),
            _MOST_CLAIMS, len(held), int(claiming), fresh_epoch(), fresh_epoch(), terms.capacity, terms.retention_ms,
            int(terms.respite_seconds * 1000), self._book.generation.name,
            " ".join(records.keys), " ".join(self._lacked), int(terms.abandoned_seconds * 1000),
            records.seals,
        )  # fmt: skip
        records.answered(key.decode())
        self._note_lacked({key.decode() for key in lacked})
        self._number += 1
        self._store = store.decode()
        self._book.generation.learn(self._store)
        leases = [lease for lease in held if isinstance(lease, RedisLease)]
        mine = {lease.holder: lease for lease in leases} if claims else {}
        won = []
        for claim in claims:
            lease = RedisLease(self._book, self._quiet, self._store, claim, until)
            if (known := mine.get(lease.holder)) is not None:
                known.extended(until)
            else:
                ago = int(claim[7]) / 1000
                cut_off = claim[2] == _REVOKED
                won.append(Claim(lease, claim[2] > 0, cut_off, ago if ago >= 0 else None))
        lost: set[str] = set()
        with contextlib.suppress(StoreUnavailable):  # what was won must not be forgotten over it
            lost = await self._renew(leases)
        return Beat(won, int(share), frozenset(lost))

    def _note_lacked(self, keys: set[str]) -> None:
        for key in sorted(keys - self._lacked):
            self._log.error("sessions_need_key", detail=f"QC_SEAL_KEYS here lacks the key {key} of stored sessions")
        self._lacked |= keys

    async def _renew(self, held: Sequence[RedisLease]) -> set[str]:
        """Renew what has used up half of its time: that poll is held for long. Returns whose lease is gone."""
        lost: set[str] = set()
        for lease in [one for one in held if one.store != self._store]:
            try:
                await lease.restore_known(self._store)
            except LeaseLost:
                lost.add(lease.agent_id)
        soon = time.monotonic() + self._terms.lease_seconds / 2
        for batch in _batches([one for one in held if one.until < soon]):
            until = time.monotonic() + self._terms.lease_seconds
            pairs = [part for lease in batch for part in (lease.agent_id, lease.holder)]
            fenced = await self._link.script("extend", lease_scripts.EXTEND, self._terms.lease_ms, *pairs)
            lost |= {agent_id.decode() for agent_id in fenced}
            for lease in batch:
                if lease.agent_id not in lost:
                    lease.extended(until)
        return lost

    async def scan(self) -> Counter[str]:
        """Compare the records with the book; one replica does it for all. Returns whom nobody reads for."""
        before, self._unread = self._unread, set()
        if not await self._link.script("scan", lease_scripts.SCANNER, self._terms.replica, _SCANNER_MS):
            return Counter()
        if time.monotonic() >= self._compared_until:
            await self._compare()
        await find_form(self._link, self._book.records)
        recheck = (lease_scripts.RECHECK, self._looked_at, _BATCH, self._book.records.key)
        seen, back, unread, others, doubtful = await self._link.script("scan", *recheck)
        for agent_id in {*others, *doubtful}:
            await self._look_at(agent_id.decode(), again=agent_id in doubtful)
        self._looked_at = self._looked_at + seen - back if seen == _BATCH else 0
        self._unread = {agent_id.decode() for agent_id in unread}
        return Counter(gateway_of(agent_id) for agent_id in self._unread & before)

    async def _compare(self) -> None:
        """
        Compare all records with the book.

        That costs by the number of keys, so it rests the longer the longer it took.
        """
        began = time.monotonic()
        found = await self._link.keys("scan", keys.SESSION)
        listed = {_KEY_BEGINS + one for one in await self._link.command("scan", "ZRANGE", keys.LEASES, 0, -1)}
        came = [agent_id for key in found - listed if (agent_id := agent_id_of(key)) is not None]
        for batch in _batches(sorted(came)):
            await self._link.script("enlist", lease_scripts.FOUND, *batch)
        went = [key.removeprefix(_KEY_BEGINS).decode() for key in listed - found]
        for batch in _batches(sorted(went)):
            await self._link.script("retire", lease_scripts.RETIRE, self._terms.retention_ms, *batch)
        ended = time.monotonic()
        rest_seconds = min(_LONGEST_REST_SECONDS, _REST * (ended - began))
        self._compared_until = ended + rest_seconds if rest_seconds > _USUAL_REST_SECONDS else 0.0

    async def _look_at(self, agent_id: str, *, again: bool) -> None:
        """Put a record that nobody reads for into our form, and have it read for again if somebody else could not."""
        record = await self._link.command("scan", "HGETALL", keys.SESSION + agent_id)
        flat = [part for pair in record.items() for part in pair] if isinstance(record, dict) else record
        with contextlib.suppress(SessionUnreadable):
            if change := self._book.records.to_recast(agent_id, flat):
                await self._link.script("scan", lease_scripts.RECAST, *change)
            if again and self._book.records.read(agent_id, flat) is not None:
                await self._link.script("scan", lease_scripts.ENLIST, agent_id, Taken.NOT.value)

    async def enlist(self, agent_id: str, taken: Taken = Taken.NOT) -> None:
        """Make the lease free, or take it away from its holder."""
        await self._link.script("enlist", lease_scripts.ENLIST, agent_id, taken.value)

    async def leaving(self, agent_id: str) -> None:
        """Note that a sign-out is under way."""
        await self._link.script("enlist", lease_scripts.LEAVING, agent_id, _LEAVING_MS)

    async def retire(self, agent_id: str) -> None:
        """Take an inspector without a session off the book."""
        await self._link.script("retire", lease_scripts.RETIRE, self._terms.retention_ms, agent_id)

    async def statuses(self, agent_ids: Sequence[str]) -> dict[str, PollStatus]:
        """Read what the readers said with their last steps."""
        found: dict[str, PollStatus] = {}
        for batch in _batches(agent_ids):
            for agent_id, told in zip(
                batch, await self._link.script("status", log_scripts.STATUS, *batch), strict=True
            ):
                if (status := _status(*told)) is not None:
                    found[agent_id] = status
        return found


def _status(
    state: bytes | None, detail: bytes | None, polled_at: bytes | None, standing: bytes | None, receipt: bytes | None
) -> PollStatus | None:
    if not state and not standing:
        return None
    stands, inspection = from_standing((standing or b"").decode(), ""), from_inspection((receipt or b"").decode())
    return PollStatus(
        poll_state((state or b"").decode()) or PollState.STARTING,
        float(polled_at or 0) / 1000,
        (detail or b"").decode(),
        activity(stands, inspection),
    )


def _batches(items: Sequence[T]) -> Iterable[Sequence[T]]:
    return (items[start : start + _BATCH] for start in range(0, len(items), _BATCH))
