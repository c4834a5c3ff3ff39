"""The one table from errors to answers: whole, closed, and equal to what the design promises."""

import pytest
from google.rpc import error_details_pb2
from grpc import StatusCode

from qc_adapter.gateway.retcodes import RETCODES
from qc_adapter.model import errors
from qc_adapter.model.session import EventSource
from qc_adapter.rpc.errors import BY_ERROR, BY_RETCODE, DOMAIN, answer_to, answer_to_retcode, to_status
from qc_adapter.telemetry.metrics import GRPC_CODES

#: Only raised as one of their subclasses.
ABSTRACT = {errors.AdapterError, errors.GatewayError}

SAMPLES = (
    errors.CallerUnknown("show a token"),
    errors.CallerUnverifiable("the keys are not there yet"),
    errors.CallerNotAllowed("dns:desk", "intercept for inspector 101"),
    errors.InvalidRequest([("agent_id", "is required")]),
    errors.NotSignedIn("101"),
    errors.SessionLost("101", "100-006"),
    errors.SessionConflict("101", "100-002"),
    errors.SessionRecovering("101"),
    errors.SessionUnreadable("101", "its version is not 1"),
    errors.SessionBusy("101"),
    errors.EventsReadElsewhere("101", EventSource.POLL),
    errors.GatewayRefused("intercept", "900-003", "wrong state"),
    errors.GatewayUnavailable("intercept", "nothing was sent"),
    errors.GatewayMisconfigured("intercept", "HTTP 403"),
    errors.OutcomeUnknown("intercept", "no retcode"),
    errors.PollFailed("getAgentEvent", "cut", event_may_be_lost=True),
    errors.DeadlineExceeded("too late", "unknown", "m-1"),
    errors.RequestIdReused("once"),
    errors.InvalidCursor(),
    errors.LimitReached("calls", "too many calls at once", 0.25),
    errors.AuditUnavailable(),
    errors.CursorExpired("m-1", "m-2"),
    errors.SlowConsumer("m-1"),
    errors.StoreUnavailable("get", "no answer"),
    errors.InternalFault(),
    errors.TooManyStreams(4000),
    errors.Draining("m-1"),
)

#: The rows of the design: retcodes, status, reason, RetryInfo.
BY_DESIGN = (
    (("000-002", "000-006", "100-001"), "INVALID_ARGUMENT", "GATEWAY_BAD_PARAMETER", False),
    (("000-005",), "INVALID_ARGUMENT", "SELF_INSPECTION", False),
    (("000-003", "100-006", "100-008"), "FAILED_PRECONDITION", "INSPECTOR_SESSION_LOST", False),
    (("900-002", "100-015"), "PERMISSION_DENIED", "NO_INSPECTION_RIGHT", False),
    (("900-003", "900-005", "100-009", "100-010"), "FAILED_PRECONDITION", "WRONG_INSPECTION_STATE", False),
    (("900-004",), "NOT_FOUND", "AGENT_UNKNOWN", False),
    (("000-007", "100-021"), "ABORTED", "GATEWAY_BUSY_WITH_SAME_CALL", False),
    (("000-004",), "UNAVAILABLE", "GATEWAY_SWITCHING_OVER", True),
    (("900-001", "100-003", "105-002"), "UNAVAILABLE", "GATEWAY_UNAVAILABLE", True),
)

#: The same for what the adapter itself finds.
OWN_BY_DESIGN = (
    (errors.NotSignedIn, "FAILED_PRECONDITION", "INSPECTOR_NOT_SIGNED_IN", False),
    (errors.SessionLost, "FAILED_PRECONDITION", "INSPECTOR_SESSION_LOST", False),
    (errors.SessionConflict, "FAILED_PRECONDITION", "SESSION_CONFLICT", False),
    (errors.SessionRecovering, "UNAVAILABLE", "INSPECTOR_RECOVERING", True),
    (errors.GatewayUnavailable, "UNAVAILABLE", "GATEWAY_UNAVAILABLE", True),
    (errors.GatewayMisconfigured, "INTERNAL", "GATEWAY_MISCONFIGURED", False),
    (errors.OutcomeUnknown, "UNKNOWN", "OUTCOME_UNKNOWN", False),
    (errors.DeadlineExceeded, "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", False),
    (errors.StoreUnavailable, "UNAVAILABLE", "STORE_UNAVAILABLE", True),
    (errors.SlowConsumer, "RESOURCE_EXHAUSTED", "SLOW_CONSUMER", False),
    (errors.CursorExpired, "OUT_OF_RANGE", "CURSOR_EXPIRED", False),
    (errors.RequestIdReused, "ALREADY_EXISTS", "REQUEST_ID_REUSED", False),
)


def subclasses(kind):
    """Every class below that one."""
    return {kind} | {found for child in kind.__subclasses__() for found in subclasses(child)}


def details(status):
    """The details of a status by their type."""
    found = {}
    for kind in (
        error_details_pb2.ErrorInfo,
        error_details_pb2.BadRequest,
        error_details_pb2.PreconditionFailure,
        error_details_pb2.RetryInfo,
    ):
        for packed in status.details:
            message = kind()
            if packed.Unpack(message):
                found[kind.__name__] = message
    assert len(found) == len(status.details)
    return found


def test_every_error_has_an_answer():
    """A new error class without a row in the table fails here, not in front of a caller."""
    concrete = subclasses(errors.AdapterError) - ABSTRACT
    assert concrete == set(BY_ERROR) | {errors.GatewayRefused}


def test_every_error_is_tried_here():
    """The samples of this file cover the whole tree."""
    assert {type(sample) for sample in SAMPLES} == subclasses(errors.AdapterError) - ABSTRACT


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)
def test_every_status_explains_itself(error):
    """Each answer carries ErrorInfo with our domain, and the details that its kind of answer promises."""
    answer, status = to_status(error, "intercept")
    found = details(status)
    assert status.code == answer.code.value[0] != 0
    assert status.message
    assert found["ErrorInfo"].domain == DOMAIN
    assert found["ErrorInfo"].reason == answer.reason
    assert found["ErrorInfo"].metadata["method"] == getattr(error, "method", "intercept")
    assert ("RetryInfo" in found) == answer.retry
    assert ("BadRequest" in found) == isinstance(error, errors.InvalidRequest)
    assert ("PreconditionFailure" in found) == (answer.code is StatusCode.FAILED_PRECONDITION)


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)
def test_only_what_was_not_done_invites_a_repetition(error):
    """RetryInfo stands where the status is UNAVAILABLE, which clients repeat by themselves, and where no slot was."""
    answer = answer_to(error)
    assert answer.retry == (
        answer.code is StatusCode.UNAVAILABLE or isinstance(error, errors.TooManyStreams | errors.LimitReached)
    )


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)
def test_the_answer_is_countable(error):
    """Every status that a caller can get is in the closed set of the metric's label."""
    assert answer_to(error).code.name in GRPC_CODES


@pytest.mark.parametrize("code", sorted(set(RETCODES) | set(BY_RETCODE)))
def test_no_refusal_looks_like_success(code):
    """Every retcode of the table has a status, a refusal is never OK, and nothing but UNAVAILABLE invites a retry."""
    answer = answer_to_retcode(code)
    assert answer.code is not StatusCode.OK
    assert answer.code.name in GRPC_CODES
    assert answer.reason
    assert answer.retry == (answer.code is StatusCode.UNAVAILABLE)


@pytest.mark.parametrize("code", ["", "0", "1", "999-999", "900-999", "abc", "123-456", "100-"])
def test_an_unlisted_retcode_promises_nothing(code):
    """A code that is in no table is refused by its group or as UNKNOWN, and never said to be safe to repeat."""
    answer = answer_to_retcode(code)
    assert answer.code not in {StatusCode.OK, StatusCode.UNAVAILABLE}
    assert answer.reason == "GATEWAY_REFUSED"


@pytest.mark.parametrize(
    ("code", "status", "reason", "retry"),
    [(code, *row) for codes, *row in BY_DESIGN for code in codes],
)
def test_a_retcode_is_answered_as_designed(code, status, reason, retry):
    """The rows of the design's error table hold for the gateway's codes, which the details repeat."""
    answer, told = to_status(errors.GatewayRefused("intercept", code, ""), "intercept")
    info = details(told)["ErrorInfo"]
    assert (answer.code.name, answer.reason, answer.retry) == (status, reason, retry)
    assert info.metadata["retcode"] == code
    assert "outcome" not in info.metadata


@pytest.mark.parametrize(("kind", "status", "reason", "retry"), OWN_BY_DESIGN, ids=str)
def test_an_own_finding_is_answered_as_designed(kind, status, reason, retry):
    """The rows of the design's error table hold for what the adapter itself finds."""
    answer = BY_ERROR[kind]
    assert (answer.code.name, answer.reason, answer.retry) == (status, reason, retry)


@pytest.mark.parametrize("reason", ["INVALID_AGENT_ID", "SELF_INSPECTION", "INVALID_ARGUMENT"])
def test_a_bad_request_names_its_fields_and_reason(reason):
    """INVALID_ARGUMENT says which field breaks which rule."""
    answer, status = to_status(errors.InvalidRequest([("work_no", "is required")], reason), "")
    violation = details(status)["BadRequest"].field_violations[0]
    assert (answer.code, answer.reason) == (StatusCode.INVALID_ARGUMENT, reason)
    assert (violation.field, violation.description) == ("work_no", "is required")


@pytest.mark.parametrize(
    ("error", "metadata"),
    [
        (errors.OutcomeUnknown("intercept", "no retcode"), {"method": "intercept", "outcome": "unknown"}),
        (
            errors.DeadlineExceeded("late", "not_sent", "m-1"),
            {"method": "listen", "outcome": "not_sent", "cursor": "m-1"},
        ),
        (errors.SlowConsumer("m-7"), {"method": "listen", "cursor": "m-7"}),
        (errors.Draining("m-8"), {"method": "listen", "cursor": "m-8"}),
        (errors.SessionLost("101", "100-006"), {"method": "listen", "retcode": "100-006"}),
    ],
    ids=["unknown", "deadline", "slow", "draining", "lost"],
)
def test_metadata_lets_a_caller_go_on(error, metadata):
    """The details carry what a caller needs next: outcome, cursor, retcode; empty values are left out."""
    _, status = to_status(error, "listen")
    assert dict(details(status)["ErrorInfo"].metadata) == metadata


def test_a_sent_command_is_never_to_be_repeated():
    """Draining invites a repetition only when nothing was sent."""
    _, unsent = to_status(errors.Draining("m-1"), "intercept")
    _, sent = to_status(errors.Draining("m-1", "accepted"), "intercept")
    assert "RetryInfo" in details(unsent)
    assert "RetryInfo" not in details(sent)
    assert details(sent)["ErrorInfo"].metadata["outcome"] == "accepted"


def test_a_defect_of_ours_says_nothing_about_itself():
    """INTERNAL refers to the log; the cause is not the caller's business."""
    _, status = to_status(errors.InternalFault(), "")
    assert status.code == StatusCode.INTERNAL.value[0]
    assert details(status)["ErrorInfo"].reason == "INTERNAL"
    assert "RetryInfo" not in details(status)
