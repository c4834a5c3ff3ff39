"""
Runs a command: find the session, send it once, follow its events, say what became of it.

The order is that of the file: `run` starts or joins, `_dispatch` sends; `follow` streams.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final, Protocol

import structlog

from qc_adapter.commands.follow import follow, missed_before, open_at, too_late
from qc_adapter.commands.ledger import MemoryLedger, Record, State, fingerprint
from qc_adapter.commands.model import Accepted, Follow, Update
from qc_adapter.commands.run import CommandRun
from qc_adapter.gateway.client import Receipt
from qc_adapter.model.errors import (
    AdapterError,
    DeadlineExceeded,
    Draining,
    GatewayRefused,
    GatewayUnavailable,
    InternalFault,
    NotSignedIn,
    OutcomeUnknown,
    RequestIdReused,
    StoreUnavailable,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine

    from qc_adapter.commands.journal import Journal
    from qc_adapter.commands.ledger import Ledger
    from qc_adapter.commands.model import Command
    from qc_adapter.events.feed import Feed
    from qc_adapter.events.hub import Follows, Hub
    from qc_adapter.gateway.requests import GatewayRequest
    from qc_adapter.model.deadline import Deadline
    from qc_adapter.model.session import Renewal, Session

#: A refusal with one of these may mean that the GUID was renewed while the command was on its way.
STALE_GUID: Final = frozenset({"000-003", "100-006"})
#: Of what is left of the caller's deadline, the part that the gateway's reply may take; the rest is for the events.
SENDING_SHARE: Final = 0.8
#: With less than this left no reply could be read in time: rather nothing is sent than an outcome unknown.
LEAST_SECONDS: Final = 0.01
#: How long a renewal that overtook the command may take to reach the store.
RENEWAL_SECONDS: Final = 0.25
_LOOK_SECONDS: Final = 0.05
_LONGEST_SECONDS: Final = 86_400.0
_LAST_WORDS_SECONDS: Final = 1.0


class Sends(Protocol):
    """The part of the gateway client that a command needs."""

    async def send(
        self, session: Session, request: GatewayRequest, deadline: Deadline, on_send: Callable[[], None]
    ) -> Receipt: ...


class Sessions(Protocol):
    """The part of the session store that a command needs."""

    async def get(self, agent_id: str) -> Session | None: ...


class Keeps(Protocol):
    """Stores what a reply changed in a session, now or as soon as the store can be reached."""

    async def absorb(self, session: Session, renewal: Renewal | None) -> None: ...


class CountsOutcomes(Protocol):
    """Counts what became of commands."""

    def command_outcome(self, method: str, outcome: str) -> None: ...


class CommandRunner:
    """Runs commands and owns their tasks."""

    def __init__(
        self,
        *,
        gateway: Sends,
        sessions: Sessions,
        keeper: Keeps,
        hub: Hub,
        journal: Journal,
        counts: CountsOutcomes,
        follows: Follows | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        """Without `follows` and `ledger` there is no other replica."""
        self._gateway = gateway
        self._sessions = sessions
        self._keeper = keeper
        self._hub = hub
        self._follows: Follows = follows or hub
        self._ledger: Ledger = ledger or MemoryLedger()
        self._journal = journal
        self._counts = counts
        self._tasks: dict[CommandRun, asyncio.Task[None]] = {}
        self._last_words: set[asyncio.Task[None]] = set()
        self._log = structlog.get_logger()

    @property
    def in_flight(self) -> int:
        """How many commands wait for the gateway's reply."""
        return len(self._tasks)

    async def run(self, command: Command, deadline: Deadline) -> AsyncGenerator[Update]:
        """
        Run the command, or join the run with the same request id, and yield what happens.

        Raises the errors of `qc_adapter.model.errors`. Closing the iterator does not undo what was sent; a command that
        was not sent yet is given up.
        """
        run = self._join(command) or await self._begin(command, deadline)
        run.followers += 1
        try:
            accepted = await self._accepted(run, deadline)
            if accepted is not None:
                yield accepted
                if command.follow is Follow.NONE:
                    return
            with open_at(run, self._hub) as subscription:
                if (missed := missed_before(run, subscription)) is not None:
                    yield missed
                async for update in follow(run, command.follow, subscription, deadline):
                    yield update
        finally:
            run.followers -= 1
            self._give_up_unsent(run)

    async def stop(self, timeout_seconds: float) -> None:
        """Wait until the gateway answered what was sent; cancel what did not end in time."""
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=timeout_seconds)
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        runs = list(self._tasks)
        await asyncio.gather(*tasks, return_exceptions=True)
        for run in runs:
            if not run.answered:  # a task that was cancelled before its first step
                run.fail(_cut_off(run), "not_sent")
        last_words = list(self._last_words)
        if last_words:
            await asyncio.wait(last_words, timeout=max(timeout_seconds, _LAST_WORDS_SECONDS))
        for word in last_words:
            word.cancel()
        await asyncio.gather(*last_words, return_exceptions=True)

    def _join(self, command: Command) -> CommandRun | None:
        return self._journal.find(command) if command.request_id else None

    async def _begin(self, command: Command, deadline: Deadline) -> CommandRun:
        if self._hub.draining:
            raise Draining
        feed = await self._follow(command, deadline)
        # The same request may have come a second time while the log was looked at.
        if (run := self._join(command)) is not None:
            return run
        run = CommandRun(command, feed, self._settled)
        if command.request_id:
            self._journal.keep(run)
        task = asyncio.create_task(self._dispatch(run, deadline), name=f"{command.method} {command.agent_id}")
        self._tasks[run] = task
        task.add_done_callback(lambda _: self._tasks.pop(run, None))
        return run

    async def _follow(self, command: Command, deadline: Deadline) -> Feed:
        """Have the inspector's log at hand before anything is sent, so that no event can slip by."""
        try:
            async with asyncio.timeout(min(deadline.remaining_seconds, _LONGEST_SECONDS)):
                return await self._follows.follow(command.agent_id)
        except TimeoutError:
            raise DeadlineExceeded(
                f"the deadline came before {command.method} was sent: nothing was done", "not_sent"
            ) from None

    def _give_up_unsent(self, run: CommandRun) -> None:
        if run.followers == 0 and not run.sent and (task := self._tasks.get(run)) is not None:
            self._journal.drop(run)
            task.cancel()

    def enter_anew(self) -> None:
        """Tell the ledger of all commands that may have been sent: it has lost what it knew."""
        for run in self._journal.runs():
            if run.sent:
                self._afterwards(self._restore(run))

    async def _restore(self, run: CommandRun) -> None:
        with contextlib.suppress(StoreUnavailable):  # it is gone again, and will be told again
            await self._ledger.restore(run)

    def _afterwards(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="command ledger")
        self._last_words.add(task)
        task.add_done_callback(self._last_words.discard)

    def _settled(self, run: CommandRun, label: str) -> None:
        if not run.foreign:
            self._counts.command_outcome(run.command.method, label)

    async def _dispatch(self, run: CommandRun, deadline: Deadline) -> None:
        try:
            await self._send_or_join(run, deadline.share(SENDING_SHARE))
        except AdapterError as failure:
            self._journal.drop(run)
            run.fail(failure, "unavailable" if isinstance(failure, GatewayUnavailable) else "not_sent")
            if run.command.request_id:
                await self._ledger.drop(run)
        except asyncio.CancelledError:
            # Given up before it was sent, or at the end of the process: nobody may wait for a receipt for ever.
            run.fail(_cut_off(run), "unknown" if run.sent else "not_sent")
            if run.command.request_id and not run.sent:
                self._afterwards(self._ledger.drop(run))
            raise
        except Exception as defect:  # noqa: BLE001 - it is logged here, and the caller gets its answer
            self._log.error("command_failed", method=run.command.method, agent_id=run.command.agent_id, exc_info=defect)
            run.fail(InternalFault(), "unknown" if run.sent else "not_sent")

    async def _send_or_join(self, run: CommandRun, deadline: Deadline) -> None:
        """Send the command and write its receipt down, or follow the replica that did so before."""
        if not run.command.request_id:
            await self._send_and_tell(run, deadline)
            return
        while (record := await self._ledger.take(run, deadline)) is not None:
            if record.fingerprint != fingerprint(run.command):
                raise RequestIdReused(run.command.request_id)
            if await self._join_other(run, record):
                return
        state, retcode, text, at = await self._send_and_tell(run, deadline)
        await self._ledger.settle(run, state, retcode, text, at)

    async def _send_and_tell(self, run: CommandRun, deadline: Deadline) -> tuple[State, str, str, float]:
        try:
            receipt = await self._send(run, deadline)
        except OutcomeUnknown as unknown:
            run.doubt(unknown)
            return State.UNKNOWN, "", "", 0.0
        except GatewayRefused as refusal:
            run.fail(refusal, "refused")
            return State.REFUSED, refusal.retcode, refusal.text, 0.0
        run.accept(receipt)
        return State.ACCEPTED, "0", receipt.message, receipt.received_at

    async def _join_other(self, run: CommandRun, record: Record) -> bool:
        """Follow a command that is entered already; False when it turns out that nothing was sent."""
        run.sent = True  # as far as anybody can say
        found: Record | None = record
        while found is not None and found.state is State.SENT and found.waiting:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                found = await self._ledger.look(run)
            except StoreUnavailable:
                continue  # the caller's deadline ends the waiting
        if found is None:
            run.sent = False
            return False
        run.resume(run.feed.sequence_of(found.epoch, found.position), found.talking)
        patience = max(0.0, run.command.confirm_within_seconds - found.age_seconds)
        method = run.command.method
        if found.state is State.ACCEPTED:
            run.accept(Receipt(found.text, None, None, found.received_at), patience)
        elif found.state is State.REFUSED:
            run.fail(GatewayRefused(method, found.retcode, found.text), "refused")
        elif found.state is State.UNKNOWN:
            run.doubt(OutcomeUnknown(method, f"{method} was sent by another replica, which got no retcode"), patience)
        else:
            why = f"{method} may have been sent by another replica, which is gone without a word"
            run.doubt(OutcomeUnknown(method, why))
        return True

    async def _send(self, run: CommandRun, deadline: Deadline) -> Receipt:
        """Send the command; a second time only when it was refused with a GUID that the store has replaced since."""
        agent_id = run.command.agent_id
        session = await self._sessions.get(agent_id)
        if session is None:
            raise NotSignedIn(agent_id)
        try:
            return await self._send_once(run, session, deadline)
        except GatewayRefused as refusal:
            newer = await self._newer(session, refusal, deadline)
            if newer is None:
                raise
        return await self._send_once(run, newer, deadline)

    async def _send_once(self, run: CommandRun, session: Session, deadline: Deadline) -> Receipt:
        if deadline.remaining_seconds < LEAST_SECONDS:
            raise DeadlineExceeded(
                f"too little time is left to send {run.command.method}: nothing was done", "not_sent"
            )
        try:
            receipt = await self._gateway.send(session, run.command.request, deadline, run.mark_sent)
        except (GatewayRefused, OutcomeUnknown) as failure:
            await self._keeper.absorb(session, failure.renewal)
            raise
        await self._keeper.absorb(session, receipt.renewal)
        return receipt

    async def _newer(self, used: Session, refusal: GatewayRefused, deadline: Deadline) -> Session | None:
        """Return the session that has replaced the refused one; waits a moment for a renewal that is on its way."""
        if refusal.retcode not in STALE_GUID:
            return None
        patience = deadline.sooner(RENEWAL_SECONDS)
        while True:
            stored = await self._sessions.get(used.agent_id)
            if stored is None or stored.guid != used.guid:
                return stored
            if patience.over:
                return None
            await asyncio.sleep(_LOOK_SECONDS)

    async def _accepted(self, run: CommandRun, deadline: Deadline) -> Accepted | None:
        """Return the gateway's receipt, None if events have to decide; raises what was found instead."""
        while not run.answered:
            if not await run.feed.changed(deadline.remaining_seconds):
                raise too_late(run, run.feed.cursor(run.start))
        if run.accepted is None and run.failure is not None:
            raise run.failure.afresh()
        return run.accepted


def _cut_off(run: CommandRun) -> AdapterError:
    """Say what is known of a run whose reply nobody waits for: `Draining` invites a repetition, so only if unsent."""
    if not run.sent:
        return Draining(run.feed.cursor(run.start))
    method = run.command.method
    return OutcomeUnknown(method, f"{method} was sent and this replica shut down before the gateway answered")
