"""Finds the logs that a command needs before it is sent: the inspector's, and that of the agent who will prove it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeVar

from qc_adapter.model.errors import DeadlineExceeded, SessionUnreadable
from qc_adapter.model.session import EventSource

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from qc_adapter.commands.model import Command
    from qc_adapter.commands.run import CommandRun
    from qc_adapter.commands.sending import Sessions
    from qc_adapter.events.feed import Feed
    from qc_adapter.events.hub import Follows
    from qc_adapter.model.deadline import Deadline

T = TypeVar("T")

_LONGEST_SECONDS: Final = 86_400.0


class Witnesses:
    """Follows logs, so that no event can slip by."""

    def __init__(self, sessions: Sessions, follows: Follows) -> None:
        self._sessions = sessions
        self._follows = follows

    async def of(self, run: CommandRun, deadline: Deadline) -> Feed | None:
        """
        Return the log whose events can prove the command, None where nobody reads one.

        Events of the inspected agent come only when that agent has a session here too. Raises like `follow`.
        """
        command = run.command
        if not command.effects.at_target:
            return run.feed
        if not await self._in_time(command, self._is_read(command.target_id), deadline):
            return None
        feed = await self.follow(command, command.target_id, deadline)
        # A session that the gateway has ended brings no events, though it is still stored.
        return feed if feed.ended is None else None

    async def follow(self, command: Command, agent_id: str, deadline: Deadline) -> Feed:
        """Have an agent's log at hand; raises `DeadlineExceeded` and `StoreUnavailable`, and nothing was sent."""
        return await self._in_time(command, self._follows.follow(agent_id), deadline)

    async def _is_read(self, agent_id: str) -> bool:
        try:
            session = await self._sessions.get(agent_id)
        except SessionUnreadable:
            return False  # that is for whoever wrote it to mend; the command needs it for its proof only
        return session is not None and session.event_source is not EventSource.NONE and not session.recovering

    async def _in_time(self, command: Command, asked: Awaitable[T], deadline: Deadline) -> T:
        try:
            async with asyncio.timeout(min(deadline.remaining_seconds, _LONGEST_SECONDS)):
                return await asked
        except TimeoutError:
            raise DeadlineExceeded(
                f"the deadline came before {command.method} was sent: nothing was done", "not_sent"
            ) from None
