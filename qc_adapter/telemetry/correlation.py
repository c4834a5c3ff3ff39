"""
Which call is being worked on: whatever is done for it is found again by its trace id.

A context variable carries it, so it reaches the tasks that a call starts and no other ones. It is our own, and not a
field that structlog binds: one look at it for each log line costs less than a dictionary that is merged into it.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qc_adapter.telemetry.tracing import CallTrace

_current: ContextVar[CallTrace | None] = ContextVar("qc_adapter_trace", default=None)


def current_trace() -> CallTrace | None:
    """Return the trace of the call that is being worked on, None outside of calls."""
    return _current.get()


def enter(trace: CallTrace) -> None:
    """Note that everything from here on, in this task and those that it starts, is done for the call."""
    _current.set(trace)
