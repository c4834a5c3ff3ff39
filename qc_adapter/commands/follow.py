"""What one caller is told of a command: its events, then its outcome, until the stream ends as the caller wished."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from qc_adapter.commands.confirm import nothing_to_release, releases
from qc_adapter.commands.model import Follow, Missed, Outcome, Told, Update
from qc_adapter.events.hub import Subscription
from qc_adapter.events.model import AgentEvent, Gap, GapReason
from qc_adapter.model.errors import CursorExpired, DeadlineExceeded, Draining, SlowConsumer

if TYPE_CHECKING:
    from qc_adapter.commands.run import CommandRun
    from qc_adapter.events.feed import Feed
    from qc_adapter.events.hub import Hub
    from qc_adapter.events.model import Entry
    from qc_adapter.model.deadline import Deadline

_BATCH: Final = 64


def open_at(run: CommandRun, hub: Hub) -> Subscription:
    """Return a reader that begins where the command was sent, or where the log begins if it has forgotten that."""
    return Subscription(hub, run.feed, max(run.start, run.feed.head))


def missed_before(run: CommandRun, subscription: Subscription) -> Missed | None:
    """Return the gap between the command and what a late reader still finds."""
    if subscription.position <= run.start:
        return None
    return Missed(subscription.cursor, Gap(GapReason.CURSOR_EXPIRED, run.feed.cursor(run.start), subscription.cursor))


def told_between(feed: Feed, after: str, until: str) -> list[Update]:
    """Return what stands between two cursors of a log, or the gap that is left of it."""
    try:
        start = feed.locate(after)
        return [_update(entry) for entry in feed.read(start, feed.locate(until) - start)]
    except (CursorExpired, SlowConsumer):
        return [Missed(until, Gap(GapReason.CURSOR_EXPIRED, after, until))]


class Following:
    """
    The events since the command was sent, the outcome when it is known, and the end as the mode says.

    A value that is asked again and again, and no generator: those who are between it and the caller are enough of them.
    """

    __slots__ = ("_mode", "_over", "_released", "_run", "_subscription", "told")

    def __init__(self, run: CommandRun, mode: Follow, subscription: Subscription) -> None:
        self._run = run
        self._mode = mode
        self._subscription = subscription
        self._released = nothing_to_release(run.command.effects)
        self._over = False
        #: Whether the outcome was given.
        self.told = False

    async def more(self, deadline: Deadline) -> list[Update]:
        """
        Wait for what is new and return it, at the end nothing.

        Raises the run's failure, `DeadlineExceeded`, `Draining`, `SlowConsumer`, or what the inspector's log ended
        with.
        """
        run, subscription = self._run, self._subscription
        while not self._over:
            if entries := subscription.take(_room(run, subscription, told=self.told)):
                self._released = self._released or any(_releases(run, entry) for entry in entries)
                return [_update(entry) for entry in entries]
            if run.failure is not None:
                raise run.failure.afresh()
            verdict = run.verdict
            if verdict is not None and not self.told:
                self.told = True
                self._over = self._mode is not Follow.UNTIL_RELEASED or not verdict.confirmed
                return [Outcome(subscription.cursor, verdict)]
            if self.told and self._released:
                break
            await _wait(run, subscription, deadline, told=self.told)
        return []


def too_late(run: CommandRun, cursor: str, *, told: bool = False) -> DeadlineExceeded:
    """Say what is known of a command when its caller's deadline comes; `told` is whether the outcome was told."""
    method = run.command.method
    if not run.sent:
        return DeadlineExceeded(f"the deadline came before {method} was sent: nothing was done", "not_sent", cursor)
    if told:
        what = "was confirmed, and the deadline came before the inspector left the call: watch the events on"
        return DeadlineExceeded(f"{method} {what} from the cursor", "confirmed", cursor)
    if run.answered:
        return DeadlineExceeded(
            f"{method} was sent and the deadline came before its effect was known: "
            f"watch the inspector's events from the cursor, and set the deadline longer than confirm_within",
            "unknown",
            cursor,
        )
    return DeadlineExceeded(
        f"{method} was sent and the deadline came before the gateway answered: it may have been executed",
        "unknown",
        cursor,
    )


async def _wait(run: CommandRun, subscription: Subscription, deadline: Deadline, *, told: bool) -> None:
    """Wait for an event or the verdict; raises when none can be waited for any more."""
    if subscription.draining:
        # Plain `Draining` invites a repetition, which would be a second command.
        if run.doubted is not None:
            raise run.doubted.afresh()
        raise Draining(subscription.cursor, "confirmed" if told else "accepted")
    if not await subscription.wait(deadline.remaining_seconds, to_the_end=told):
        raise too_late(run, subscription.cursor, told=told)


def _update(entry: Entry) -> Update:
    if isinstance(entry.item, AgentEvent):
        return Told(entry.cursor, entry.item, entry.logged_at)
    return Missed(entry.cursor, entry.item)


def _room(run: CommandRun, subscription: Subscription, *, told: bool) -> int:
    """How many entries to take at once: none behind the place of an outcome that is still to be told."""
    if run.verdict is None or told:
        return _BATCH
    return max(0, min(_BATCH, run.verdict.sequence - subscription.position))


def _releases(run: CommandRun, entry: Entry) -> bool:
    verdict = run.verdict
    return (
        verdict is not None
        and verdict.confirmed is True
        and entry.sequence > verdict.confirmed_at
        and isinstance(entry.item, AgentEvent)
        and releases(entry.item.event_type, run.command.effects)
    )
