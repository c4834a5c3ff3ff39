"""What is done around every call: it is counted, and it leaves one line in the log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from grpc import StatusCode

from qc_adapter.access.caller import ANONYMOUS

if TYPE_CHECKING:
    from qc_adapter.rpc.calls import Call
    from qc_adapter.telemetry.metrics import Metrics

#: Codes that mean a defect or a fault of ours or of what is behind us, not of the caller.
_FAULTS = frozenset({StatusCode.INTERNAL, StatusCode.UNKNOWN, StatusCode.UNAVAILABLE})
#: The reason of a replica that goes away and ends its streams on purpose.
_LEAVING = "DRAINING"


def is_fault(call: Call) -> bool:
    """Whether the call ended with something that somebody has to mend."""
    return call.code in _FAULTS and call.reason != _LEAVING


class CallMetrics:
    """Counts calls and open streams."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def began(self, call: Call) -> None:
        """Count an open stream."""
        if call.streaming:
            self._metrics.stream_opened(call.service)

    def ended(self, call: Call) -> None:
        """Count the call."""
        if call.streaming:
            self._metrics.stream_closed(call.service)
        exemplar = None if call.trace is None else call.trace.exemplar
        self._metrics.request_finished(call.gateway, call.method, call.code.name, call.seconds, exemplar)


class CallLog:
    """Writes one line for each finished call."""

    def __init__(self) -> None:
        self._log = structlog.get_logger()

    def began(self, call: Call) -> None:
        """Nothing is logged at the begin."""

    def ended(self, call: Call) -> None:
        """Log the call; fields without a value are left out."""
        fault = is_fault(call)
        optional = {
            "reason": call.reason,
            # What a caller did wrong may repeat his words; what is ours to mend is said in our own.
            "detail": call.detail if fault else "",
            "retcode": call.retcode,
            "outcome": call.outcome,
            "agent_id": call.agent_id,
            "work_no": call.work_no,
            "request_id": call.request_id,
            "caller": "" if call.caller is ANONYMOUS else call.caller.name,
        }
        write = self._log.warning if fault else self._log.info
        write(
            "call_finished",
            method=call.method,
            rpc=call.rpc,
            grpc_code=call.code.name,
            **{name: value for name, value in optional.items() if value},
            duration_ms=round(call.seconds * 1000, 3),
            peer=call.peer,
            trace_id=call.trace_id,
        )
