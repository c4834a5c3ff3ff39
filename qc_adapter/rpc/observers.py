"""What is done around every call: it is counted, and it leaves one line in the log."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import structlog
from grpc import StatusCode

from qc_adapter.access.caller import ANONYMOUS
from qc_adapter.v1 import quality_control_pb2 as pb

if TYPE_CHECKING:
    from qc_adapter.rpc.call import Call
    from qc_adapter.telemetry.metrics import Metrics

#: Codes that mean a defect or a fault of ours or of what is behind us, not of the caller.
_FAULTS = frozenset({StatusCode.INTERNAL, StatusCode.UNKNOWN, StatusCode.UNAVAILABLE})
#: The reason of a replica that goes away and ends its streams on purpose.
_LEAVING = "DRAINING"

#: The reason of calls whose caller is not known.
_UNKNOWN: Final = "CALLER_UNKNOWN"
#: Between two lines about refused calls of the same caller.
_REFUSALS_TOLD_SECONDS: Final = 1.0
#: How a command's outcome is called, by the state that its message has.
OUTCOMES: Final = {
    pb.CommandOutcome.STATE_UNSPECIFIED: "accepted",
    pb.CommandOutcome.CONFIRMED: "confirmed",
    pb.CommandOutcome.UNCONFIRMED: "unconfirmed",
}


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
        if call.streaming and call.begun:
            self._metrics.stream_closed(call.service)
        if call.limit:
            self._metrics.call_refused(call.caller_name, call.limit)
        exemplar = None if call.trace is None else call.trace.exemplar
        self._metrics.request_finished(call.gateway, call.method, call.code.name, call.seconds, exemplar)


class CallLog:
    """Writes one line for each finished call; of those that a caller should not have made, at most one a second."""

    def __init__(self) -> None:
        self._log = structlog.get_logger()
        self._refusals = Refusals()

    def began(self, call: Call) -> None:
        """Nothing is logged at the begin."""

    def ended(self, call: Call) -> None:
        """Log the call; fields without a value are left out."""
        sender = _told_in_sum(call)
        count = self._refusals.due(sender, time.monotonic()) if sender else 0
        if sender and not count:
            return
        fault = is_fault(call)
        optional = {
            "reason": call.reason,
            "limit": call.limit,
            "count": count,
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


def _told_in_sum(call: Call) -> str:
    """Return whose refused calls are told in sum: whoever goes over a limit, or nobody knows; else nothing."""
    if call.limit:
        return call.caller.name
    # A stream whose caller was known, and is no longer, has a line of its own.
    unknown = call.reason == _UNKNOWN and call.caller is ANONYMOUS
    return call.peer.rpartition(":")[0] if unknown else ""


class Refusals:
    """Whose refused calls are to be told of, and how many there were: a flood of calls must not be one of lines."""

    def __init__(self) -> None:
        #: By caller, the longest ago first: when the last line was written, and the calls since.
        self._told: dict[str, tuple[float, int]] = {}

    def __len__(self) -> int:
        return len(self._told)

    def due(self, caller: str, now: float) -> int:
        """Count a refused call; return how many there were since the last line if one is due, else 0."""
        told_at, count = self._told.get(caller, (-_REFUSALS_TOLD_SECONDS, 0))
        count += 1
        if now - told_at < _REFUSALS_TOLD_SECONDS:
            self._told[caller] = told_at, count
            return 0
        self._told.pop(caller, None)
        self._forget(now)
        self._told[caller] = now, 0
        return count

    def _forget(self, now: float) -> None:
        """Forget those of before: what they did not tell of is in the metric."""
        for caller in list(self._told):
            if now - self._told[caller][0] < 10 * _REFUSALS_TOLD_SECONDS:
                return
            del self._told[caller]
