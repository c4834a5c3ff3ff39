"""The audit log of one process: takes records, writes them in their order, and says whether it can."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Protocol

import structlog

from qc_adapter.audit.chain import Chain
from qc_adapter.audit.record import BEGAN, ENDED, NOTHING, key_name, utc
from qc_adapter.audit.refusals import Refusals
from qc_adapter.model.errors import AuditUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qc_adapter.audit.output import Output
    from qc_adapter.model.session import Secret

#: More than calls can be in flight when writing begins to fail.
_MOST_HELD: Final = 20_000
_HEAD_SECONDS: Final = 60.0
#: Who did what nobody asked for.
OURSELVES: Final = "qc-adapter"


class Counts(Protocol):
    """What is counted of records."""

    def audited(self, *, failed: bool) -> None: ...


class AuditLog:
    """
    Writes each record at once, in the event loop: the chain has one order.

    What cannot be written is held, and nothing that wants a record is begun until all of it is written.
    """

    def __init__(
        self,
        output: Output,
        key: Secret,
        counts: Counts,
        *,
        replica: str,
        version: str,
        most_held: int = _MOST_HELD,
        head_seconds: float = _HEAD_SECONDS,
    ) -> None:
        self._output = output
        self._key = key.reveal().encode()
        self._chain = Chain(self._key, replica)
        self._counts = counts
        self._version = version
        self._most_held = most_held
        self._head_seconds = head_seconds
        self._held: deque[bytes] = deque()
        self._lost = 0
        self._failing = False
        self._open = False
        self._told = NOTHING
        self._refusals = Refusals()
        self._ticking: asyncio.Task[None] | None = None
        self._log = structlog.get_logger()

    @property
    def writable(self) -> bool:
        """Whether everything so far is written."""
        return not self._held and not self._lost

    def start(self) -> None:
        """Begin the chain, in the running loop; raises OSError if there is no such file and none can be made."""
        follows = self._output.open()
        self._open = True
        self.add({"event": BEGAN, "version": self._version, "key": key_name(self._key), "follows": follows})
        self._tell_head()
        self._ticking = asyncio.create_task(self._tick(), name="audit")

    async def stop(self) -> None:
        """End the chain. Nothing may come after."""
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.gather(self._ticking, return_exceptions=True)
            self._ticking = None
        if self._open:
            self._tell_left_out()
            self.add({"event": ENDED})
            self._open = False
            self._tell_head()
            self._output.close()
            if not self.writable:
                self._log.error("audit_records_lost", count=len(self._held) + self._lost)

    def add(self, fields: Mapping[str, Any]) -> None:
        """Put a record into the log; `time` is now unless it is given. Never raises for want of space or reader."""
        if not self._open:
            self._log.error("audit_records_lost", count=1)
            return
        if self._held:
            self._flush()
        if len(self._held) >= self._most_held or self._lost:
            self._lost += 1
            self._counts.audited(failed=True)
            return
        self._held.append(self._chain.add(fields if "time" in fields else {"time": utc(time.time()), **fields}))
        self._flush()
        if self._held:
            self._counts.audited(failed=True)

    def refused(self, caller: str, host: str, fields: Mapping[str, Any]) -> None:
        """Put a refused call into the log, or count it; `caller` is empty for one that nobody knows."""
        if self._refusals.admits(caller, host, fields["reason"]):
            self.add(fields)

    def changed(self, event: str, agent_id: str, retcode: str = "") -> None:
        """Put what the adapter did by itself into the log, or what it found out of an inspector's session."""
        told = {"event": event, "caller": OURSELVES, "agent_id": agent_id}
        self.add(told | {"retcode": retcode} if retcode else told)

    def require(self) -> None:
        """Raise `AuditUnavailable` unless the last record was written, or can be now."""
        if not self.writable:
            self._flush()
            if not self.writable:
                raise AuditUnavailable

    def _flush(self) -> None:
        """Write what is held, in its order."""
        try:
            while self._held:
                self._output.write(self._held[0])
                self._held.popleft()
                self._counts.audited(failed=False)
                if not self._held and self._lost:
                    lost, self._lost = self._lost, 0
                    fields = {"event": "audit_records_lost", "count": lost, "time": utc(time.time())}
                    self._held.append(self._chain.add(fields))
        except OSError as failure:
            if not self._failing:
                self._failing = True
                # Its text holds the path, its number says all there is.
                self._log.error("audit_not_written", detail=os.strerror(failure.errno or 0))
        else:
            if self._failing:
                self._failing = False
                self._log.warning("audit_written_again")

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(self._head_seconds)
            self._tell_left_out()
            self._flush()
            if not self.writable:
                self._counts.audited(failed=True)  # an alert must not end because nobody dares to try any more
            self._tell_head()

    def _tell_left_out(self) -> None:
        if left_out := self._refusals.left_out():
            self.add({"event": "refusals_left_out", "counts": left_out})

    def _tell_head(self) -> None:
        """Say in the ordinary log where the chain stands: it cannot be cut or made anew before that place unseen."""
        if self._chain.head != self._told:
            self._told = self._chain.head
            self._log.info("audit_head", chain=self._chain.name, seq=self._chain.seq, hash=self._chain.head)
