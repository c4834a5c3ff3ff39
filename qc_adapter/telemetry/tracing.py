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
from opentelemetry.trace import INVALID_SPAN, Link, NoOpTracer, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from qc_adapter.telemetry.correlation import enter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opentelemetry.trace import Span, Tracer, TracerProvider

    Attributes = Mapping[str, str | int | float | bool]

SCOPE: Final = "qc_adapter"
_PROPAGATOR: Final = TraceContextTextMapPropagator()
_NOWHERE: Final = Context()
_NOTHING: Final = NoOpTracer()


class CallTrace:
    """
    Where one call is in its trace.

    `traceparent` is the header for whoever is called next. `exemplar` is what a measurement of the call carries, None
    when nobody keeps its trace. `recorded` says whether anything about it is kept: without that nothing needs to be put
    together, and there is no span to ask.
    """

    __slots__ = ("_tracer", "began_ns", "exemplar", "recorded", "span", "trace_id", "traceparent")

    def __init__(
        self, traceparent: str, *, sampled: bool, span: Span = INVALID_SPAN, tracer: Tracer | None = None
    ) -> None:
        self.traceparent = traceparent
        self.trace_id = traceparent[3:35]
        self.exemplar = {"trace_id": self.trace_id} if sampled else None
        self.span = span
        self.recorded = span.is_recording()
        self.began_ns = time.time_ns() if self.recorded else 0
        self._tracer = tracer or _NOTHING

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
        """Without a provider that of the process is taken, if somebody has set one."""
        provider = provider or trace.get_tracer_provider()
        records = not isinstance(provider, (trace.ProxyTracerProvider, trace.NoOpTracerProvider))
        self._tracer = provider.get_tracer(SCOPE) if records else None
        self._random_bytes = random_bytes

    def begin(self, name: str, headers: Mapping[str, str], attributes: Attributes) -> CallTrace:
        """Begin the trace of a call, in the caller's if its headers name one."""
        # What is no traceparent by the standard is no error: the trace then begins here.
        where = _PROPAGATOR.extract(headers, _NOWHERE) if "traceparent" in headers else _NOWHERE
        made = (self._tracer and _begun(self._tracer, name, where, attributes)) or self._unrecorded(where)
        enter(made)
        return made

    def _unrecorded(self, where: Context) -> CallTrace:
        """Return a place in the caller's trace, or in a new one that nobody keeps; cheaper than what the API has."""
        chance = self._random_bytes(24).hex()
        if not where:
            return CallTrace(f"00-{chance[:32]}-{chance[32:]}-00", sampled=False)
        parent = trace.get_current_span(where).get_span_context()
        header = f"00-{parent.trace_id:032x}-{chance[32:]}-{parent.trace_flags:02x}"
        return CallTrace(header, sampled=parent.trace_flags.sampled)


def _begun(tracer: Tracer, name: str, where: Context, attributes: Attributes) -> CallTrace | None:
    """Return the place of a new span, None if the SDK is disabled: its spans then are those of the caller."""
    span = tracer.start_span(name, where, SpanKind.SERVER, attributes)
    place = span.get_span_context()
    if not place.is_valid or place.is_remote:
        return None
    return CallTrace(traceparent_of(span), sampled=place.trace_flags.sampled, span=span, tracer=tracer)


def traceparent_of(span: Span) -> str:
    """Return the header for whoever is called within a span."""
    place = span.get_span_context()
    return f"00-{place.trace_id:032x}-{place.span_id:016x}-{place.trace_flags:02x}"
