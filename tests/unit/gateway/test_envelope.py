"""The tolerant reader: the shapes of replies that gateways in the field are known to send."""

from __future__ import annotations

import orjson
import pytest

from qc_adapter.gateway.envelope import Envelope, RawEvent, UnreadableReply, plain_text, read_envelope
from qc_adapter.gateway.wire import ReplyHeaders
from qc_adapter.model.session import Secret


def read(body, kind="application/json; charset=UTF-8", **options):
    headers = ReplyHeaders(((b"Content-Type", kind.encode()),) if kind else ())
    return read_envelope(200, headers, body, **options)


@pytest.mark.parametrize(
    "body",
    [
        b'{"message":"","retcode":"0"}',
        b'{"message":"","retcode":"0","event":null}',
        b'{"message":"","retcode":"0","event":{}}',
        b'{"message":"","retcode":"0","event":[]}',
        b'{"message":"","retcode":"0","event":""}',
        b'{"message":"","retcode":"0","eventList":[]}',
        b'{"message":"","retcode":0}',
        b'\xef\xbb\xbf{"message":"","retcode":"0"}\n',
    ],
)
def test_every_form_of_no_event_is_a_plain_success(body):
    """A1, A2, A6, A28: "no event" has many forms and no effect."""
    assert read(body) == Envelope("0", "")


def test_success_is_success_whatever_the_secrets_are():
    """A session whose GUID is as short as a code does not turn the gateway's yes into a text that nobody knows."""
    assert read(b'{"message":"","retcode":"0"}', secrets=[Secret("0")]).retcode == "0"


@pytest.mark.parametrize(
    ("code", "expected"),
    [(b'"100-006"', "100-006"), (b"100006", "100006"), (b'"brand-new"', "brand-new"), (b"-1", "-1")],
)
def test_a_code_is_kept_as_it_came(code, expected):
    """A6: numbers become text, unknown codes stay what they are."""
    assert read(b'{"message":"m","retcode":' + code + b"}").retcode == expected


@pytest.mark.parametrize(
    "code", [b'" 0 "', b'"0\\n"', b'"\\u200b0"', b"0.0", b"false", b"[]", b'{"0":0}', b'""', b"null"]
)
def test_what_only_looks_like_success_is_no_code(code):
    """Success is the text "0" or the number 0, nothing that becomes it when it is cleaned or converted."""
    with pytest.raises(UnreadableReply):
        read(b'{"message":"","retcode":' + code + b"}")


@pytest.mark.parametrize("result", [b',"result":""', b',"result":[]', b',"result":7', b""])
def test_an_odd_result_does_not_hide_the_code(result):
    """A15: the code of a refusal counts, whatever its result is."""
    envelope = read(b'{"message":"agent not login"' + result + b',"retcode":"100-006"}')
    assert (envelope.retcode, envelope.message) == ("100-006", "agent not login")


def test_one_event():
    """The usual poll reply: one object; numbers are taken for a work number and a time."""
    envelope = read(
        b'{"message":"","retcode":"0","event":{"eventType":"AgentEvent_Hold","workNo":291,'
        b'"content":"1397104272-3397","eventGenTime":1700000000123,"jsonKey":[]}}'
    )
    assert envelope.events == (RawEvent("AgentEvent_Hold", "291", "1397104272-3397", 1700000000123),)


def test_an_array_of_events_keeps_its_order():
    """A4: all events of a batch are delivered, in order."""
    envelope = read(
        b'{"retcode":"0","event":[{"eventType":"A","workNo":"291","content":null},'
        b'{"eventType":"B","workNo":"291","content":{"x":{"y":[1]}}}]}'
    )
    assert envelope.events == (RawEvent("A", "291", None), RawEvent("B", "291", {"x": {"y": [1]}}))


def test_a_pushed_list_inherits_the_work_number():
    """A5: the newer batch has no retcode and names the agent once."""
    envelope = read(b'{"workNo":"291","eventList":[{"eventType":"A","content":null},{"eventType":"B","workNo":"292"}]}')
    assert envelope == Envelope("", "", None, (RawEvent("A", "291", None), RawEvent("B", "292", None)))


def test_what_is_no_event_is_counted():
    """An entry in the place of an event is not dropped in silence."""
    envelope = read(
        b'{"retcode":"0","event":[{"workNo":"291"},{"eventType":"A"},7,"text",null,{},0,{"eventType":" "}]}'
    )
    assert [event.event_type for event in envelope.events] == ["A"]
    assert envelope.unread_events == 7
    assert read(b'{"retcode":"0","event":0,"eventList":false}').unread_events == 2
    assert read(b'{"eventList":[7]}') == Envelope("", "", unread_events=1)


def test_an_event_without_content_tells_by_its_own_keys():
    """A13: what stands beside the type is handed on where no content is; a content is handed on alone."""
    flat = read(b'{"retcode":"0","event":{"eventType":" A ","workNo":"1","jsonKey":[],"eventGenTime":5,"x":{"y":[1]}}}')
    assert flat.events == (RawEvent("A", "1", {"x": {"y": [1]}}, 5),)
    assert read(b'{"retcode":"0","event":{"eventType":"A","content":"7-1","x":1}}').events[0].content == "7-1"


@pytest.mark.parametrize("number", [b"NaN", b"-Infinity", b"1e999", b"-1e999", b"9" * 400, b"9" * 5000])
def test_a_number_that_is_none_spoils_nothing_else(number):
    """One number that no JSON can hold becomes null; the code and the event around it count."""
    envelope = read(b'{"retcode":"0","event":{"eventType":"A","content":{"x":' + number + b',"callid":"7-1"}}}')
    assert envelope == Envelope("0", "", events=(RawEvent("A", "", {"x": None, "callid": "7-1"}),))


def test_a_foreign_agents_event_keeps_its_number():
    """A14: the event's own work number wins, so that it is not attributed to the poller."""
    assert read(b'{"workNo":"291","retcode":"0","event":{"eventType":"A","workNo":"292"}}').events[0].work_no == "292"


@pytest.mark.parametrize("kind", ["text/plain", "application/octet-stream", "", "application/json;charset=klingon"])
def test_the_content_type_does_not_matter(kind):
    """A26: JSON is read under any type, and an unknown charset is taken for UTF-8."""
    assert read('{"message":"你好","retcode":"0"}'.encode(), kind).message == "你好"


@pytest.mark.parametrize("charset", ["GBK", "gb2312", "gb18030", '"GBK"'])
def test_gbk_is_read(charset):
    """A27: a declared Chinese charset is honoured."""
    body = b'{"message":"\xc4\xe3\xba\xc3","retcode":"000-003"}'
    assert read(body, f"application/json;charset={charset}").message == "你好"


@pytest.mark.parametrize("kind", ["application/json;charset=GBK", "application/json;charset=UTF-8", "text/plain"])
def test_bytes_of_no_charset_are_replaced(kind):
    """A27: undecodable bytes spoil their letters and nothing else."""
    envelope = read(b'{"message":"a\xff\xff\xffb","retcode":"100-006"}', kind)
    assert envelope.retcode == "100-006"
    assert envelope.message.startswith("a")
    assert envelope.message.endswith("b")


def test_nul_characters_are_taken_out():
    """Call data padded with NUL loses the padding; an escaped backslash before u0000 is text."""
    body = (
        rb'{"retcode":"0","event":{"eventType":"A","content":"12\u0000\u0000","workNo":"1\u0000"},"result":"\\u0000"}'
    )
    envelope = read(body)
    assert envelope.events == (RawEvent("A", "1", "12"),)
    assert envelope.result == r"\u0000"


def test_bare_control_characters_do_not_spoil_a_reply():
    """Line breaks and NULs within a text are not JSON and still readable."""
    assert read(b'{"message":"a\nb\x00c","retcode":"0"}').message == "a bc"


def test_half_characters_do_not_pass():
    """A lone surrogate is replaced: nothing after us could write it."""
    content = read(rb'{"retcode":"0","event":{"eventType":"A","content":"x\ud800y"}}').events[0].content
    assert orjson.dumps(content)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "empty"),
        (b" \r\n ", "empty"),
        (b"<html><body>Bad Gateway</body></html>", "html"),
        (b"\r\n<!DOCTYPE html>", "html"),
        (b'{"message":"","retco', "cut"),
        (b'{"message":"","retcode":"0"', "cut"),
        (b"[1,", "cut"),
        (b"upstream timed out", "foreign"),
        (b"null", "foreign"),
        (b"[]", "foreign"),
        (b"{}", "foreign"),
        (b'{"error":"no","code":7}', "foreign"),
        (b'{"retcode":null}', "foreign"),
        (b'{"retcode":true}', "foreign"),
        (b'{"retcode":""}', "foreign"),
        (b'{"retcode":{}}', "foreign"),
    ],
)
def test_what_is_no_envelope_is_named(body, kind):
    """A20, A23, A25: pages, empty, cut and foreign bodies are told apart, and none is quoted."""
    with pytest.raises(UnreadableReply) as raised:
        read(body)
    assert raised.value.kind == kind
    assert "Bad Gateway" not in raised.value.why


def test_a_reply_over_the_limit_is_refused():
    """A body of more than the limit is not even parsed."""
    with pytest.raises(UnreadableReply):
        read(b'{"retcode":"0"}' + b" " * 100, max_bytes=64)


@pytest.mark.parametrize("depth", [65, 900, 100_000])
def test_deep_nesting_is_refused(depth):
    """JSON too deep for those who read it after us is unreadable, and no crash."""
    with pytest.raises(UnreadableReply):
        read(b'{"retcode":"0","result":' + b"[" * depth + b"]" * depth + b"}")


def test_wide_is_not_deep():
    """A long list of small objects is fine."""
    assert read(b'{"retcode":"0","result":[' + b",".join([b"{}"] * 500) + b"]}").retcode == "0"


def test_a_message_is_made_printable():
    """A66: a message is passed on as one line of at most 200 characters."""
    assert plain_text("a\r\n\tb\x1b[31m  c") == "a b [31m c"
    assert len(plain_text("x" * 10_000 + " ")) <= 200


def test_a_message_shows_no_guid():
    """What looks like a GUID, and any secret of the session, is cut out before the text is shortened."""
    guid = "0a" * 24 + ".AgentGateway0"
    assert plain_text(f"guid {guid} is wrong") == "guid <hidden> is wrong"
    assert plain_text("279fe21d-2caa-4437-84c3-ab9e9dae20f5.AgentGateway0") == "<hidden>"
    assert "oddly-shaped" not in plain_text("x" * 190 + "oddly-shaped", (Secret("oddly-shaped"),))
    assert read(b'{"msg":"no such token abcd","retcode":"000-003"}', secrets=(Secret("abcd"),)).message == (
        "no such token <hidden>"
    )


@pytest.mark.parametrize("kind", ["application/json", "application/json;charset=GBK"])
def test_of_a_key_that_comes_twice_the_last_counts(kind):
    """Both ways of reading agree, so that no charset makes a refusal a success."""
    assert read(b'{"retcode":"0","retcode":"900-003","message":"a","message":"b"}', kind).retcode == "900-003"


@pytest.mark.parametrize("kind", ["application/json", "application/json;charset=GBK"])
@pytest.mark.parametrize(
    "nest",
    [b"[" * 500_000, b"[" * 250_000 + b"]" * 250_000 + b"}", b'{"a":' * 200_000, b"[" * 65 + b"]" * 65 + b"}"],
    ids=["open", "closed", "objects", "one too deep"],
)
def test_a_nest_is_no_envelope(nest, kind):
    """However deep, and in whatever charset, it ends as an unreadable reply, not as a crash of the reader."""
    with pytest.raises(UnreadableReply):
        read(b'{"retcode":"0","result":' + nest, kind)


@pytest.mark.parametrize("kind", ["application/json", "application/json;charset=GBK"])
@pytest.mark.parametrize("number", [b"9" * 500_000, b"1e" + b"9" * 500_000, b"-" + b"9" * 5000, b"0." + b"9" * 500_000])
def test_a_number_of_any_length_is_read(number, kind):
    """Half a million digits are rounded, or no number, and the rest of the reply counts."""
    assert read(b'{"retcode":"0","result":' + number + b"}", kind).retcode == "0"
