"""Marks and sealed values of session records, for whatever GUIDs and cookies there are."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from qc_adapter.model.errors import SessionUnreadable
from qc_adapter.model.session import Renewal, Secret, Session
from qc_adapter.sessions.record import mark_of
from qc_adapter.sessions.records import Records
from qc_adapter.sessions.script import VALUES
from qc_adapter.store.seal import Seal, new_key

KEYS = [new_key(), new_key()]
guids = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=80)
cookies = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=80)
prefixes = st.sampled_from(["", "JSESSIONID=", "jsessionid=", "JSessionID=JSESSIONID="])
forms = st.sampled_from([Records(), Records(Seal(KEYS)), Records(Seal(KEYS[::-1])), Records(Seal(KEYS), plain=True)])
inspectors = st.sampled_from(["101", "102", "north/101"])


def stored(fields):
    """A record as Redis returns it."""
    return [part.encode() for part in fields]


@pytest.fixture(scope="module")
def marked(redis_server):
    """What the scripts make of a plain GUID."""
    with redis_server.client() as client:
        yield lambda guid: client.eval(VALUES + "return mark_of(ARGV[1], false)", 0, guid).decode()


@settings(max_examples=60, deadline=None)
@given(guid=guids, prefix=prefixes)
def test_scripts_and_adapter_agree_on_marks(marked, guid, prefix):
    """A GUID has one mark, made here or in Redis, with or without the prefix of the header it was copied from."""
    assert marked(prefix + guid) == mark_of(prefix + guid)
    if not guid.lower().startswith("jsessionid="):
        assert mark_of(prefix + guid) == mark_of(guid)


@settings(max_examples=60, deadline=None)
@given(guid=guids, other=guids)
def test_two_guids_have_two_marks(guid, other):
    """A compare-and-set by marks is one by GUIDs."""
    assume(guid.lower()[:11] != "jsessionid=" != other.lower()[:11])
    assert (mark_of(guid) == mark_of(other)) == (guid == other)


@settings(max_examples=60, deadline=None)
@given(guid=guids, cookie=cookies, written=forms, read=forms, agent_id=inspectors, whose=inspectors)
def test_a_record_says_the_same_in_every_form(*, guid, cookie, written, read, agent_id, whose):
    """Whoever has the keys reads it back, sealed or plain; another inspector's value is not read as one's own."""
    assume(guid.lower() != "jsessionid=")
    session = Session(agent_id, Secret(guid), cookies=Secret(cookie))
    fields = written.to_fields(session)
    sealed = written.key != ""
    if read.keys or not sealed:
        found = read.read(agent_id, stored(fields))
        assert mark_of(found.guid.reveal()) == mark_of(guid)
        assert found.cookies == session.cookies
    if sealed and read.keys and whose != agent_id:
        own = read.to_fields(Session(whose, Secret("own")))
        moved = dict(zip(own[::2], own[1::2], strict=True)) | dict(
            zip(*[iter(written.to_changes(agent_id, Renewal(Secret(guid))))] * 2, strict=True)
        )
        moved.pop("guid", None)
        with pytest.raises(SessionUnreadable, match="something else"):
            read.read(whose, stored(part for pair in moved.items() for part in pair))
