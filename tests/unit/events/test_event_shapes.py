"""Examples of each event of the catalogue, as gateways write them, and what becomes of them."""

import json
from pathlib import Path

import pytest

from qc_adapter.commands.confirm import Confirmation, releases
from qc_adapter.events.catalogue import EVENT_TYPES
from qc_adapter.events.event_table import ROWS
from qc_adapter.events.model import Entry
from qc_adapter.events.shapes import MONITORED_KINDS, SHAPES
from qc_adapter.events.standing import Phase, Standing
from qc_adapter.events.stored import from_line, to_line
from qc_adapter.events.translate import translate
from qc_adapter.gateway import operations
from qc_adapter.gateway.envelope import RawEvent

EXAMPLES = json.loads((Path(__file__).parents[2] / "data" / "gateway_events.json").read_text())


def translated(event_type, content):
    return translate(RawEvent(event_type, "101", content), 1.5)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example["event_type"])
def test_an_example_gets_its_details(example):
    """A known event has its typed details, if there are any for it, its call id, and its content as it came."""
    event = translated(example["event_type"], example["content"])
    kind, fields = (None, {}) if event.details is None else (event.details.kind, event.details.fields)
    assert (kind, dict(fields)) == (example["kind"], example["fields"])
    assert event.call_id == example["call_id"]
    assert event.content == example["content"]


def test_catalogue_examples_and_shapes_agree():
    """Each type of the catalogue has an example, and whatever gets details or has an example is in the catalogue."""
    assert [example["event_type"] for example in EXAMPLES] == list(EVENT_TYPES)
    assert set(SHAPES) <= set(EVENT_TYPES)
    assert len(EVENT_TYPES) == len(ROWS) == 83


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example["event_type"])
def test_an_example_is_as_the_catalogue_says(example):
    """The content has the keys and types that the catalogue lists, and no others."""
    known, content = EVENT_TYPES[example["event_type"]], example["content"]
    if isinstance(content, str):
        assert known.bare_call_id
        return
    assert not known.bare_call_id
    given = {key: value for key, value in (content or {}).items() if key != "jsonKey"}
    assert given.keys() <= {field.name for field in known.fields}
    if content is not None:
        assert {field.name for field in known.fields if not field.optional} <= given.keys()
    types = {"text": str, "number": int, "mixed": (str, int), "address": dict}
    for field in known.fields:
        assert field.name not in given or isinstance(given[field.name], types[field.kind])


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


def test_either_spelling_may_be_empty():
    """A11: of two spellings that come together the one that says something counts."""
    assert translated("AgentChat_Ring", {"callid": "", "callId": "7-1"}).call_id == "7-1"
    fields = translated("AgentMediaEvent_Record", {"recordID": "", "recordId": "r"}).details.fields
    assert fields["record_id"] == "r"


@pytest.mark.parametrize("agent", ["292", 292, " 292 "])
def test_news_of_a_monitored_agent_is_about_that_agent(agent):
    """A90: the monitored agent, written as text or number, is whom the event is about."""
    content = {"monitoredagent": agent, "subtype": "QC_AgentState_Idle"}
    event = translated("QC_AgentState_Notify", content)
    assert (event.work_no, event.details.fields["kind"]) == ("292", MONITORED_KINDS["QC_AgentState_Idle"])
    assert from_line(to_line(event)) == event


@pytest.mark.parametrize(
    "content", [None, "292", {}, {"monitoredagent": None}, {"monitoredagent": " "}, {"subtype": 7}]
)
def test_news_of_nobody_stays_with_the_inspector(content):
    """Without a monitored agent the event is the inspector's, and an unknown subtype is of no kind."""
    event = translated("QC_AgentState_Notify", content)
    assert (event.work_no, event.details.fields["kind"]) == ("101", 0)


@pytest.mark.parametrize("subtype", [*MONITORED_KINDS, "QC_AgentState_Brand_New"])
def test_news_of_a_monitored_agent_proves_nothing(subtype):
    """A91: whatever befell a monitored agent, it is no effect of a command and no call of the inspector."""
    content = {"monitoredagent": "292", "subtype": subtype, "callid": "7-2"}
    standing = Standing(Phase.TALKING, 1.0, 1, frozenset({"7-1"}))
    event = translated("QC_AgentState_Notify", content)
    assert standing.after(event) is standing
    for effects in filter(None, (operation.effects for operation in operations.ALL)):
        confirmation = Confirmation(effects, frozenset())
        confirmation.observe(Entry("", 1, event))
        assert not confirmation.confirmed
        assert confirmation.missing == (effects.expected or tuple(sorted(effects.confirming)))
        assert not releases(event.event_type, effects)
