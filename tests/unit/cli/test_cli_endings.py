"""Which exit code a failed call ends with, and how updates are shown."""

from __future__ import annotations

import io

import pytest
from google.protobuf.json_format import ParseDict
from grpc import StatusCode

from qc_adapter.cli.exits import Exit
from qc_adapter.cli.output import Output, printable
from qc_adapter.cli.refusals import exit_code_of, to_failed
from qc_adapter.cli.updates import update_parts, watch_parts
from qc_adapter.client import CallFailed
from qc_adapter.rpc.errors import BY_ERROR, BY_RETCODE
from qc_adapter.v1 import events_pb2, quality_control_pb2


def test_every_answer_of_the_adapter_has_an_exit_code():
    """No reason ends with "usage", and what may be repeated ends with 4."""
    for answer in (*BY_ERROR.values(), *BY_RETCODE.values()):
        code = exit_code_of(
            CallFailed(answer.code, "m", answer.reason, ours=True, retry_after_seconds=1.0 if answer.retry else None)
        )
        assert code in {Exit.UNEXPECTED, Exit.REFUSED, Exit.UNAVAILABLE, Exit.UNKNOWN}
        assert answer.retry == (code is Exit.UNAVAILABLE)


@pytest.mark.parametrize(
    ("failure", "exit_code"),
    [
        (CallFailed(StatusCode.UNKNOWN, "m", "OUTCOME_UNKNOWN", ours=True), Exit.UNKNOWN),
        (CallFailed(StatusCode.UNKNOWN, "m", "GATEWAY_REFUSED", ours=True), Exit.REFUSED),
        (CallFailed(StatusCode.UNKNOWN, "m"), Exit.UNKNOWN),
        (
            CallFailed(StatusCode.DEADLINE_EXCEEDED, "m", "DEADLINE_EXCEEDED", {"outcome": "not_sent"}, ours=True),
            Exit.UNAVAILABLE,
        ),
        (
            CallFailed(StatusCode.DEADLINE_EXCEEDED, "m", "DEADLINE_EXCEEDED", {"outcome": "unknown"}, ours=True),
            Exit.UNKNOWN,
        ),
        (CallFailed(StatusCode.DEADLINE_EXCEEDED, "m"), Exit.UNKNOWN),
    ],
)
def test_what_is_not_known_is_not_called_refused(failure, exit_code):
    """A script must not repeat what may have been done."""
    assert exit_code_of(failure) is exit_code


def test_a_command_under_way_when_the_adapter_drains_is_left_open():
    """It may have been sent; one that was refused at the door was not."""
    gone = CallFailed(StatusCode.UNAVAILABLE, "m", "DRAINING", {"cursor": "m-1"}, ours=True, retry_after_seconds=1.0)
    accepted = CallFailed(
        StatusCode.UNAVAILABLE, "m", "DRAINING", {"outcome": "accepted"}, ours=True, retry_after_seconds=1.0
    )
    at_the_door = CallFailed(StatusCode.UNAVAILABLE, "m", "DRAINING", ours=True, retry_after_seconds=1.0)
    assert to_failed(gone, "here:1", may_have_run=True).exit_code is Exit.UNKNOWN
    assert to_failed(accepted, "here:1").exit_code is Exit.UNKNOWN
    assert to_failed(at_the_door, "here:1", may_have_run=True).exit_code is Exit.UNAVAILABLE


@pytest.mark.parametrize(
    ("message", "exit_code"),
    [
        ("failed to connect to all addresses; last error: Connection refused (111)", Exit.UNAVAILABLE),
        ("failed to connect to all addresses; last error: Network is unreachable", Exit.UNAVAILABLE),
        ("DNS resolution failed for nowhere:1", Exit.UNAVAILABLE),
        ("Socket closed", Exit.UNKNOWN),
        ("recvmsg: Connection reset by peer", Exit.UNKNOWN),
    ],
)
def test_a_connection_that_broke_leaves_a_command_open(message, exit_code):
    """Only what never left this machine is certainly not done."""
    failure = CallFailed(StatusCode.UNAVAILABLE, message)
    assert to_failed(failure, "here:1", may_have_run=True).exit_code is exit_code


def test_who_gets_no_connection_is_told_what_to_give():
    """What a server with mutual TLS says to a stranger is a closed socket; what to give stands in the advice."""
    closed = "connections to all backends failing; last error: UNAVAILABLE: ipv4:127.0.0.1:1: Socket closed"
    assert "--cert-file" in to_failed(CallFailed(StatusCode.UNAVAILABLE, closed), "here:1").advice
    other = "last error: Custom verification check failed with error: Hostname Verification Check failed."
    told = to_failed(CallFailed(StatusCode.UNAVAILABLE, other), "here:1")
    assert str(told) == "the certificate of here:1 is for other names"
    assert "--target" in told.advice
    assert "--cert-file" not in told.advice


def shown(parts):
    """The line as text."""
    out = io.StringIO()
    Output(out=out, notes=out).line(*parts)
    return out.getvalue()


def test_a_gap_is_loud():
    """Whoever reads the lines cannot miss it."""
    message = ParseDict({"gap": {"reason": "POLL_REPLY_LOST", "from": "a-1", "to": "a-3"}}, events_pb2.WatchResponse())
    assert shown(watch_parts(message)) == (
        "GAP: EVENTS MAY BE MISSING HERE (POLL_REPLY_LOST) after a-1, certain again at a-3\n"
    )


def test_what_others_wrote_cannot_steer_the_terminal():
    """Control characters of the gateway or a customer's number are made visible."""
    assert printable("a\x1b[2Jb\nc\u202ed") == "a?[2Jb?c?d"
    event = {"event": {"eventType": "Odd\x1b[31m", "talking": {"caller": "1\r2"}}}
    line = shown(update_parts(ParseDict(event, quality_control_pb2.CommandUpdate())))
    assert "\x1b" not in line
    assert "\r" not in line


def test_a_line_is_never_broken_outside_a_terminal():
    """A pipe gets one line for one update, however long it is."""
    event = {"event": {"eventType": "New", "content": {"text": "x" * 90, "more": "y" * 500}}}
    line = shown(update_parts(ParseDict(event, quality_control_pb2.CommandUpdate())))
    assert line.count("\n") == 1
    assert line.endswith("...\n")


def test_an_outcome_names_what_is_missing():
    """A confirmed intercept without a recording says so."""
    outcome = {"outcome": {"state": "CONFIRMED", "missingEventTypes": ["AgentMediaEvent_Record"], "callId": "1-1"}}
    line = shown(update_parts(ParseDict(outcome, quality_control_pb2.CommandUpdate())))
    assert line.split() == ["outcome", "CONFIRMED", "call_id=1-1", "missing:", "AgentMediaEvent_Record"]
