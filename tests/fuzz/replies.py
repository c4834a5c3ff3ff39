"""Replies of the gateway, from the bytes of head and body to what a caller is told of them."""
# ruff: noqa: PT017 - an error of the reader is one of its answers, and has rules too

from __future__ import annotations

import contextlib
import json

from google.protobuf.json_format import MessageToJson
from hypothesis import strategies as st

from qc_adapter.events.stored import from_line, to_line
from qc_adapter.events.translate import translate
from qc_adapter.gateway.envelope import UnreadableReply, plain_text, read_envelope
from qc_adapter.gateway.json_text import read_json
from qc_adapter.gateway.renewal import read_renewal
from qc_adapter.gateway.retcodes import describe
from qc_adapter.gateway.verdict import judge_command, judge_poll
from qc_adapter.gateway.wire import RawReply, ReplyHeaders
from qc_adapter.model.errors import GatewayError, GatewayRefused, OutcomeUnknown
from qc_adapter.model.session import Secret, Session
from qc_adapter.rpc.convert import event_message
from qc_adapter.rpc.errors import to_status
from qc_adapter.sessions.record import storable
from qc_adapter.sessions.records import Records
from tests.fuzz.target import CANARY, Target

MOST = 1 << 16
#: A status travels in a trailer, and normal clients take 8 KiB of those.
_LARGEST_STATUS = 4096
_SECRETS = (Secret(CANARY),)
_METHODS = ("intercept", "agentevent")


def reply_of(data: bytes) -> RawReply:
    """Read a reply in a form that is easy to change: status, header lines, an empty line, body."""
    head, _, body = data.partition(b"\n\n")
    first, *lines = head.split(b"\n")
    status = int(first) if first.isdigit() and len(first) < 4 else 200
    pairs = (line.partition(b":")[::2] for line in lines)
    return RawReply(status, ReplyHeaders(tuple((name, value.strip(b" ")) for name, value in pairs)), body)


def check_reply(data: bytes) -> None:
    """
    A reply is a declared error or an envelope that can be told to a caller; success takes a status of success.

    What is renewed by its head can be stored and sent. No text of an error shows a secret of the session, but where a
    gateway gives it as its code: to search that too would garble codes for whoever has a password like 100.
    """
    reply = reply_of(data)
    _check_renewal(reply)
    for method, judge in zip(_METHODS, (judge_command, judge_poll), strict=True):
        try:
            envelope = judge(method, reply, None, _SECRETS, MOST)
        except GatewayError as declared:
            _check_failure(declared, method)
            continue
        assert 200 <= reply.status < 300
        assert envelope.retcode == "0" or (judge is judge_poll and not envelope.retcode)
        assert CANARY not in envelope.message
        for raw in envelope.events:
            event = translate(raw, 1_700_000_000.25)
            json.loads(MessageToJson(event_message("c", event)))
            event_message("c", event).SerializeToString()
            assert from_line(to_line(event)) == event


def _check_renewal(reply: RawReply) -> None:
    reading = read_renewal(reply.headers, Secret("present"), Secret("a=b"))
    if reading.renewal is None:
        return
    Records().to_changes("101", reading.renewal)
    renewed = storable(Session("101", Secret("present")).renewed(reading.renewal))
    for value in (renewed.guid.reveal(), renewed.cookies.reveal()):
        assert value.isascii()
        assert value == "" or value.isprintable()
    assert " " not in renewed.guid.reveal()


def _check_failure(declared: GatewayError, method: str) -> None:
    code = getattr(declared, "retcode", "")
    assert CANARY not in (declared.message.replace(code, "") if code else declared.message)
    assert declared.message.isprintable()
    if isinstance(declared, GatewayRefused):
        assert declared.retcode not in ("", "0")
        assert len(declared.retcode) <= 32
        assert describe(declared.retcode).advice
    if isinstance(declared, GatewayRefused | OutcomeUnknown):
        _, status = to_status(declared, method)
        told = status.SerializeToString()
        assert len(told) <= _LARGEST_STATUS
        assert CANARY.encode() not in (told.replace(code.encode(), b"") if code else told)


def check_json(data: bytes) -> None:
    """Bytes of any charset are JSON that JSON can say again, or unreadable; the reason never quotes them."""
    reply = reply_of(data)
    try:
        parsed = read_json(reply.status, reply.headers, reply.body)
    except UnreadableReply as unreadable:
        assert len(unreadable.why) < 100
        assert unreadable.why.isascii()
        return
    assert json.loads(json.dumps(parsed, allow_nan=False)) == parsed
    json.dumps(parsed, ensure_ascii=False).encode()
    with contextlib.suppress(UnreadableReply):
        read_envelope(reply.status, reply.headers, reply.body, max_bytes=MOST)
    line = plain_text(reply.body.decode("utf-8", "replace"), _SECRETS)
    assert len(line) <= 200
    assert line.isprintable()
    assert CANARY not in line


_TYPES = (
    b"application/json;charset=UTF-8",
    b"text/html",
    b"a;charset=GBK",
    b"a;charset=utf-16",
    b"a; charset='latin-1'",
)
_KINDS = ("AgentEvent_Talking", "AgentState_Busy", "AgentMediaEvent_Record", "AgentOther_BeQcStart", "Agent_New", "")
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(CANARY),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=5,
)
_events = st.fixed_dictionaries(
    {"eventType": st.sampled_from(_KINDS), "content": _values},
    optional={"workNo": _values, "eventGenTime": _values, "jsonKey": _values},
)
_codes = st.sampled_from(["0", 0, "100-006", "900-003", "000-004", "0\x00", " 0", CANARY]) | _values


def _head(status: int, kind: bytes, extra: list[bytes]) -> bytes:
    return b"\n".join([str(status).encode(), b"Content-Type: " + kind, *extra])


_extra = st.lists(
    st.builds(
        lambda name, value: name + b": " + value.replace(b"\n", b""),
        st.sampled_from([b"Set-GUID", b"set-guid", b"Set-Cookie", b"X"]),
        st.binary(max_size=20) | st.sampled_from([b"JSESSIONID=abc.node1", b"a=b; Max-Age=0", b"R=\x01", b"x" * 5000]),
    ),
    max_size=3,
)
heads = st.builds(
    _head, st.sampled_from([200, 200, 200, 204, 302, 401, 404, 500, 503]), st.sampled_from(_TYPES), _extra
)


def envelopes() -> st.SearchStrategy[bytes]:
    """Return bodies that are envelopes, of careless writers too."""
    fields = st.fixed_dictionaries(
        {"retcode": _codes},
        optional={
            "message": st.text(max_size=30) | st.just("guid " + CANARY),
            "event": _events | _values,
            "eventList": st.lists(_events | _values, max_size=3),
            "result": _values,
            "workNo": _values,
        },
    )
    return fields.map(lambda one: json.dumps(one).encode()) | st.binary(max_size=60)


def _replies() -> st.SearchStrategy[bytes]:
    return st.builds(lambda head, body: head + b"\n\n" + body, heads, envelopes())


TARGETS = (Target("reply", check_reply, _replies), Target("json", check_json, _replies))
