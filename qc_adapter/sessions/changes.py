"""Who is told of what becomes of sessions without anybody asking for it."""

from __future__ import annotations

from typing import Protocol


class Changes(Protocol):
    """Puts it on record."""

    def changed(self, event: str, agent_id: str, retcode: str = "") -> None:
        """Note what happened, by its name in the log: signed_in_again, session_lost, ..."""
        ...


class Teller:
    """Passes it on to whoever keeps records, if somebody does."""

    def __init__(self) -> None:
        self._to: Changes | None = None

    def tell(self, to: Changes) -> None:
        """Tell this one from now on."""
        self._to = to

    def changed(self, event: str, agent_id: str, retcode: str = "") -> None:
        """Pass it on."""
        if self._to is not None:
            self._to.changed(event, agent_id, retcode)
