"""What a trace tells of a request to the gateway: the header that goes along, and a span if the call is recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from opentelemetry.trace import SpanKind, Status, StatusCode

from qc_adapter.gateway.observation import NO_RETCODE, Outcome
from qc_adapter.telemetry.correlation import current_trace
from qc_adapter.telemetry.tracing import traceparent_of

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from qc_adapter.gateway.requests import GatewayRequest
    from qc_adapter.gateway.settings import GatewaySettings
    from qc_adapter.gateway.trip import Trip

#: A refusal is an answer, and what the caller gave up is its own business; these are faults.
_FAULTS: Final = frozenset({Outcome.UNAVAILABLE, Outcome.MISCONFIGURED, Outcome.UNKNOWN, Outcome.POLL_FAILED})


class RequestSpans:
    """
    The spans of one gateway's requests.

    Only what is done for a call has one. Polls and heartbeats belong to nobody: one trace for all of them would never
    end, and one for each would be most of what is recorded.
    """

    def __init__(self, settings: GatewaySettings) -> None:
        parts = urlsplit(settings.base_url)
        self._common: dict[str, str | int] = {
            "server.address": parts.hostname or "",
            "server.port": parts.port or (443 if parts.scheme == "https" else 80),
            "qc.gateway": settings.name,
        }

    def begin(self, trip: Trip, request: GatewayRequest) -> dict[str, str]:
        """Begin the span of a request, and return the headers that say in which trace it is."""
        trace = current_trace()
        if trace is None:
            return {}
        trip.exemplar = trace.exemplar
        if not trace.recorded:
            return {"traceparent": trace.traceparent}
        operation = request.operation
        # The path is told as a template: filled in it may hold ids of calls.
        told: dict[str, str | int] = {
            "http.request.method": operation.verb,
            "url.template": operation.path,
            "qc.method": operation.method,
        }
        trip.span = trace.step(f"{operation.verb} {operation.method}", SpanKind.CLIENT, self._common | told)
        return {"traceparent": traceparent_of(trip.span)}


def end(span: Span, trip: Trip, outcome: Outcome) -> None:
    """End the span of a request. The gateway's words are not repeated: they may quote a GUID."""
    if trip.status:
        span.set_attribute("http.response.status_code", trip.status)
    if trip.retcode != NO_RETCODE:
        span.set_attribute("qc.retcode", trip.retcode)
    span.set_attribute("qc.outcome", outcome.value)
    if outcome in _FAULTS:
        span.set_attribute("error.type", outcome.value)
        span.set_status(Status(StatusCode.ERROR, outcome.value))
    span.end()
