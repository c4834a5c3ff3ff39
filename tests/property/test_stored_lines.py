"""An item of a log is the same after it stood in Redis, and any release can read what another wrote."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qc_adapter.events.model import AgentEvent, GapReason
from qc_adapter.events.shapes import SHAPES
from qc_adapter.events.stored import call_ids, from_line, to_call_ids, to_line
from qc_adapter.events.translate import translate
from qc_adapter.gateway.envelope import RawEvent

texts = st.text(st.characters(codec="utf-8"), max_size=12)
keys = st.sampled_from(sorted({key for shape in SHAPES.values() for names in shape.keys.values() for key in names}))
# More than the gateway package lets through: half characters and numbers of any length.
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**80), 2**80)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(), max_size=8)
)
contents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys | texts, inner, max_size=4),
    max_leaves=12,
)
types = st.sampled_from(sorted(SHAPES)) | texts.filter(bool)


def nested(depth, inner=None):
    for level in range(depth):
        inner = [inner] if level % 2 else {"a": inner}
    return inner


@given(types, texts, contents, st.none() | st.integers(-(2**63), 2**63 - 1), st.floats(0, 4e9))
@example("AgentEvent_Talking", "101", {"callid": "7-1"}, 1_700_000_000_123, 1_700_000_000.125)
@example("AgentEvent_Talking", "101", {"callid": 2**70}, None, 0.0)
@example("AgentState_Busy", "101", "\ud800", None, 0.0)
@example("AgentState_Busy", "101", {"\udfff": "\ud800"}, None, 0.0)
@example("gap", "101", {"gap": "TAKEOVER"}, None, 0.0)
@example("AgentState_Busy", "101", nested(90), None, 0.0)
@example("AgentState_Busy", "101", nested(90, 2**70), None, 0.0)
@example("a\nb", "101", "\n\r\x00\x7f\u2028", None, 0.0)
def test_an_event_comes_back_whole(event_type, work_no, content, gateway_time_ms, received_at):
    """Type, agent, times, content and the typed details are the same, and a line has no line break."""
    event = translate(RawEvent(event_type, work_no, content, gateway_time_ms), received_at)
    line = to_line(event)
    assert b"\n" not in line
    assert from_line(line) == event


@pytest.mark.parametrize("reason", list(GapReason))
def test_a_gap_comes_back_with_its_reason(reason):
    """A gap stays what it is."""
    assert from_line(to_line(reason)) is reason


@pytest.mark.parametrize("reason", ["SOMETHING_NEW", "", None, 7])
def test_a_gap_of_a_newer_release_is_a_gap(reason):
    """A reason that this release does not know hides no gap."""
    assert from_line(json.dumps({"gap": reason, "note": "new"}).encode()) is GapReason.LOG_LOST


def test_fields_of_a_newer_release_are_left_alone():
    """What a later release adds to an event does not hinder this one."""
    line = to_line(AgentEvent("AgentState_Busy", "101", None, None, 1.0))
    assert from_line(line[:-1] + b',"colour":"red"}') == from_line(line)


@given(st.frozensets(st.text(st.characters(codec="utf-8"), max_size=20), max_size=5))
def test_calls_come_back(talking):
    """The calls an inspector talks on are the same, none of them as an empty text."""
    assert call_ids(to_call_ids(talking)) == talking
    assert bool(to_call_ids(talking)) == bool(talking)
