"""Which data Redis has, as far as this replica knows: after it lost everything it has another name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable


class Generation:
    """The name of the data in Redis, and who is to hear that all of it was lost."""

    def __init__(self) -> None:
        #: Empty until it was asked for.
        self.name = ""
        self._log = structlog.get_logger()
        self._forgotten: list[Callable[[], None]] = []

    def when_forgotten(self, tell: Callable[[], None]) -> None:
        """Call this whenever another name is found."""
        self._forgotten.append(tell)

    def learn(self, name: str) -> None:
        """Note the name that was found."""
        before, self.name = self.name, name
        if before and before != name:
            self._log.warning("store_data_lost")
            for tell in self._forgotten:
                tell()
