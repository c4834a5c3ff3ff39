"""What stands in Redis, where other systems and other releases write too."""
# ruff: noqa: PT017 - an error of the reader is one of its answers, and has rules too

from __future__ import annotations

import contextlib

import orjson
from hypothesis import strategies as st

from qc_adapter.commands.ledger import State, _record
from qc_adapter.events.inspection import Inspection
from qc_adapter.events.model import AgentEvent, GapReason
from qc_adapter.events.standing import Phase, Standing
from qc_adapter.events.stored import (
    from_inspection,
    from_line,
    from_standing,
    to_inspection,
    to_line,
    to_standing,
)
from qc_adapter.model.errors import SessionUnreadable
from qc_adapter.rpc.convert import event_message
from qc_adapter.sessions.orders import unseal
from qc_adapter.sessions.record import agent_id_of, key_of
from qc_adapter.sessions.records import Records
from qc_adapter.store.seal import Seal, Unsealable, new_key
from tests.fuzz.target import CANARY, Target, chosen, head_and_rest

_SEAL = Seal([new_key()])
#: What a log or an entry that is broken is told by: the replica says so of this inspector, and goes on with the others.
_BROKEN = (ValueError, KeyError, TypeError, AttributeError)


def check_record(data: bytes) -> None:
    """
    A session record is a session that can be written again as it is, or unreadable in words that hold none of it.

    That holds for records in plain text and for sealed ones, and what one form wrote the other reads.
    """
    agent_id = "101"
    stored = dict(line.partition(b"=")[::2] for line in data.split(b"\n"))
    if b"guid" in stored:
        stored[b"guid"] += CANARY.encode()
    if b"agent_id" in stored and stored[b"agent_id"].isdigit():
        agent_id = stored[b"agent_id"].decode()
    sealed, plain = Records(_SEAL), Records(_SEAL, plain=True)
    try:
        session = sealed.read(agent_id, [part for pair in stored.items() for part in pair])
    except SessionUnreadable as unreadable:
        assert CANARY not in unreadable.message
        assert unreadable.message.isascii()
        return
    assert session is not None
    assert CANARY not in repr(session)
    if session.signed_in_at != session.signed_in_at or session.recovering:
        return
    for writer, reader in ((sealed, plain), (plain, sealed)):
        written = [field.encode() for field in writer.to_fields(session)]
        assert reader.read(agent_id, written) == session
        assert writer is plain or CANARY.encode() not in b"".join(written)


def check_line(data: bytes) -> None:
    """A line of a log is an item that is written again as the same item, or one of the errors of a broken log."""
    try:
        item = from_line(data)
    except _BROKEN:
        return
    if isinstance(item, GapReason):
        assert from_line(to_line(item)) is item
        return
    assert isinstance(item, AgentEvent)
    with contextlib.suppress(*_BROKEN):
        event_message("c", item).SerializeToString()


def check_head(data: bytes) -> None:
    """How an inspector stands is read, or it is not known; nothing else comes of a text that is none."""
    text = data.decode("utf-8", "replace")
    standing = from_standing(text, "")
    assert isinstance(standing, Standing)
    assert isinstance(standing.phase, Phase)
    if standing != Standing():
        assert from_standing(to_standing(standing), "") == standing
    inspection = from_inspection(text)
    if inspection is not None:
        assert isinstance(inspection, Inspection)
        assert from_inspection(to_inspection(inspection)) == inspection


def check_entry(data: bytes) -> None:
    """An entry of the ledger is a record with a known state, or broken; sealed orders are opened with our key only."""
    parts = data.split(b"\n")
    with contextlib.suppress(*_BROKEN):
        record = _record([*parts[:12], *([b""] * (12 - len(parts)))])
        assert record.state in State
    try:
        unseal(_SEAL, "101", data.decode("utf-8", "replace"))
    except Unsealable as failure:
        assert not str(failure)
    else:
        raise AssertionError("what nobody sealed was opened")
    agent_id = agent_id_of(data)
    assert agent_id is None or agent_id_of(key_of(agent_id).encode()) == agent_id


_CHECKS = {"record": check_record, "line": check_line, "head": check_head, "entry": check_entry}


def check_stored(data: bytes) -> None:
    """The first line says what it is that stands there: a record, a line, a head or an entry."""
    head, rest = head_and_rest(data)
    _CHECKS[chosen(head, sorted(_CHECKS))](rest)


def _texts() -> st.SearchStrategy[bytes]:
    names = st.sampled_from(
        [b"version", b"agent_id", b"gateway", b"guid", b"event_source", b"cookies", b"signed_in_at", b"recovering"]
    )
    values = st.binary(max_size=12) | st.sampled_from(
        [b"1", b"1.7", b"2", b"101", b"default", b"poll", b"PUSH", b"JSESSIONID=", b"nan", b"inf", b"1e400", b""]
    )
    records = st.dictionaries(names, values, max_size=8).map(
        lambda found: b"record\nagent_id=101\n" + b"\n".join(name + b"=" + value for name, value in found.items())
    )
    json_values = st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=6),
        lambda inner: st.lists(inner, max_size=7) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
        max_leaves=8,
    )
    fields = st.fixed_dictionaries(
        {"type": st.sampled_from(["AgentEvent_Talking", "AgentState_Busy"]) | json_values, "content": json_values},
        optional={
            "work_no": json_values,
            "gateway_time_ms": json_values,
            "received_at": json_values,
            "queued_since": json_values,
            "gap": json_values,
            "content_json": json_values,
        },
    )
    lines = (fields | json_values).map(lambda one: b"line\n" + orjson.dumps(one))
    phases = st.sampled_from([*Phase, "listening", "inserted"]) | json_values
    lists = st.lists(phases, min_size=5, max_size=7).map(lambda one: b"head\n" + orjson.dumps(one))
    entries = st.lists(st.binary(max_size=6) | st.sampled_from([b"sent", b"accepted", b"7", b"[]"]), max_size=13).map(
        lambda parts: b"entry\n" + b"\n".join(parts)
    )
    return records | lines | lists | entries


TARGETS = (Target("stored", check_stored, _texts),)
