"""
Lines about single inspectors, for logs that stay readable when something happens to all of them at once.

When a gateway goes away under 20,000 polls, the first hundred lines tell what happened, and one more how many there
would have been. Metrics and the inspectors' own event logs leave nothing out.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import structlog

from qc_adapter.model.inspector import gateway_of

if TYPE_CHECKING:
    from collections.abc import Callable

#: So many lines of a kind are written within so long, at each gateway.
MOST_LINES: Final = 100
WINDOW_SECONDS: Final = 10.0

Level: TypeAlias = Literal["info", "warning", "error"]


@dataclass(slots=True)
class _Window:
    """The lines of one kind since a moment: how many there were."""

    ends_at: float
    lines: int = 0


class CrowdLog:
    """Writes a line each, as long as there are not too many of its kind; `sum_up` is to be called now and then."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._windows: dict[tuple[str, str, str], _Window] = {}
        self._log = structlog.get_logger()

    def write(self, level: Level, event: str, agent_id: str, *, kind: str = "", **fields: Any) -> None:
        """Write a line about an inspector, or count it; lines of one event that differ in `kind` are counted apart."""
        key = (event, gateway_of(agent_id), kind)
        window = self._windows.get(key)
        if window is None:
            window = self._windows[key] = _Window(self._clock() + WINDOW_SECONDS)
        window.lines += 1
        if window.lines <= MOST_LINES:
            getattr(self._log, level)(event, agent_id=agent_id, **fields)

    def sum_up(self, *, all_of_them: bool = False) -> None:
        """Say what was left out in times that are over, or in all; after that lines are written again."""
        now = self._clock()
        over = [key for key, window in self._windows.items() if all_of_them or window.ends_at <= now]
        for key in over:
            left_out = self._windows.pop(key).lines - MOST_LINES
            if left_out > 0:
                event, gateway, kind = key
                self._log.warning("lines_left_out", gateway=gateway, of=event, reason=kind, count=left_out)
