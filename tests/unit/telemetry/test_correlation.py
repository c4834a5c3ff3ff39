"""How a call is tied to its caller's trace, with no SDK in the process."""

from __future__ import annotations

import asyncio
from contextvars import Context

import pytest

from qc_adapter.telemetry.correlation import current_trace
from qc_adapter.telemetry.tracing import Tracing

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"


def begin(traceparent=None):
    """Begin the trace of a call with that header."""
    headers = {} if traceparent is None else {"traceparent": traceparent}
    tracing = Tracing(random_bytes=lambda size: b"\x11" * size)
    return Context().run(tracing.begin, "call", headers, {})  # this test's own context stays as it is


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        (f"00-{TRACE}-{SPAN}-01", "01"),
        (f"00-{TRACE}-{SPAN}-00", "00"),
        (f" 00-{TRACE}-{SPAN}-03 ", "03"),
        (f"01-{TRACE}-{SPAN}-01-more", "01"),
    ],
)
def test_a_call_goes_on_in_its_callers_trace(text, flags):
    """The trace and the sampling are the caller's, the span is ours, also in a header of a later version."""
    made = begin(text)
    assert made.trace_id == TRACE
    assert made.traceparent == f"00-{TRACE}-{'11' * 8}-{flags}"
    assert made.exemplar == ({"trace_id": TRACE} if int(flags, 16) & 1 else None)
    assert not made.recorded


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
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
    """A header that the standard says to ignore begins a new trace that nobody keeps, and is no error."""
    made = begin(text)
    assert made.traceparent == f"00-{'11' * 16}-{'11' * 8}-00"
    assert made.exemplar is None


async def test_what_a_call_starts_is_done_for_it_and_nothing_else_is():
    """Tasks that a call starts know its trace; a task in a context of its own does not, nor does who comes before."""

    async def seen():
        return current_trace()

    async def call():
        made = Tracing().begin("call", {}, {})
        own = asyncio.create_task(seen())
        apart = asyncio.create_task(seen(), context=Context())
        return made, await own, await apart

    made, own, apart = await asyncio.create_task(call())
    assert own is made
    assert apart is None
    assert current_trace() is None
