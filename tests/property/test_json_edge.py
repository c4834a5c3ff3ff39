"""What the gateway writes into an event never breaks the way to the caller."""

import json

import orjson
import pytest
from google.protobuf.json_format import MessageToDict, MessageToJson
from google.protobuf.struct_pb2 import Value
from hypothesis import given
from hypothesis import strategies as st

from qc_adapter.events.model import AgentEvent, Details
from qc_adapter.events.shapes import SHAPES
from qc_adapter.events.translate import translate
from qc_adapter.gateway.envelope import RawEvent
from qc_adapter.rpc.convert import event_message, set_json, timestamp
from qc_adapter.v1 import events_pb2

EXACT = 2**53

# What the JSON parser of the gateway package can return: numbers of 64 bits, finite, text without half characters.
texts = st.text(st.characters(codec="utf-8"), max_size=12)
whole = st.integers(-(2**63), 2**64 - 1)
scalars = st.none() | st.booleans() | whole | st.floats(allow_nan=False, allow_infinity=False) | texts
keys = st.sampled_from(sorted({key for shape in SHAPES.values() for names in shape.keys.values() for key in names}))
contents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys | texts, inner, max_size=4),
    max_leaves=12,
)


def as_told(content):
    """JSON as a reader of protobuf gets it: whole numbers that a double cannot hold become text."""
    if isinstance(content, dict):
        return {key: as_told(value) for key, value in content.items()}
    if isinstance(content, list):
        return [as_told(value) for value in content]
    if isinstance(content, int) and not isinstance(content, bool) and abs(content) > EXACT:
        return str(content)
    return content


def json_value(content):
    value = Value()
    set_json(value, content)
    return value


@given(contents)
def test_json_comes_through_whole(content):
    """Any JSON of the gateway is the same JSON for the caller; numbers that would be rounded are text."""
    assert MessageToDict(json_value(content)) == as_told(content)


@pytest.mark.parametrize("number", [EXACT, -EXACT, EXACT + 1, -EXACT - 1, 2**63, 2**64 - 1, 0, -1])
def test_the_border_of_exact_numbers(number):
    """A whole number is a number up to 2**53 and text beyond, so that no digit is lost."""
    value = json_value(number)
    if abs(number) <= EXACT:
        assert value.number_value == number
    else:
        assert value.string_value == str(number)


@pytest.mark.parametrize("wrap", [lambda inner: [inner], lambda inner: {"a": inner}], ids=["lists", "objects"])
@pytest.mark.parametrize("depth", [1, 23, 24, 25, 90])
def test_deep_json_survives_the_wire(wrap, depth):
    """Nesting deeper than readers of protobuf accept becomes JSON text; the message can always be read."""
    content = "core"
    for _ in range(depth):
        content = wrap(content)
    message = events_pb2.WatchResponse(
        event=event_message("c", AgentEvent("AgentEvent_New", "101", content, None, 0.0))
    )
    read = events_pb2.WatchResponse.FromString(message.SerializeToString())
    told = MessageToDict(read.event.content)
    while not isinstance(told, str):
        told = told[0] if isinstance(told, list) else told["a"]
    while told != "core":
        told = orjson.loads(told)
        while not isinstance(told, str):
            told = told[0] if isinstance(told, list) else told["a"]


@given(st.sampled_from([*SHAPES, "AgentEvent_New", ""]), texts, contents, st.none() | whole)
def test_no_content_breaks_an_event(event_type, work_no, content, gateway_time_ms):
    """Every content of every type becomes a message that can be written as JSON, with the content in it."""
    event = translate(RawEvent(event_type, work_no, content, gateway_time_ms), 1_700_000_000.25)
    message = event_message("cursor", event)
    assert json.loads(MessageToJson(message))["eventType" if event_type else "cursor"] == (event_type or "cursor")
    assert MessageToDict(message.content) == as_told(content)
    shape = SHAPES.get(event_type)
    assert message.WhichOneof("details") == (None if shape is None else shape.kind)
    assert event.call_id == (event.call_id if event.details is None else event.details.fields.get("call_id", ""))


@given(st.integers(0, 253_402_300_799_999))
def test_the_gateway_time_keeps_its_milliseconds(milliseconds):
    """A caller who asks for milliseconds gets the very number that the gateway sent."""
    event = AgentEvent("AgentEvent_New", "101", None, milliseconds, 0.0)
    assert event_message("c", event).gateway_time.ToMilliseconds() == milliseconds


@given(st.integers(0, 99_999_999_999_999))
def test_times_in_details_keep_their_milliseconds(milliseconds):
    """Begin and end of a recording are told to the millisecond."""
    details = Details("record", {"phase": 3, "begin_time": milliseconds})
    event = AgentEvent("AgentMediaEvent_StopRecordDone", "101", None, None, 0.0, details=details)
    assert event_message("c", event).record.begin_time.ToMilliseconds() == milliseconds


@pytest.mark.parametrize("milliseconds", [-(2**63), -62_135_596_800_001, 253_402_300_800_000, 2**64 - 1])
def test_a_time_outside_the_calendar_is_left_out(milliseconds):
    """A nonsense time of the gateway is no time; it must not make the message unreadable."""
    message = event_message("c", AgentEvent("AgentEvent_New", "101", None, milliseconds, 0.0))
    assert not message.HasField("gateway_time")


@given(st.floats(0.0, 4e9))
def test_our_own_times_are_valid_timestamps(seconds):
    """A time of our clock is a timestamp within a microsecond of it."""
    assert abs(timestamp(seconds).ToNanoseconds() / 1e9 - seconds) < 1e-6
