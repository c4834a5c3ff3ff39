"""Whatever bytes a reply has: only declared errors come out, nothing passes for success, nothing is lost in silence."""

import contextlib
import json
import re
from dataclasses import dataclass

from google.protobuf.json_format import MessageToDict, MessageToJson
from google.protobuf.struct_pb2 import Value
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from qc_adapter.events.shapes import SHAPES
from qc_adapter.events.stored import from_line, to_line
from qc_adapter.events.translate import translate
from qc_adapter.gateway.envelope import RawEvent, UnreadableReply, read_envelope
from qc_adapter.gateway.verdict import judge_command, judge_poll
from qc_adapter.gateway.wire import RawReply, ReplyHeaders
from qc_adapter.model.errors import GatewayError, GatewayRefused, PollFailed
from qc_adapter.rpc.convert import event_message, set_json
from qc_adapter.v1 import events_pb2

MOST = 1 << 16
# A slow machine is no failure; what a body is built from is drawn deeply.
UNHURRIED = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], max_examples=400)
MANY = settings(UNHURRIED, max_examples=1500)

CONTENT_TYPES = st.sampled_from(
    [
        "",
        "application/json; charset=UTF-8",
        "text/plain",
        "application/json;charset=GBK",
        "a; charset='gb2312'",
        "a;charset=latin-1",
        "a;charset=utf-16",
        "a;charset=klingon",
    ]
)
#: As gateways in the field answer, push and fail.
REAL_BODIES = [
    b'{"message":"","retcode":"0"}',
    b'{"message":"","retcode":"0","event":null}',
    b'{"message":"","retcode":"0","result":{"workno":"101","vdnid":"1","loginTime":"1471585949806"}}',
    b'{"message":"agent not login","result":"","retcode":"100-006"}',
    b'{"message":"no right to invite resouce","result":"","retcode":"000-003"}',
    b'\xef\xbb\xbf{"msg":"","retcode":0}\r\n',
    b'{"message":"","retcode":100006}',
    b'{"message":"\xc4\xe3\xba\xc3","retcode":"000-003"}',
    b'{"message":"","retcode":"0","event":{"eventType":"AgentEvent_Hold","workNo":"291","content":"1397104272-3397"}}',
    (
        b'{"message":"","retcode":"0","event":{"eventType":"AgentEvent_Talking","workNo":291,"eventGenTime":1700000000123,'
        b'"content":{"callid":"7-1","caller":"a\\u0000\\\\","feature":7,"mediaAbility":"1"}}}'
    ),
    b'{"retcode":"0","event":[{"eventType":"AgentState_Busy","content":null},{"eventType":"AgentOther_BeQcStart"}]}',
    b'{"workNo":"291","eventList":[{"eventType":"AgentState_Busy","content":null},{"eventType":"B","x":{"y":[1]}}]}',
    b"<html><head><title>502 Bad Gateway</title></head></html>",
]
#: What a mutation may put into a body.
SPLINTERS = st.binary(max_size=3) | st.sampled_from(
    [
        b"\x00",
        b"\\u0000",
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"\\ud800",
        b"\xed\xa0\x80",
        b"NaN",
        b"-Infinity",
        b"1e999",
        b"9" * 25,
        b"9" * 5000,
        b"[" * 70,
        b'{"a":' * 2000,
        b'"retcode":"0",',
        b'"event":{},',
        b"null",
        b'"',
        b"\\",
        b"}",
        b"0",
    ]
)
#: What looks like the code of success and is not.
LOOKALIKES = ["00", " 0 ", "0\n", "0\x1b", "\u200b0", "+0", "-0", "0.0", "0x0", "\uff10", "", " ", "OK", "success"]
ODD_CODES = [0.0, -0.0, 0.5, 1, -1, 2**63, 2**70, True, False, None, [], ["0"], {}, {"0": "0"}, "100-006", "000-000"]
RETCODES = st.sampled_from(["0", 0, *LOOKALIKES, *ODD_CODES]) | st.text(max_size=3)


@dataclass(frozen=True)
class Entry:
    """Something in the place of an event, and whether it is one."""

    told: object
    is_event: bool


@st.composite
def mutations(draw):
    """A real body with a few places cut out, doubled or filled with something else."""
    body = draw(st.sampled_from(REAL_BODIES))
    for _ in range(draw(st.integers(0, 3))):
        begin, end = sorted((draw(st.integers(0, len(body))), draw(st.integers(0, len(body)))))
        middle = draw(st.sampled_from([b"", body[begin:end] * 2, None]))
        body = body[:begin] + (draw(SPLINTERS) if middle is None else middle) + body[min(end, begin + 8) :]
    return body


# Everything that JSON texts can say, also what no JSON parser should let through.
json_texts = st.text(st.characters(), max_size=6) | st.sampled_from(["\ud800", "\x00", "\ufeff", "\\u0000", "你好"])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(-(2**80), 2**80) | st.floats() | json_texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(json_texts, inner, max_size=3),
    max_leaves=6,
)
content_keys = sorted({key for shape in SHAPES.values() for names in shape.keys.values() for key in names})
event_types = st.sampled_from([*SHAPES, "AgentEvent_Brand_New"])
event_contents = json_values | st.dictionaries(st.sampled_from(content_keys), json_values, max_size=4)
readable = st.builds(
    lambda kind, work_no, content, more: Entry(
        {**more, "eventType": kind, "workNo": work_no, "content": content}, True
    ),
    event_types,
    st.none() | st.just("291") | st.just(291),
    event_contents,
    st.dictionaries(st.sampled_from(["jsonKey", "eventGenTime", "x"]), json_values, max_size=2),
)
unreadable = st.sampled_from([0, 7, False, True, "text", "", None, {}, [], [[]], {"workNo": "291"}]).map(
    lambda told: Entry(told, False)
) | st.sampled_from([None, "", " ", "\x00", 7, [], {}]).map(
    lambda kind: Entry({"eventType": kind, "content": "7-1"}, False)
)
entries = st.lists(readable | unreadable, max_size=4)


def reply_of(body, kind="", status=200):
    headers = ((b"Content-Type", kind.encode()),) if kind else ()
    return RawReply(status, ReplyHeaders(headers), body)


def written(fields):
    """JSON as a careless writer makes it: NaN, half characters, numbers of any length."""
    return json.dumps(fields).encode()


def says_success(body, kind):
    """Whether the bytes can be read to hold the one code of success; knows nothing of the reader's ways."""
    texts = [body.decode(codec, "replace") for codec in ("utf-8", "gb18030", "latin-1")]
    if "utf-16" in kind:
        texts.append(body.decode("utf-16", "replace"))
    bare = (text.replace("\x00", "").replace("\\u0000", "") for text in texts)
    return any(re.search(r'"retcode"\s*:\s*(?:"0"|-?0\s*[,}])', text) for text in bare)


def judged(judge, reply):
    """The envelope, or `None` with the declared error."""
    try:
        return judge("intercept", reply, None, (), MOST), None
    except GatewayError as declared:
        return None, declared


@MANY
@given(st.binary(max_size=80) | mutations(), CONTENT_TYPES, st.sampled_from([200, 200, 200, 204, 302, 404, 500, 502]))
@example(b"\xff\xfe" + '{"retcode":"0"}'.encode("utf-16-le"), "a;charset=utf-16", 200)
@example(b'{"retcode":"0","event":' + b"[" * 50_000, "", 200)
@example(b'{"retcode":"0\\u0000"}', "", 200)
def test_no_bytes_break_the_reader(body, kind, status):
    """Any bytes, and a real body however damaged, are an envelope or a declared error; success needs its code."""
    reply = reply_of(body, kind, status)
    accepted, _ = judged(judge_command, reply)
    polled, failure = judged(judge_poll, reply)
    if accepted is not None:
        assert status < 300
        assert says_success(body, kind)
        assert polled == accepted
    elif polled is not None:
        assert polled.retcode == ""
        assert polled.events or polled.unread_events
    else:
        assert isinstance(failure, GatewayError)
        assert body.decode("latin-1") not in failure.message or len(body) < 9


@MANY
@given(RETCODES, st.sampled_from([{}, {"event": None}, {"result": ""}, {"eventList": []}]), st.sampled_from([200, 500]))
def test_only_the_code_zero_is_success(retcode, more, status):
    """The text "0" and the number 0 are success with a status of success; nothing else is, for command or poll."""
    reply = reply_of(written({"message": "success", "retcode": retcode, **more}), status=status)
    success = status == 200 and not isinstance(retcode, bool | float) and retcode in ("0", 0)
    for judge in (judge_command, judge_poll):
        envelope, failure = judged(judge, reply)
        assert (envelope is not None) == success
        if isinstance(failure, GatewayRefused):
            assert failure.retcode not in ("0", "")


@UNHURRIED
@given(entries, entries, st.sampled_from(["event", "eventList", "both"]), st.sampled_from(["0", None]))
def test_every_entry_is_an_event_or_counted(first, second, form, retcode):
    """In each form of a batch, and in both at once, all events come in order and what is none is counted."""
    batches = {"event": first, "eventList": second}
    batches = batches if form == "both" else {form: batches[form]}
    told = [entry for batch in batches.values() for entry in batch]
    expected = [entry.told["eventType"] for entry in told if entry.is_event]
    fields = {key: [entry.told for entry in batch] for key, batch in batches.items()}
    fields |= {} if retcode is None else {"retcode": retcode}
    envelope, failure = judged(judge_poll, reply_of(written({"workNo": "291", **fields})))
    if envelope is None:
        assert isinstance(failure, PollFailed)
        assert not expected
        assert failure.event_may_be_lost or not told
        return
    assert [event.event_type for event in envelope.events] == expected
    assert {event.work_no for event in envelope.events} <= {"291"}
    assert envelope.unread_events == len(told) - len(expected)


@given(readable | unreadable, st.sampled_from(["event", "eventList"]))
@example(Entry(0, False), "event")
@example(Entry(False, False), "eventList")
def test_a_single_entry_is_an_event_or_counted_or_empty(entry, key):
    """What stands alone in the place of an event is one, is counted, or is one of the four ways to say "no event"."""
    told = entry.told if isinstance(entry.told, list) else [entry.told]
    told = [] if entry.told in (None, "", {}) else told
    envelope, _ = judged(judge_poll, reply_of(written({"retcode": "0", key: entry.told})))
    assert [event.event_type for event in envelope.events] == ([entry.told["eventType"]] if entry.is_event else [])
    assert envelope.unread_events == len(told) - entry.is_event


@UNHURRIED
@given(entries)
def test_a_refusal_says_what_came_beside_it(told):
    """A code other than "0" decides, and an event in the same reply is told as one that may be lost."""
    body = written({"retcode": "100-006", "event": [entry.told for entry in told]})
    for status in (200, 500):
        _, failure = judged(judge_poll, reply_of(body, status=status))
        assert isinstance(failure, GatewayRefused)
        assert failure.event_may_be_lost == bool(told)


@UNHURRIED
@given(event_types, event_contents, st.integers() | json_texts, st.booleans())
@example("AgentEvent_Talking", {"callid": "\ud800", "caller": float("nan")}, 2**80, True)
@example("QC_AgentState_Notify", {"monitoredagent": 2**70, "subtype": "QC_AgentState_Idle"}, 0, False)
def test_an_event_goes_all_the_way(event_type, content, gateway_time, flat):
    """From a reply through the stored line to the caller's message: nothing raises, and the content stays the same."""
    told = {"eventType": event_type, "eventGenTime": gateway_time}
    told |= (
        {f"k{key}": value for key, value in content.items()}
        if flat and isinstance(content, dict)
        else {"content": content}
    )
    envelope = read_envelope(200, ReplyHeaders(), written({"retcode": "0", "event": told}))
    [raw] = envelope.events
    event = translate(RawEvent(raw.event_type, "291", raw.content, raw.gateway_time_ms), 1_700_000_000.25)
    kept = from_line(to_line(event))
    assert kept == event
    message = event_message("c", kept)
    read = events_pb2.AgentEvent.FromString(message.SerializeToString())
    assert read == message
    assert json.loads(MessageToJson(read))["eventType"] == event_type
    content = Value()
    set_json(content, raw.content)
    assert MessageToDict(read.content) == MessageToDict(content)
    assert read.work_no == (
        event.details.fields.get("work_no", "").strip() or "291" if read.HasField("monitored") else "291"
    )


@UNHURRIED
@given(st.sampled_from(["retcode", "message", "event", "eventList", "workNo"]), json_values, CONTENT_TYPES)
def test_no_json_in_an_odd_place_breaks_the_reader(key, value, kind):
    """Any JSON under any key of an envelope is read or declared unreadable."""
    body = written({"retcode": "0", "message": "m", key: value})
    with contextlib.suppress(UnreadableReply):
        envelope = read_envelope(200, reply_of(body, kind).headers, body)
        assert envelope.retcode or envelope.events or isinstance(value, list)
