"""
The trace of a call, by the OpenTelemetry API: with an SDK spans are recorded, without one there are still ids.

What stands in spans is decided where it is known: `rpc.call_traces` and `gateway.request_spans`.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from qc_adapter.telemetry.correlation import enter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opentelemetry.trace import Span, Tracer, TracerProvider

    Attributes = Mapping[str, str | int | float | bool]

SCOPE: Final = "qc_adapter"
_PROPAGATOR: Final = TraceContextTextMapPropagator()
_NOWHERE: Final = Context()


class CallTrace:
    """
    Where one call is in its trace.

    `recorded` says whether anything about it is kept: without that nothing needs to be put together. `exemplar` is what
    a measurement of the call carries, None when nobody keeps its trace.
    """

    __slots__ = ("_tracer", "began_ns", "exemplar", "recorded", "span", "trace_id")

    def __init__(self, tracer: Tracer, span: Span) -> None:
        place = span.get_span_context()
        self._tracer = tracer
        self.span = span
        self.recorded = span.is_recording()
        self.began_ns = time.time_ns() if self.recorded else 0
        self.trace_id = trace.format_trace_id(place.trace_id)
        self.exemplar = {"trace_id": self.trace_id} if place.trace_flags.sampled else None

    def step(self, name: str, kind: SpanKind = SpanKind.INTERNAL, attributes: Attributes | None = None) -> Span:
        """Begin a span for something that is done within the call."""
        return self._tracer.start_span(name, trace.set_span_in_context(self.span, _NOWHERE), kind, attributes)

    def linked(self, name: str, attributes: Attributes, began_ns: int) -> None:
        """Record something that belongs to the call and is over now, in a trace of its own: a stream may last days."""
        link = Link(self.span.get_span_context())
        self._tracer.start_span(name, _NOWHERE, SpanKind.PRODUCER, attributes, [link], began_ns).end()


class Tracing:
    """Begins the traces of calls."""

    def __init__(
        self, provider: TracerProvider | None = None, random_bytes: Callable[[int], bytes] = os.urandom
    ) -> None:
        """Without a provider that of the process is taken, which records nothing unless somebody has set one."""
        self._tracer = (provider or trace.get_tracer_provider()).get_tracer(SCOPE)
        self._random_bytes = random_bytes

    def begin(self, name: str, headers: Mapping[str, str], attributes: Attributes) -> CallTrace:
        """Begin the trace of a call, in the caller's if its headers name one; a broken header is ignored."""
        # What is no traceparent by the standard is no error: the trace then begins here.
        where = _PROPAGATOR.extract(headers, _NOWHERE) if "traceparent" in headers else _NOWHERE
        span = self._tracer.start_span(name, where, SpanKind.SERVER, attributes)
        place = span.get_span_context()
        if not place.is_valid or place.is_remote:  # no SDK: it gave back what it got
            span = NonRecordingSpan(self._own(place))
        made = CallTrace(self._tracer, span)
        enter(made)
        return made

    def _own(self, parent: SpanContext) -> SpanContext:
        """Return a place in the caller's trace, or in a new one that nobody keeps."""
        chance = self._random_bytes(24)
        span_id = int.from_bytes(chance[:8]) or 1
        if parent.is_valid:
            return SpanContext(parent.trace_id, span_id, False, parent.trace_flags, parent.trace_state)
        return SpanContext(int.from_bytes(chance[8:]) or 1, span_id, False, TraceFlags(TraceFlags.DEFAULT))


def traceparent_of(span: Span) -> str:
    """Return the header for whoever is called next."""
    place = span.get_span_context()
    return f"00-{place.trace_id:032x}-{place.span_id:016x}-{place.trace_flags:02x}"
