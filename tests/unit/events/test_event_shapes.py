"""Examples of each event that inspection needs, as gateways write them, and what becomes of them."""

import json
from pathlib import Path

import pytest

from qc_adapter.events.translate import SHAPES, translate
from qc_adapter.gateway.envelope import RawEvent

EXAMPLES = json.loads((Path(__file__).parents[2] / "data" / "inspection_events.json").read_text())


def translated(event_type, content):
    return translate(RawEvent(event_type, "101", content), 1.5)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example["event_type"])
def test_an_example_gets_its_details(example):
    """A documented event has its typed details and call id, and its content as it came."""
    event = translated(example["event_type"], example["content"])
    assert (event.details.kind, dict(event.details.fields)) == (example["kind"], example["fields"])
    assert event.call_id == example["call_id"]
    assert event.content == example["content"]


def test_every_shape_has_an_example():
    """A new row of the table comes with an example of its event."""
    assert {example["event_type"] for example in EXAMPLES} == set(SHAPES)


@pytest.mark.parametrize("key", ["callid", "callId", "callID"])
def test_a_call_id_is_found_under_each_of_its_names(key):
    """Pages and versions write the key differently; all of them are the call id, also of an unknown event."""
    assert translated("AgentEvent_Talking", {key: "7-1"}).call_id == "7-1"
    assert translated("AgentEvent_FromTheFuture", {key: "7-1"}).call_id == "7-1"


@pytest.mark.parametrize("content", [None, "text", 5, 1.5, True, [], ["a"], {}, {"callid": None}, {"callid": ["x"]}])
def test_an_unknown_event_passes_through(content):
    """A type that no page names has no details and its content whole."""
    event = translated("AgentEvent_FromTheFuture", content)
    assert event.details is None
    assert event.call_id == ""
    assert event.content == content


@pytest.mark.parametrize("reason", ["3", 3])
def test_busy_for_reason_three_is_forced(reason):
    """An inspector who makes an agent busy shows as reason 3, as text or number."""
    assert translated("AgentState_SetNotReady_Success", {"reason": reason}).details.fields["forced"] is True
    assert translated("AgentState_SetNotReady_Success", {"reason": 200}).details.fields["forced"] is False


@pytest.mark.parametrize("value", ["soon", "-1", "1" * 15, 1.5, True, None, {}, "\u0661"])
def test_a_time_that_is_none_is_left_out(value):
    """Only whole milliseconds of our calendar become a time."""
    assert "login_time" not in translated("AgentOther_ShutdownService", {"loginTime": value}).details.fields
