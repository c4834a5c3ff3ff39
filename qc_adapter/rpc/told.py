"""What a Watch stream has told of its session by bookmarks, and when that is to be told anew."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from qc_adapter.events.leases import PollState
from qc_adapter.v1 import sessions_pb2 as sessions

if TYPE_CHECKING:
    from qc_adapter.events.feed import Feed

#: Nobody says when the skills and the monitoring are back after a recovery, so that is looked at.
_LOOK_SECONDS: Final = 1.0
#: What is told of a session that nothing is the matter with.
_PLAIN: Final = (sessions.SESSION_STATE_ACTIVE, sessions.SESSION_STATE_UNSPECIFIED)


class Told:
    """As long as nothing else was told a session counts as active: that a first poll was answered is no news."""

    def __init__(self) -> None:
        self._seen = PollState.ACTIVE
        self._told: int = sessions.SESSION_STATE_ACTIVE
        self._told_at = time.monotonic()
        self._sure = False

    def outdated(self, feed: Feed) -> bool:
        """Whether the reader says something new; one that has just begun says nothing yet."""
        return feed.state not in (None, self._seen)

    def patience(self, feed: Feed, bookmark_seconds: float) -> float:
        """Return how long to wait for events until something else is to be told, or looked at."""
        return _LOOK_SECONDS if self._settling(feed) else bookmark_seconds

    def in_doubt(self, feed: Feed) -> bool:
        """Whether a recovery may have something to say, too."""
        return not self._sure or self.outdated(feed) or self._told not in _PLAIN

    def worth_telling(self, feed: Feed, state: int, bookmark_seconds: float) -> bool:
        """Take note of the state. A recovery that is not over yet is told again only when a bookmark is due."""
        now = time.monotonic()
        again = self._settling(feed) and state == self._told and now - self._told_at < bookmark_seconds
        self._seen, self._sure = feed.state or self._seen, True
        if not again:
            self._told, self._told_at = state, now
        return not again

    def _settling(self, feed: Feed) -> bool:
        """Whether the session was said to recover, and is read again."""
        return self._told == sessions.SESSION_STATE_RECOVERING and feed.state is not PollState.RECOVERING
