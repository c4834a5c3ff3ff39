"""Between the call floor and the polls: one agent's events in order, and the polls that wait for them."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Letter:
    """What one poll reply carries: an event, or a whole body given by a test."""

    event: Any = None
    raw: bytes | None = None


@dataclass(frozen=True, slots=True)
class Closed:
    """Why a held poll ended without an event: the sign-in is over."""

    retcode: str


@dataclass(slots=True, eq=False)
class _HeldPoll:
    reply: asyncio.Future[Letter | Closed | None]
    connected: Callable[[], bool]

    def end(self, outcome: Letter | Closed | None) -> bool:
        if self.reply.done():
            return False
        self.reply.set_result(outcome)
        return True


class Mailbox:
    """Destructive queue of one sign-in; an event goes to exactly one poll."""

    __slots__ = ("_held", "_letters", "_limit", "_winner", "on_letter", "overflowed")

    def __init__(self, limit: int, winner: Literal["newest", "oldest"]) -> None:
        self._letters: deque[Letter] = deque()
        self._held: deque[_HeldPoll] = deque()
        self._limit = limit
        self._winner = winner
        self.overflowed = 0
        #: Who fetches letters without a poll: the push of events.
        self.on_letter: Callable[[], None] | None = None

    def __len__(self) -> int:
        return len(self._letters)

    def held_polls(self) -> int:
        """Return how many polls wait whose clients are still there."""
        return sum(poll.connected() for poll in self._held)

    def put(self, letter: Letter) -> None:
        """Give the letter to a waiting poll, or keep it."""
        while self._held:
            poll = self._held.pop() if self._winner == "newest" else self._held.popleft()
            if poll.end(letter):
                return
        if len(self._letters) >= self._limit:
            self._letters.popleft()
            self.overflowed += 1
        self._letters.append(letter)
        if self.on_letter is not None:
            self.on_letter()

    def put_back(self, letter: Letter) -> None:
        """Return a letter whose poll could not carry it; it is the oldest again."""
        self._letters.appendleft(letter)
        if self._held:
            self.put(self._letters.popleft())

    def take(self) -> Letter | None:
        """Take the oldest letter, if there is one."""
        return self._letters.popleft() if self._letters else None

    def oldest(self) -> Letter | None:
        """Look at the oldest letter without taking it."""
        return self._letters[0] if self._letters else None

    async def hold(self, seconds: float, connected: Callable[[], bool]) -> Letter | Closed | None:
        """Wait for a letter; None when the time is over or the poll was let go."""
        loop = asyncio.get_running_loop()
        poll = _HeldPoll(loop.create_future(), connected)
        self._held.append(poll)
        timer = loop.call_later(seconds, poll.end, None)
        try:
            return await poll.reply
        finally:
            timer.cancel()
            if poll in self._held:
                self._held.remove(poll)

    def release(self, outcome: Closed | None = None) -> None:
        """Answer every waiting poll now."""
        while self._held:
            self._held.popleft().end(outcome)
