"""An event of the gateway as a message: its content and its details are there as they came."""

import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Value

from qc_adapter.events.model import AgentEvent, Details
from qc_adapter.rpc.convert import event_message, set_json


def deep(levels):
    return {"in": deep(levels - 1)} if levels else "end"


@pytest.mark.parametrize(
    "content",
    [None, True, False, 0, -1.5, 2**53, "", "text", {}, [], [None, [], {}], {"": {"a": [1, {"b": "c"}], "d": None}}],
    ids=repr,
)
def test_json_comes_back_as_it_was(content):
    """Whatever the gateway sends in its content is the same for a reader of the message, empty things too."""
    value = Value()
    set_json(value, content)
    assert MessageToDict(value) == content
    assert value.WhichOneof("kind") is not None


def test_what_a_value_cannot_hold_becomes_text():
    """A number that a double would change, and what readers find too deep, are told as they were written."""
    value = Value()
    set_json(value, {"number": 2**53 + 1, "levels": deep(30)})
    found = MessageToDict(value)
    assert found["number"] == "9007199254740993"
    levels, depth = found["levels"], 0
    while isinstance(levels, dict):
        levels, depth = levels["in"], depth + 1
    assert levels == '{"in":' * (30 - depth) + '"end"' + "}" * (30 - depth)
    assert depth == 23


def test_details_without_a_field_are_there():
    """The kind of an event shows even if nothing else of it is known; a time that is none is left out."""
    event = AgentEvent("AgentEvent_Talking", "101", None, -1, 1.5, details=Details("talking", {}))
    message = event_message("cursor", event)
    assert (message.WhichOneof("details"), message.HasField("gateway_time")) == ("talking", False)
    assert (message.received_time.seconds, message.received_time.nanos) == (1, 500_000_000)


def test_times_in_details_are_whole_milliseconds():
    """What the gateway counts in milliseconds comes back as exactly that."""
    event = AgentEvent(
        "AgentMediaEvent_Record", "101", {}, 1_700_000_000_123, 1.5, details=Details("record", {"begin_time": 1_001})
    )
    message = event_message("cursor", event)
    assert message.gateway_time.ToMilliseconds() == 1_700_000_000_123
    assert message.record.begin_time.ToMilliseconds() == 1_001
