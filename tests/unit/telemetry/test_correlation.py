"""How a call is tied to its caller's trace."""

from __future__ import annotations

import pytest

from qc_adapter.telemetry.correlation import Ids, TraceContext, parse_traceparent

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("text", "sampled"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f" 00-{TRACE}-{SPAN}-03 ", True),
        (f"01-{TRACE}-{SPAN}-01-more", True),
    ],
)
def test_a_traceparent_is_read(text, sampled):
    """Version 0, and later ones as far as they are alike."""
    assert parse_traceparent(text) == TraceContext(TRACE, SPAN, sampled=sampled)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "rubbish",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"01-{TRACE}-{SPAN}-01-{'x' * 600}",
    ],
)
def test_a_broken_traceparent_is_ignored(text):
    """A header that the standard says to ignore starts a new trace, and is no error."""
    assert parse_traceparent(text) is None
    assert Ids().trace(text).trace_id != TRACE


def test_a_call_goes_on_in_its_caller_s_trace():
    """The trace and the sampling are the caller's, the span is ours."""
    ids = Ids(lambda size: b"\x11" * size)
    span = ids.trace(f"00-{TRACE}-{SPAN}-01")
    assert span == TraceContext(TRACE, "11" * 8, sampled=True)
    assert span.traceparent == f"00-{TRACE}-{'11' * 8}-01"
    assert parse_traceparent(span.traceparent) == span


def test_made_ids_differ_and_are_hex():
    """An id is 32 hex digits, new each time."""
    ids = Ids()
    made = {ids.request_id() for _ in range(100)} | {ids.trace(None).trace_id for _ in range(100)}
    assert len(made) == 200
    assert all(len(one) == 32 and int(one, 16) >= 0 for one in made)
