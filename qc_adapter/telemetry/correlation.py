"""The ids by which one call is found again, in our logs and in those of its caller."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# https://www.w3.org/TR/trace-context/: version, trace id, parent id, flags; later versions may append fields.
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NO_TRACE = "0" * 32
_NO_SPAN = "0" * 16


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A position in a trace, in lower-case hex."""

    trace_id: str
    span_id: str
    sampled: bool

    @property
    def traceparent(self) -> str:
        """The header value for whoever is called next."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"


def parse_traceparent(text: str) -> TraceContext | None:
    """Return the caller's position, or None for a header that the standard says to ignore."""
    match = _TRACEPARENT.fullmatch(text.strip()) if len(text) <= 512 else None
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    if version == "ff" or (version == "00" and more) or trace_id == _NO_TRACE or span_id == _NO_SPAN:
        return None
    return TraceContext(trace_id, span_id, sampled=bool(int(flags, 16) & 1))


class Ids:
    """Makes ids. `random_bytes` is injected by tests that compare whole log lines."""

    def __init__(self, random_bytes: Callable[[int], bytes] = os.urandom) -> None:
        self._random_bytes = random_bytes

    def request_id(self) -> str:
        """Return a new request id: 32 hex digits, which is not the shape of a GUID."""
        return self._random_bytes(16).hex()

    def trace(self, traceparent: str | None) -> TraceContext:
        """Return a new span in the caller's trace, or in a new one that is not sampled."""
        parent = parse_traceparent(traceparent) if traceparent else None
        span_id = self._random_bytes(8).hex()
        if parent is None:
            return TraceContext(self._random_bytes(16).hex(), span_id, sampled=False)
        return TraceContext(parent.trace_id, span_id, sampled=parent.sampled)
