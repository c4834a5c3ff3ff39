"""What a trace tells of a call: its span with the steps as callers saw them, and a linked one for each event."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.trace import Status, StatusCode

from qc_adapter.events.catalogue import EVENT_TYPES
from qc_adapter.rpc.call import OURS
from qc_adapter.rpc.observers import OUTCOMES, is_fault

if TYPE_CHECKING:
    from qc_adapter.rpc.call import Call
    from qc_adapter.telemetry.tracing import CallTrace, Tracing

#: An event's name may be any text, of any length, by whoever brings it. One that no table has is told as this.
_OTHER: Final = "other"


class CallTraces:
    """
    Gives each call its trace, and tells of it there if it is recorded.

    No span is open as long as a stream: that of a command ends with its outcome, that of a `Watch` when the stream
    stands (open-telemetry/semantic-conventions#3703). Events have spans and traces of their own, linked to it.
    """

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing
        self._known: dict[str, tuple[str, dict[str, str]]] = {}

    def began(self, call: Call) -> None:
        """Begin the trace, in that of the caller if there is one."""
        known = self._known.get(call.rpc)
        if known is None:
            known = self._known[call.rpc] = _names(call)
        trace = self._tracing.begin(known[0], call.metadata, known[1])
        call.trace, call.trace_id = trace, trace.trace_id
        if trace.recorded and call.streaming:
            call.listener = partial(_heard, call, trace)

    def ended(self, call: Call) -> None:
        """End the span, unless it ended before its stream did."""
        if call.trace is not None and call.trace.recorded:
            _end(call, call.trace)


def _names(call: Call) -> tuple[str, dict[str, str]]:
    service = f"{OURS[1:]}{call.service}"
    told = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": call.rpc, "qc.method": call.method}
    return f"{service}/{call.rpc}", told


def _heard(call: Call, trace: CallTrace, message: Any) -> None:
    """Note what a message said that was just written."""
    kind = message.WhichOneof("update")
    span = trace.span
    if kind == "accepted":
        span.add_event("accepted", {"qc.retcode": "0"})
    elif kind == "event":
        event_type = message.event.event_type if message.event.event_type in EVENT_TYPES else _OTHER
        if span.is_recording():
            span.add_event("event", {"qc.event_type": event_type})
        read_ns, now_ns = message.event.received_time.ToNanoseconds(), time.time_ns()
        # The span lasts from the reading of the event to this writing of it; what is told again has only the latter.
        began_ns = read_ns if trace.began_ns <= read_ns <= now_ns else now_ns
        trace.linked(f"event {event_type}", {"qc.event_type": event_type, **_whom(call)}, began_ns)
    elif kind == "gap":
        trace.linked("gap", {"qc.gap_reason": message.gap.reason, **_whom(call)}, time.time_ns())
    elif kind == "outcome":
        outcome = OUTCOMES[message.outcome.state]
        missing = tuple(message.outcome.missing_event_types)
        span.add_event("outcome", {"qc.outcome": outcome} | ({"qc.missing_event_types": missing} if missing else {}))
        _end(call, trace, outcome)
    elif kind == "subscribed":
        _end(call, trace)


def _end(call: Call, trace: CallTrace, outcome: str = "") -> None:
    span = trace.span
    if not span.is_recording():
        return
    told = {
        "qc.reason": call.reason,
        "qc.retcode": call.retcode,
        "qc.outcome": outcome or call.outcome,
        "qc.work_no": call.work_no,
    }
    span.set_attributes({name: value for name, value in told.items() if value} | _whom(call))
    span.set_attribute("rpc.grpc.status_code", call.code.value[0])
    if is_fault(call):
        span.set_attribute("error.type", call.reason or call.code.name)
        span.set_status(Status(StatusCode.ERROR, call.reason))
    span.end()


def _whom(call: Call) -> dict[str, str]:
    """Return whom the call is about, as in its log line."""
    if not call.agent_id:
        return {}
    return {"qc.agent_id": call.agent_id, "qc.gateway": call.gateway}
