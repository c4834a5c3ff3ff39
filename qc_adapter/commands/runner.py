"""
Runs a command: find the session, send it once, follow its events, say what became of it.

The order is that of the file: `run` starts or joins, `_dispatch` sends; `follow` streams.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from qc_adapter.commands.explanation import explained
from qc_adapter.commands.follow import Following, missed_before, open_at, told_between, too_late
from qc_adapter.commands.joining import Joining
from qc_adapter.commands.keeping import Keeping
from qc_adapter.commands.ledger import MemoryLedger, State
from qc_adapter.commands.model import Accepted, Follow, Update
from qc_adapter.commands.receipts import Receipts, acceptance_of, doubt_of
from qc_adapter.commands.run import CommandRun
from qc_adapter.commands.sending import Keeps, Sender, Sends, Sessions
from qc_adapter.commands.witnesses import Witnesses
from qc_adapter.model.errors import (
    AdapterError,
    Draining,
    GatewayRefused,
    GatewayUnavailable,
    InternalFault,
    OutcomeUnknown,
)
from qc_adapter.model.inspector import gateway_of
from qc_adapter.telemetry.correlation import current_trace

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from qc_adapter.commands.journal import Journal
    from qc_adapter.commands.ledger import Ledger
    from qc_adapter.commands.model import Command
    from qc_adapter.events.hub import Follows, Hub
    from qc_adapter.events.inspection import Acceptance
    from qc_adapter.model.deadline import Deadline

#: Of what is left of the caller's deadline, the part that the gateway's reply may take; the rest is for the events.
SENDING_SHARE: Final = 0.8


class CountsOutcomes(Protocol):
    """Counts what became of commands."""

    def command_outcome(self, gateway: str, method: str, outcome: str) -> None: ...

    def command_confirmed(self, gateway: str, method: str, seconds: float) -> None: ...


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
        keeping: Keeping | None = None,
        receipts: Receipts | None = None,
        unheard: Callable[[CommandRun, str], None] | None = None,
    ) -> None:
        """
        Without `follows`, `ledger` and `receipts` there is no other replica.

        Without `keeping` nothing is kept for a recovery. `unheard` is told what became of a command that nobody follows
        any more, or whose caller went away before he was told.
        """
        self._unheard = unheard
        self._sender = Sender(gateway, sessions, keeper)
        self._hub = hub
        self._follows: Follows = follows or hub
        self._witnesses = Witnesses(sessions, self._follows)
        self._joining = Joining(ledger or MemoryLedger(), self._follows)
        self._keeping = keeping or Keeping()
        self._receipts: Receipts = receipts or hub
        self._journal = journal
        self._counts = counts
        self._tasks: dict[CommandRun, asyncio.Task[None]] = {}
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
        heard = False
        try:
            accepted = await self._accepted(run, deadline)
            if accepted is not None:
                yield accepted
                if command.follow is Follow.NONE:
                    heard = run.label == "accepted"
                    return
            with open_at(run, self._hub) as subscription:
                if (missed := missed_before(run, subscription)) is not None:
                    yield missed
                following = Following(run, command.follow, subscription)
                while updates := await following.more(deadline):
                    heard = heard or following.told
                    for update in updates:
                        yield update
        except AdapterError:
            heard = heard or run.failure is not None
            raise
        finally:
            run.followers -= 1
            if run.label and not heard and self._unheard is not None:
                self._unheard(run, run.label)
            self._give_up_unsent(run)

    def between(self, agent_id: str, after: str, until: str) -> list[Update]:
        """Return what came into the inspector's log between two cursors."""
        return told_between(self._hub.feed(agent_id), after, until)

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
        await self._joining.stop(timeout_seconds)

    def enter_anew(self) -> None:
        """Tell the other replicas again of all commands that may have been sent: the store has lost it."""
        self._joining.enter_anew(self._journal.runs())

    def _join(self, command: Command) -> CommandRun | None:
        return self._journal.find(command) if command.request_id else None

    async def _begin(self, command: Command, deadline: Deadline) -> CommandRun:
        if self._hub.draining:
            raise Draining
        feed = self._follows.at_hand(command.agent_id)
        if feed is None:
            feed = await self._witnesses.follow(command, command.agent_id, deadline)
            # The same request may have come a second time while the log was looked at.
            if (run := self._join(command)) is not None:
                return run
        run = CommandRun(command, feed, self._settled)
        run.trace_id = trace.trace_id if (trace := current_trace()) is not None else ""
        if command.request_id:
            self._journal.keep(run)
        task = asyncio.create_task(self._dispatch(run, deadline), name=f"{command.method} {command.agent_id}")
        self._tasks[run] = task
        task.add_done_callback(lambda _: self._tasks.pop(run, None))
        return run

    def _give_up_unsent(self, run: CommandRun) -> None:
        if run.followers == 0 and not run.sent and (task := self._tasks.get(run)) is not None:
            self._journal.drop(run)
            task.cancel()

    def _settled(self, run: CommandRun, label: str) -> None:
        if not run.foreign:
            if self._unheard is not None and not run.followers:
                self._unheard(run, label)
            gateway, method = gateway_of(run.command.agent_id), run.command.method
            self._counts.command_outcome(gateway, method, label)
            if label == "confirmed":
                self._counts.command_confirmed(gateway, method, run.confirmed_after_seconds)
            if run.accepted is None and label == "confirmed":
                self._note(run, acceptance_of(run))  # no receipt came, and events have proven it
            elif run.sent and label == "unknown":
                self._note(run, doubt_of(run))

    def _note(self, run: CommandRun, acceptance: Acceptance | None) -> None:
        if acceptance is not None:
            self._receipts.note(run.command.agent_id, acceptance)

    async def _dispatch(self, run: CommandRun, deadline: Deadline) -> None:
        try:
            in_time = deadline.share(SENDING_SHARE)
            run.witness = await self._witnesses.of(run, in_time)
            if await self._joining.enter(run, in_time):
                await self._joining.settle(run, *await self._send(run, in_time))
                await self._keeping.note(run)
        except AdapterError as failure:
            self._journal.drop(run)
            run.fail(failure, "unavailable" if isinstance(failure, GatewayUnavailable) else "not_sent")
            await self._joining.drop(run)
        except asyncio.CancelledError:
            # Given up before it was sent, or at the end of the process: nobody may wait for a receipt for ever.
            run.fail(_cut_off(run), "unknown" if run.sent else "not_sent")
            if not run.sent:
                self._joining.drop_later(run)
            raise
        except Exception as defect:  # noqa: BLE001 - it is logged here, and the caller gets its answer
            self._log.error("command_failed", method=run.command.method, agent_id=run.command.agent_id, exc_info=defect)
            run.fail(InternalFault(), "unknown" if run.sent else "not_sent")

    async def _send(self, run: CommandRun, deadline: Deadline) -> tuple[State, str, str, float]:
        """Send the command; return what the gateway said, for other replicas."""
        try:
            receipt = await self._sender.send(run, deadline)
        except OutcomeUnknown as unknown:
            run.doubt(unknown)
            return State.UNKNOWN, "", "", 0.0
        except GatewayRefused as refusal:
            run.fail(explained(refusal, run.command, run.feed.activity), "refused")
            return State.REFUSED, refusal.retcode, refusal.text, 0.0
        run.accept(receipt)
        self._note(run, acceptance_of(run))
        return State.ACCEPTED, "0", receipt.message, receipt.received_at

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
