"""
One command on its way: sent or not, taken or not, confirmed or not.

A run belongs to no caller. Callers follow it, any number of them with the same `request_id`; it goes on to its verdict
without them.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import TYPE_CHECKING

from qc_adapter.commands.confirm import Confirmation
from qc_adapter.commands.model import Accepted, Verdict
from qc_adapter.model.errors import SessionLost

if TYPE_CHECKING:
    from collections.abc import Callable

    from qc_adapter.commands.model import Command
    from qc_adapter.events.feed import Feed
    from qc_adapter.events.model import Entry
    from qc_adapter.gateway.client import Receipt
    from qc_adapter.model.errors import AdapterError, OutcomeUnknown


class CommandRun:
    """
    The life of one command.

    `answered` says that the gateway's reply came or is given up; `accepted` holds it, unless events have to decide.
    Each step wakes the feed, where the callers wait. `settled` is called once with the outcome's label for the metric.
    """

    # One with a request id is kept for minutes.
    __slots__ = (
        "_confirmation",
        "_sent_at_monotonic",
        "_settled",
        "_timer",
        "_unknown",
        "_witness_start",
        "accepted",
        "answered",
        "command",
        "failure",
        "feed",
        "followers",
        "foreign",
        "label",
        "nonce",
        "sent",
        "sent_at",
        "standing",
        "start",
        "talking",
        "trace_id",
        "verdict",
        "witness",
    )

    def __init__(self, command: Command, feed: Feed, settled: Callable[[CommandRun, str], None]) -> None:
        self.command = command
        self.feed = feed
        #: The log whose events can prove the command: the inspector's or the inspected agent's, None without one.
        self.witness: Feed | None = None if command.effects.at_target else feed
        #: Tells this attempt from others with the same request id; without one there are none.
        self.nonce = secrets.token_hex(8) if command.request_id else ""
        self.answered = False
        self.accepted: Accepted | None = None
        self.start = feed.tail
        self.followers = 0
        #: How the metric calls its outcome, once it is known.
        self.label = ""
        #: Of the call that began it.
        self.trace_id = ""
        self.verdict: Verdict | None = None
        self.failure: AdapterError | None = None
        self.sent = False
        #: The calls that the inspector was in when it was sent.
        self.talking = feed.talking
        #: How the inspector stood then, and when that was, in seconds since the epoch.
        self.standing = feed.standing
        self.sent_at = 0.0
        self._sent_at_monotonic = 0.0
        #: Whether another replica sent it: then that one counts it.
        self.foreign = False
        self._settled = settled
        self._witness_start = 0
        self._confirmation: Confirmation | None = None
        self._unknown: OutcomeUnknown | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def finished(self) -> bool:
        """Whether it is known what became of the command."""
        return self.verdict is not None or self.failure is not None

    @property
    def doubted(self) -> OutcomeUnknown | None:
        """Why it is not known whether the gateway took the command, as long as no event has settled it."""
        return None if self.finished else self._unknown

    @property
    def witness_cursor(self) -> str:
        """Where in the inspected agent's log the command began; empty when that log proves nothing."""
        if self.witness is None or not self.command.effects.at_target:
            return ""
        return self.witness.cursor(self._witness_start if self.sent else self.witness.tail)

    @property
    def confirmed_after_seconds(self) -> float:
        """How long after the last sending the confirming event was read; only for a command that we sent."""
        proof = None if self._confirmation is None else self._confirmation.proof
        confirmed_at = time.monotonic() if proof is None else proof.logged_at  # without one the session's end proved it
        return max(0.0, confirmed_at - self._sent_at_monotonic)  # another replica's clock may have read the event

    def mark_sent(self) -> None:
        """Note that the request goes out now: events count from here."""
        if not self.sent:  # a second sending hides nothing of what came since the first
            self.start = self.feed.tail
            self._witness_start = 0 if self.witness is None else self.witness.tail
        self.sent = True
        self.talking = self.feed.talking
        self.standing, self.sent_at = self.feed.standing, time.time()
        self._sent_at_monotonic = time.monotonic()
        self._listen(self.talking, self.sent_at)

    def resume(self, start: int, talking: frozenset[str], sent_at: float, witness_start: int | None = None) -> None:
        """
        Follow a command that another replica sent: what came since counts as if we had sent it.

        `witness_start` is where it began in the log of the inspected agent, if events there count.
        """
        self.start = start
        self._witness_start = start if witness_start is None else witness_start
        self.sent = self.foreign = True
        self._listen(talking, sent_at)
        if self.witness is None or self._confirmation is None:
            return
        for entry in self.witness.read(self._witness_start, self.witness.tail - self._witness_start):
            self._observe(entry)
        if self.witness.ended is not None:
            self._session_ended(self.witness.ended)

    def _listen(self, talking: frozenset[str], sent_at: float) -> None:
        """Begin to look for a proof, if there can be one."""
        effects, request = self.command.effects, self.command.request
        elsewhere = bool(request.releases) and request.releases not in talking
        if self.witness is None or not effects.confirming or elsewhere:
            return
        before = frozenset[str]() if effects.at_target else talking
        if request.releases in before:
            before -= {request.releases}
        self._confirmation = Confirmation(effects, before, sent_at, request.conditions)
        self.witness.listeners.add(self._observe)
        self.witness.endings.add(self._session_ended)

    def accept(self, receipt: Receipt, patience_seconds: float | None = None) -> None:
        """Note that the gateway took the command, and give the events their time, or what is left of it."""
        cursor = self.feed.cursor(self.start)
        self.answered = True
        self.accepted = Accepted(cursor, self.command.method, receipt.message, receipt.received_at)
        if self._confirmation is None:
            self._settle(Verdict(self.feed.tail, None, (), ""), "accepted")
        else:
            self._await_events(self._confirmation, patience_seconds)

    def doubt(self, unknown: OutcomeUnknown, patience_seconds: float | None = None) -> None:
        """Note that no retcode came back: the events decide, if any can be seen."""
        if self._confirmation is None:
            self.fail(unknown)
            return
        self._unknown = unknown.afresh()
        self.answered = True
        self._await_events(self._confirmation, patience_seconds)

    def fail(self, failure: AdapterError, label: str = "unknown") -> None:
        """Note that the command was refused, never sent, or will stay unknown."""
        self.answered = True
        self.failure = failure.afresh()
        self._settle(None, label)

    def _await_events(self, confirmation: Confirmation, patience_seconds: float | None) -> None:
        if confirmation.complete:
            self._conclude()
        elif not self.finished:
            loop = asyncio.get_running_loop()
            patience = self.command.confirm_within_seconds if patience_seconds is None else patience_seconds
            self._timer = loop.call_later(patience, self._conclude)
            self.feed.wake()

    def _observe(self, entry: Entry) -> None:
        if self._confirmation is not None:
            self._confirmation.observe(entry)
            self._look_at(self._confirmation)

    def _session_ended(self, why: AdapterError) -> None:
        if self._confirmation is not None and isinstance(why, SessionLost):
            self._confirmation.session_ended()
            self._look_at(self._confirmation)

    def _look_at(self, confirmation: Confirmation) -> None:
        if confirmation.complete and self.answered and not self.finished:
            self._conclude()

    def _conclude(self) -> None:
        confirmation = self._confirmation
        if confirmation is not None and confirmation.confirmed:
            self._settle(self._proven(confirmation), "confirmed")
        elif self._unknown is not None:
            self.fail(self._unknown)
        else:
            missing = () if confirmation is None else confirmation.missing
            self._settle(Verdict(self.feed.tail, False, missing, ""), "unconfirmed")

    def _proven(self, confirmation: Confirmation) -> Verdict:
        tail, proof = self.feed.tail, confirmation.proof
        if self.command.effects.at_target:
            # The proof stands in another log; in that of the inspector it has the place where it was seen.
            return Verdict(tail, True, confirmation.missing, "", tail, proof)
        # What another replica told its caller ended with the last proof: a replay ends there too.
        sequence = (self.foreign and confirmation.completed_at) or tail
        confirmed_at = tail if proof is None else proof.sequence
        return Verdict(sequence, True, confirmation.missing, confirmation.call_id, confirmed_at)

    def _settle(self, verdict: Verdict | None, label: str) -> None:
        self.verdict, self.label = verdict, label
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None  # it holds the context of the call, with its span, and the run is kept for minutes
        if self.witness is not None:
            self.witness.listeners.discard(self._observe)
            self.witness.endings.discard(self._session_ended)
        self.feed.wake()
        self._settled(self, label)
        self._confirmation = None  # it holds the proof, which is kept for minutes too otherwise
