"""Keeps a command from being sent twice by different replicas: enters it before it is sent, or joins who did."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

from qc_adapter.commands.ledger import Record, State, fingerprint
from qc_adapter.gateway.client import Receipt
from qc_adapter.model.deadline import Deadline
from qc_adapter.model.errors import GatewayRefused, OutcomeUnknown, RequestIdReused, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

    from qc_adapter.commands.ledger import Ledger
    from qc_adapter.commands.run import CommandRun
    from qc_adapter.events.hub import Follows

_LOOK_SECONDS: Final = 0.05
#: The replica that sent the command has written its result down by then, or is gone.
_LONGEST_WAIT_SECONDS: Final = 60.0
_LAST_WORDS_SECONDS: Final = 1.0
_RETRY_SECONDS: Final = 0.2


class Joining:
    """What a replica tells the others of its commands, and learns of theirs. Commands without a request id pass."""

    def __init__(self, ledger: Ledger, follows: Follows) -> None:
        self._ledger = ledger
        self._follows = follows
        self._last_words: set[asyncio.Task[None]] = set()

    async def enter(self, run: CommandRun, deadline: Deadline) -> bool:
        """
        Enter the command, which is to be sent now; False if another replica did before, and the run follows that.

        Raises `RequestIdReused` and `StoreUnavailable`.
        """
        if not run.command.request_id:
            return True
        while (record := await self._ledger.take(run, deadline)) is not None:
            if record.fingerprint != fingerprint(run.command):
                raise RequestIdReused(run.command.request_id)
            if await self._join(run, record):
                return False
        return True

    async def settle(self, run: CommandRun, state: State, retcode: str, text: str, at: float) -> None:
        """Write down what the gateway said, and when (seconds since the epoch)."""
        if run.command.request_id:
            await self._ledger.settle(run, state, retcode, text, at)

    async def drop(self, run: CommandRun) -> None:
        """Write down that nothing was sent."""
        if run.command.request_id:
            await self._ledger.drop(run)

    def drop_later(self, run: CommandRun) -> None:
        """Do so in a task of our own: the one that would have sent it is being cancelled."""
        if run.command.request_id:
            self._afterwards(self._ledger.drop(run))

    def enter_anew(self, runs: Iterable[CommandRun]) -> None:
        """Tell the ledger of commands that may have been sent: it has lost what it knew."""
        own = [run for run in runs if run.sent and not run.foreign]
        if own:
            self._afterwards(self._restore(own))

    async def stop(self, timeout_seconds: float) -> None:
        """Wait for what is still to be written down."""
        words = list(self._last_words)
        if words:
            await asyncio.wait(words, timeout=max(timeout_seconds, _LAST_WORDS_SECONDS))
        for word in words:
            word.cancel()
        await asyncio.gather(*words, return_exceptions=True)

    async def _restore(self, runs: list[CommandRun]) -> None:
        """Enter them one after the other, the newest first: those are the ones that are asked for again."""
        life = Deadline.after(_LONGEST_WAIT_SECONDS)
        while runs and not life.over:
            try:
                await self._ledger.restore(runs[-1])
            except StoreUnavailable:
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                runs.pop()

    def _afterwards(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="command ledger")
        self._last_words.add(task)
        task.add_done_callback(self._last_words.discard)

    async def _join(self, run: CommandRun, record: Record) -> bool:
        """Follow a command that is entered already; False when it turns out that nothing was sent."""
        run.sent = run.foreign = True  # as far as anybody can say
        found = await self._result(run, record)
        if found is None:
            run.sent = run.foreign = False
            return False
        await self._resume(run, found)
        patience = max(0.0, run.command.confirm_within_seconds - found.age_seconds)
        method = run.command.method
        if found.state is State.ACCEPTED:
            run.accept(Receipt(found.text, None, None, found.received_at), patience)
        elif found.state is State.REFUSED:
            refusal = GatewayRefused(method, found.retcode, found.text)
            refusal.seen = found.seen
            run.fail(refusal, "refused")
        elif found.state is State.UNKNOWN:
            run.doubt(OutcomeUnknown(method, f"{method} was sent by another replica, which got no retcode"), patience)
        else:
            why = f"{method} may have been sent by another replica, which is gone without a word"
            run.doubt(OutcomeUnknown(method, why))
        return True

    async def _resume(self, run: CommandRun, found: Record) -> None:
        """Let the run see what its sender saw; events of the inspected agent count for both or for neither."""
        start, witness_start = run.feed.sequence_of(found.epoch, found.position), None
        if run.command.effects.at_target:
            run.witness = None
            if found.witness:
                run.witness = await self._follows.follow(run.command.target_id, fresh=True)
                epoch, _, position = found.witness.partition("-")
                witness_start = run.witness.sequence_of(epoch, int(position))
        run.resume(start, found.talking, found.received_at, witness_start)

    async def _result(self, run: CommandRun, record: Record) -> Record | None:
        """Wait until the other replica has written the result down, or does not any more; None: nothing was sent."""
        found: Record | None = record
        life = Deadline.after(_LONGEST_WAIT_SECONDS)
        while found is not None and found.state is State.SENT and found.waiting and not life.over:
            await asyncio.sleep(_LOOK_SECONDS)
            with contextlib.suppress(StoreUnavailable):  # it may come back in time
                found = await self._ledger.look(run)
        return found
