"""
The one table from what went wrong to what a caller is told.

`docs/errors.md` and `qc-adapter explain` are made from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode

from qc_adapter.gateway.retcodes import Category, describe, tells_full
from qc_adapter.model import errors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.message import Message

DOMAIN: Final = "qc-adapter"
RETRY_SECONDS: Final = 1


@dataclass(frozen=True, slots=True)
class Answer:
    """What a caller is told: a status, a stable reason, and whether a later repetition can help."""

    code: StatusCode
    reason: str
    retry: bool = False


#: Return codes with a reason of their own; every other one is answered by its category.
BY_RETCODE: Final[Mapping[str, Answer]] = {
    **dict.fromkeys(("000-002", "000-006", "100-001"), Answer(StatusCode.INVALID_ARGUMENT, "GATEWAY_BAD_PARAMETER")),
    "000-005": Answer(StatusCode.INVALID_ARGUMENT, "SELF_INSPECTION"),
    **dict.fromkeys(
        ("000-003", "100-006", "100-008", "105-005", "105-006", "105-007"),
        Answer(StatusCode.FAILED_PRECONDITION, "INSPECTOR_SESSION_LOST"),
    ),
    **dict.fromkeys(("900-002", "100-015"), Answer(StatusCode.PERMISSION_DENIED, "NO_INSPECTION_RIGHT")),
    **dict.fromkeys(
        ("900-003", "900-005", "100-009", "100-010"),
        Answer(StatusCode.FAILED_PRECONDITION, "WRONG_INSPECTION_STATE"),
    ),
    "900-004": Answer(StatusCode.NOT_FOUND, "AGENT_UNKNOWN"),
    **dict.fromkeys(("000-007", "100-021"), Answer(StatusCode.ABORTED, "GATEWAY_BUSY_WITH_SAME_CALL")),
    "000-004": Answer(StatusCode.UNAVAILABLE, "GATEWAY_SWITCHING_OVER", retry=True),
    **dict.fromkeys(
        ("900-001", "100-003", "105-002"), Answer(StatusCode.UNAVAILABLE, "GATEWAY_UNAVAILABLE", retry=True)
    ),
}

#: What the adapter itself finds. `GatewayRefused` is answered by its return code.
BY_ERROR: Final[Mapping[type[errors.AdapterError], Answer]] = {
    errors.CallerUnknown: Answer(StatusCode.UNAUTHENTICATED, "CALLER_UNKNOWN"),
    errors.CallerUnverifiable: Answer(StatusCode.UNAVAILABLE, "CALLER_KEYS_UNAVAILABLE", retry=True),
    errors.CallerNotAllowed: Answer(StatusCode.PERMISSION_DENIED, "CALLER_NOT_ALLOWED"),
    errors.InvalidRequest: Answer(StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT"),
    errors.NotSignedIn: Answer(StatusCode.FAILED_PRECONDITION, "INSPECTOR_NOT_SIGNED_IN"),
    errors.SessionLost: Answer(StatusCode.FAILED_PRECONDITION, "INSPECTOR_SESSION_LOST"),
    errors.SessionConflict: Answer(StatusCode.FAILED_PRECONDITION, "SESSION_CONFLICT"),
    errors.SessionRecovering: Answer(StatusCode.UNAVAILABLE, "INSPECTOR_RECOVERING", retry=True),
    errors.SessionUnreadable: Answer(StatusCode.FAILED_PRECONDITION, "INSPECTOR_SESSION_UNREADABLE"),
    errors.SessionBusy: Answer(StatusCode.ABORTED, "GATEWAY_BUSY_WITH_SAME_CALL"),
    errors.EventsReadElsewhere: Answer(StatusCode.FAILED_PRECONDITION, "EVENTS_READ_HERE"),
    errors.GatewayUnavailable: Answer(StatusCode.UNAVAILABLE, "GATEWAY_UNAVAILABLE", retry=True),
    errors.GatewayMisconfigured: Answer(StatusCode.INTERNAL, "GATEWAY_MISCONFIGURED"),
    errors.OutcomeUnknown: Answer(StatusCode.UNKNOWN, "OUTCOME_UNKNOWN"),
    errors.PollFailed: Answer(StatusCode.UNAVAILABLE, "GATEWAY_UNAVAILABLE", retry=True),
    errors.DeadlineExceeded: Answer(StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"),
    errors.RequestIdReused: Answer(StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED"),
    errors.InvalidCursor: Answer(StatusCode.INVALID_ARGUMENT, "INVALID_CURSOR"),
    errors.CursorExpired: Answer(StatusCode.OUT_OF_RANGE, "CURSOR_EXPIRED"),
    errors.SlowConsumer: Answer(StatusCode.RESOURCE_EXHAUSTED, "SLOW_CONSUMER"),
    errors.StoreUnavailable: Answer(StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE", retry=True),
    errors.InternalFault: Answer(StatusCode.INTERNAL, "INTERNAL"),
    errors.TooManyStreams: Answer(StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS", retry=True),
    errors.LimitReached: Answer(StatusCode.RESOURCE_EXHAUSTED, "LIMIT_REACHED", retry=True),
    errors.AuditUnavailable: Answer(StatusCode.UNAVAILABLE, "AUDIT_UNAVAILABLE", retry=True),
    errors.Draining: Answer(StatusCode.UNAVAILABLE, "DRAINING", retry=True),
}

_REFUSED: Final = "GATEWAY_REFUSED"
_FULL: Final = Answer(StatusCode.RESOURCE_EXHAUSTED, _REFUSED)
_BY_CATEGORY: Final[Mapping[Category, Answer]] = {
    category: Answer(StatusCode[category.name], _REFUSED, retry=category is Category.UNAVAILABLE)
    for category in Category
    if category is not Category.OK
}


def answer_to_retcode(retcode: str) -> Answer:
    """Return what a caller is told about a refusal with that code; never fails."""
    found = BY_RETCODE.get(retcode)
    if found is not None:
        return found
    return _BY_CATEGORY.get(describe(retcode).category, Answer(StatusCode.UNKNOWN, _REFUSED))


def answer_to(error: errors.AdapterError) -> Answer:
    """Return what a caller is told about an error."""
    if isinstance(error, errors.GatewayRefused):
        return _FULL if tells_full(error.text) else answer_to_retcode(error.retcode)
    answer = BY_ERROR[type(error)]
    if isinstance(error, errors.InvalidRequest):
        return Answer(answer.code, error.reason)
    return answer


def to_status(error: errors.AdapterError, method: str) -> tuple[Answer, status_pb2.Status]:
    """Return the answer and its `google.rpc.Status`; `method` is the gateway's name of the operation or empty."""
    answer = answer_to(error)
    message = error.message
    if isinstance(error, errors.GatewayRefused):
        known = describe(error.retcode)
        message = f"{error.message} ({known.meaning}). {known.advice} {error.seen.hint}".rstrip()
    status = status_pb2.Status(code=answer.code.value[0], message=message)
    _add(status, error_details_pb2.ErrorInfo(reason=answer.reason, domain=DOMAIN, metadata=_metadata(error, method)))
    if isinstance(error, errors.InvalidRequest):
        _add(status, _bad_request(error))
    elif answer.code is StatusCode.FAILED_PRECONDITION:
        subject = getattr(error, "agent_id", "") or method
        violation = error_details_pb2.PreconditionFailure.Violation(
            type=answer.reason, subject=subject, description=message
        )
        _add(status, error_details_pb2.PreconditionFailure(violations=[violation]))
    seconds = float(getattr(error, "retry_seconds", RETRY_SECONDS))
    if answer.retry and seconds and not outcome_of(error):  # what was sent is not to be repeated
        _add(
            status,
            error_details_pb2.RetryInfo(retry_delay=Duration(nanos=round(seconds % 1 * 1e9), seconds=int(seconds))),
        )
    return answer, status


def outcome_of(error: errors.AdapterError) -> str:
    """Return what is known of the effect of a call that ends so: `not_sent`, `unknown`, ... or nothing."""
    return getattr(error, "outcome", "unknown" if isinstance(error, errors.OutcomeUnknown) else "")


def _metadata(error: errors.AdapterError, method: str) -> dict[str, str]:
    seen = error.seen if isinstance(error, errors.GatewayRefused) else errors.NOTHING_SEEN
    found = {
        "method": getattr(error, "method", "") or method,
        "retcode": getattr(error, "retcode", ""),
        "cursor": getattr(error, "cursor", ""),
        "limit": getattr(error, "limit", ""),
        "outcome": outcome_of(error),
        "inspector_state": seen.inspector_state,
        "inspected_work_no": seen.inspected_work_no,
    }
    return {name: value for name, value in found.items() if value}


def _bad_request(error: errors.InvalidRequest) -> error_details_pb2.BadRequest:
    return error_details_pb2.BadRequest(
        field_violations=[
            error_details_pb2.BadRequest.FieldViolation(field=field, description=what)
            for field, what in error.violations
        ],
    )


def _add(status: status_pb2.Status, detail: Message) -> None:
    packed = AnyMessage()
    packed.Pack(detail)
    status.details.append(packed)
