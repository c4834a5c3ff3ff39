"""What the audit log is told of calls: one record for each command and session change, and of refused callers."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from grpc import StatusCode

from qc_adapter.access.caller import ANONYMOUS
from qc_adapter.audit.log import OURSELVES
from qc_adapter.audit.record import utc
from qc_adapter.rpc.call import shown
from qc_adapter.rpc.observers import OUTCOMES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qc_adapter.audit.log import AuditLog
    from qc_adapter.commands.run import CommandRun
    from qc_adapter.rpc.call import Call

COMMANDS: Final = "QualityControl"
#: `Feed` is not among them: it brings what the gateway said, many times a second.
SESSION_CHANGES: Final = frozenset({"SignIn", "SignOut", "Adopt", "UpdateGuid"})
#: Whoever is refused so is recorded whatever he asked for.
_NOT_THEIRS: Final = frozenset({"CALLER_UNKNOWN", "CALLER_NOT_ALLOWED"})
#: After these nobody knows whether what was sent was done.
_IN_DOUBT: Final = frozenset(
    {StatusCode.CANCELLED, StatusCode.DEADLINE_EXCEEDED, StatusCode.UNKNOWN, StatusCode.INTERNAL}
)
_WITH_CALL: Final = frozenset({"Intercept", "ForceDropCall"})
_WITH_GROUP: Final = frozenset({"Monitor", "StopMonitoring"})
#: A list that nobody has checked may hold anything, and much of it.
_UNCHECKED: Final = 10


@dataclass(slots=True)
class Noted:
    """What a record needs of a call's request and messages."""

    #: It may hold a password.
    request: Any = field(default=None, repr=False)
    answered_ms: float | None = None
    accepted: bool = False
    written: bool = False


class CallAudit:
    """Observes calls, and is asked before each whether there will be a record of it."""

    def __init__(self, log: AuditLog) -> None:
        self.log = log

    def open(self, call: Call, request: Any) -> None:
        """Note what the call asks for; raises `AuditUnavailable`. Whoever is not allowed to is recorded with it."""
        if not _recorded(call):
            return
        call.noted = noted = Noted(request)
        if call.streaming:
            call.witness = partial(self._heard, call, noted)
        self.log.require()

    def began(self, call: Call) -> None:
        """Nothing is known yet."""

    def ended(self, call: Call) -> None:
        """Record the call, unless its outcome was told before its stream ended."""
        noted = call.noted or Noted()
        if noted.written:
            return
        if not call.passed:
            if call.reason in _NOT_THEIRS or (call.reason and _recorded(call)):
                self._refused(call, noted)
        elif _recorded(call):
            self.log.add(self._record(call, noted, _outcome(call, noted)))
        elif call.reason in _NOT_THEIRS:  # it lost its right while it read
            self._refused(call, noted)

    def settled(self, run: CommandRun, label: str) -> None:
        """Record what became of a command whose caller has not waited for it: his own record could not say."""
        command = run.command
        fields = {
            "event": "command_settled",
            "caller": OURSELVES,
            "method": command.method,
            "agent_id": command.agent_id,
            "work_no": command.work_no,
            "work_nos": list(command.work_nos),
            "request_id": command.request_id,
            "outcome": "not_sent" if label == "unavailable" else label,
            "trace_id": run.trace_id,
        }
        self.log.add({name: value for name, value in fields.items() if value})

    def _heard(self, call: Call, noted: Noted, message: Any) -> None:
        """Note the gateway's answer, and record the call when it is known what became of it."""
        kind = message.WhichOneof("update")
        if kind == "accepted":
            noted.accepted, noted.answered_ms = True, _ms(call)
        elif kind == "outcome" and not noted.written:
            self.log.add(self._record(call, noted, OUTCOMES[message.outcome.state]))
            noted.written = True

    def _refused(self, call: Call, noted: Noted) -> None:
        if noted.request is not None and not call.agent_id:
            call.about(noted.request.agent_id, getattr(noted.request, "work_no", ""))
        known = call.caller is not ANONYMOUS
        host = call.peer.rpartition(":")[0]
        self.log.refused(call.caller.name if known else "", host, self._record(call, noted, "refused", "call_refused"))

    def _record(self, call: Call, noted: Noted, outcome: str, event: str = "") -> dict[str, Any]:
        command = call.service == COMMANDS
        done = noted.accepted or (call.code is StatusCode.OK and not command and call.method != call.rpc)
        fields = {
            "event": event or ("command" if command else "session_change"),
            "time": utc(time.time() - call.seconds),
            "duration_ms": _ms(call),
            "answered_ms": noted.answered_ms,
            "caller": call.caller.name,
            "caller_name": call.caller_name,
            "peer": call.peer,
            "service": call.service,
            "rpc": call.rpc,
            "method": call.method,
            "agent_id": call.agent_id,
            "work_no": call.work_no,
            "call_id": shown(noted.request.call_id) if call.rpc in _WITH_CALL and noted.request else "",
            "request_id": call.request_id,
            "grpc_code": call.code.name,
            "reason": call.reason,
            "retcode": call.retcode or ("0" if done else ""),
            "outcome": outcome,
            "trace_id": call.trace_id,
        }
        if call.rpc in _WITH_GROUP and noted.request:
            fields |= _group(noted.request.work_nos, checked=bool(noted.accepted or call.outcome or call.retcode))
        return {name: value for name, value in fields.items() if value}


def _recorded(call: Call) -> bool:
    return call.service == COMMANDS or call.rpc in SESSION_CHANGES


def _ms(call: Call) -> float:
    return round(call.seconds * 1000, 3)


def _group(work_nos: Sequence[str], *, checked: bool) -> dict[str, Any]:
    if checked or len(work_nos) <= _UNCHECKED:
        return {"work_nos": [shown(one) for one in work_nos]}
    return {"work_nos": [shown(one) for one in work_nos[:_UNCHECKED]], "work_nos_count": len(work_nos)}


def _outcome(call: Call, noted: Noted) -> str:
    """Return what is known of the effect of a call that has ended."""
    if call.outcome or noted.accepted:
        return call.outcome or "accepted"
    if call.code is StatusCode.OK:
        return "done"
    if call.reason == "GATEWAY_MISCONFIGURED":
        return "not_sent"
    if call.code in _IN_DOUBT or call.reason in _NOT_THEIRS:
        return "unknown"  # it may be on its way
    return "refused" if call.retcode or call.code is not StatusCode.UNAVAILABLE else "not_sent"
