"""The OpenTelemetry SDK put together; imported only where traces are on, for it is an extra."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import get_current_span

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from opentelemetry.context import Context
    from opentelemetry.trace import Link, SpanKind, TraceState
    from opentelemetry.util.types import Attributes

    from qc_adapter.telemetry.export import TracingSettings

_QUIET_SECONDS: Final = 60.0
_EXPORTER_LOG: Final = "opentelemetry.exporter.otlp.proto.grpc.exporter"
_QUEUE_LOG: Final = "opentelemetry.sdk._shared_internal"


class Pipeline:
    """From a finished span to the collector: a queue, a thread that empties it in batches, and a connection."""

    def __init__(self, settings: TracingSettings, own: Mapping[str, str]) -> None:
        """Take what the resource says of us unless OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES do."""
        told = OTELResourceDetector().detect().attributes
        self.provider = TracerProvider(
            sampler=Followed(_sampler_of(settings)),
            resource=Resource.create({**own, **told}),
            shutdown_on_exit=False,  # it would wait for a collector that is away
        )
        self._exporter = OTLPSpanExporter(endpoint=settings.endpoint)
        self._logs = (Sparing(_EXPORTER_LOG, logging.ERROR), Sparing(_QUEUE_LOG, logging.WARNING))

    def start(self) -> None:
        """Start the thread."""
        for one in self._logs:
            one.begin()
        self.provider.add_span_processor(BatchSpanProcessor(self._exporter))

    def flush(self) -> None:
        """Send what is in hand and end the thread; blocks, for long if the collector is away."""
        self.provider.shutdown()

    def give_up(self) -> None:
        """Let a `flush` end that waits for the collector."""
        self._exporter.shutdown()

    def close(self) -> None:
        """Let the libraries log as they did before."""
        for one in self._logs:
            one.end()


class Followed(Sampler):
    """
    Samples what is linked to something that is sampled, and leaves everything else to another sampler.

    An event of a call has a trace of its own. It is recorded when the call is: a second throw of the dice would lose
    most of them.
    """

    def __init__(self, others: Sampler) -> None:
        self._others = others

    def should_sample(  # noqa: PLR0917 - the SDK's own signature
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Decide on one span."""
        if links and not get_current_span(parent_context).get_span_context().is_valid:
            sampled = any(link.context.trace_flags.sampled for link in links)
            return SamplingResult(Decision.RECORD_AND_SAMPLE if sampled else Decision.DROP, attributes)
        return self._others.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        """Return what it is."""
        return f"Followed{{{self._others.get_description()}}}"


class Sparing(logging.Filter):
    """
    Lets a logger say the same thing once a minute, and nothing below a level.

    With a collector that is away the SDK would log two lines every ten seconds, and the queue another one.
    """

    def __init__(self, logger: str, level: int, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._logger = logging.getLogger(logger)
        self._level = level
        self._last: dict[str, float] = {}

    def begin(self) -> None:
        """Begin to filter."""
        self._logger.addFilter(self)

    def end(self) -> None:
        """Filter no more."""
        self._logger.removeFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether a record may pass."""
        now = self._clock()
        if record.levelno < self._level or now - self._last.get(record.msg, -_QUIET_SECONDS) < _QUIET_SECONDS:
            return False
        self._last[record.msg] = now
        return True


def _sampler_of(settings: TracingSettings) -> Sampler:
    kind = settings.sampler.removeprefix("parentbased_")
    roots = {"always_on": ALWAYS_ON, "always_off": ALWAYS_OFF}
    root = roots[kind] if kind in roots else TraceIdRatioBased(settings.ratio)
    return root if kind == settings.sampler else ParentBased(root)
