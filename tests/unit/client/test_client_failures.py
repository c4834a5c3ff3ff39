"""How a status is taken apart, and what the helper makes of it."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode

from qc_adapter import client
from qc_adapter.client import CallFailed, OutcomeUnknown, take_apart

NOTHING = grpc.aio.Metadata()


def status(*details, domain="qc-adapter", reason="DRAINING", **metadata):
    """An error as gRPC raises it, with details as the adapter packs them."""
    info = error_details_pb2.ErrorInfo(reason=reason, domain=domain, metadata=metadata)
    packed = []
    for detail in (*details, info):
        packed.append(AnyMessage())
        packed[-1].Pack(detail)
    trailing = grpc.aio.Metadata(("grpc-status-details-bin", status_pb2.Status(details=packed).SerializeToString()))
    return grpc.aio.AioRpcError(StatusCode.UNAVAILABLE, NOTHING, trailing, details="going away")


def test_a_status_of_the_adapter_is_taken_apart():
    """Code, reason, message, metadata, and how long to wait."""
    retry = error_details_pb2.RetryInfo(retry_delay=Duration(seconds=1, nanos=500_000_000))
    failure = take_apart(status(retry, cursor="c-1", outcome="accepted", retcode="000-004"))
    assert (failure.code, failure.reason, failure.message) == (StatusCode.UNAVAILABLE, "DRAINING", "going away")
    assert (failure.cursor, failure.outcome, failure.retcode) == ("c-1", "accepted", "000-004")
    assert (failure.ours, failure.retry_after_seconds) == (True, 1.5)
    assert str(failure) == "UNAVAILABLE DRAINING: going away"


def test_a_status_without_details_is_not_ours():
    """What stands before the adapter answers without them, or with its own."""
    bare = take_apart(grpc.aio.AioRpcError(StatusCode.INTERNAL, NOTHING, NOTHING))
    assert (bare.ours, bare.reason, bare.message) == (False, "", "no details")
    foreign = take_apart(status(domain="mesh", cursor="x"))
    assert (foreign.ours, foreign.reason, foreign.cursor, foreign.retry_after_seconds) == (False, "", "", None)


@pytest.mark.parametrize(
    ("failure", "may_have_run"),
    [
        (CallFailed(StatusCode.UNAVAILABLE, "Socket closed"), True),
        (CallFailed(StatusCode.UNAVAILABLE, "connections to all backends failing; last error: reset"), False),
        (CallFailed(StatusCode.UNAVAILABLE, "failed to connect to all addresses"), False),
        (CallFailed(StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded"), True),
        (CallFailed(StatusCode.UNAUTHENTICATED, "who are you"), False),
        (CallFailed(StatusCode.UNAVAILABLE, "m", "DRAINING", ours=True), False),
        (CallFailed(StatusCode.UNAVAILABLE, "m", "DRAINING", {"outcome": "accepted"}, ours=True), True),
        (CallFailed(StatusCode.UNKNOWN, "m", "OUTCOME_UNKNOWN", ours=True), True),
        (CallFailed(StatusCode.DEADLINE_EXCEEDED, "m", "", {"outcome": "not_sent"}, ours=True), False),
    ],
    ids=str,
)
def test_only_what_certainly_did_nothing_is_said_to_have_done_nothing(failure, may_have_run):
    """Whatever is in doubt counts as executed."""
    assert failure.may_have_run is may_have_run


@pytest.mark.parametrize(
    ("failure", "passing"),
    [
        (CallFailed(StatusCode.UNAVAILABLE, "m"), True),
        (CallFailed(StatusCode.CANCELLED, "m"), True),
        (CallFailed(StatusCode.CANCELLED, "m", "CLIENT_CLOSED"), False),
        (CallFailed(StatusCode.UNIMPLEMENTED, "m"), False),
        (CallFailed(StatusCode.RESOURCE_EXHAUSTED, "m", "SLOW_CONSUMER", ours=True), True),
        (CallFailed(StatusCode.RESOURCE_EXHAUSTED, "m", "LIMIT_REACHED", ours=True, retry_after_seconds=0.1), True),
        (CallFailed(StatusCode.RESOURCE_EXHAUSTED, "m", "LIMIT_REACHED", ours=True), False),
        (CallFailed(StatusCode.INTERNAL, "m", "INTERNAL", ours=True), False),
        (CallFailed(StatusCode.UNKNOWN, "m", "GATEWAY_REFUSED", ours=True), False),
        (CallFailed(StatusCode.UNKNOWN, "m", "GATEWAY_REFUSED", ours=True, retry_after_seconds=1.0), True),
    ],
    ids=str,
)
def test_what_passes_by_itself_is_known(failure, passing):
    """An answer of the adapter is final unless it says otherwise; a broken way to it is not."""
    assert failure.passing is passing


def test_an_unknown_outcome_invites_no_repetition():
    """With the outcome in doubt the error is an OutcomeUnknown, and RetryInfo of the last stream is dropped."""
    failure = CallFailed(StatusCode.UNAVAILABLE, "m", "DRAINING", {"cursor": "c-2"}, ours=True, retry_after_seconds=1.0)
    unknown = failure.located("c-1", "mine", "unknown")
    assert isinstance(unknown, OutcomeUnknown)
    assert (unknown.cursor, unknown.request_id, unknown.outcome) == ("c-1", "mine", "unknown")
    assert unknown.retry_after_seconds is None
    known = failure.located("", "mine")
    assert not isinstance(known, OutcomeUnknown)
    assert (known.cursor, known.retry_after_seconds) == ("c-2", 1.0)


def test_the_public_names_are_listed():
    """What the package offers is what it lists, in order."""
    visible = {name for name, value in vars(client).items() if name[0] != "_" and not hasattr(value, "__path__")}
    modules = {name for name in visible if type(vars(client)[name]).__name__ == "module"}
    assert sorted(visible - modules) == sorted(client.__all__)
