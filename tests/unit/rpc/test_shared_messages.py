"""Messages that many streams tell."""

import pytest

from qc_adapter.events.feed import Feed
from qc_adapter.events.model import AgentEvent, GapReason
from qc_adapter.rpc import shared_messages
from qc_adapter.rpc.convert import watch_message
from qc_adapter.rpc.shared_messages import SharedMessages


@pytest.fixture
def entries():
    feed = Feed(100, 600.0)
    events = [AgentEvent("AgentEvent_Hold", "101", {"callid": str(n)}, None, 1.0) for n in range(50)]
    return [feed.append(item) for item in (*events, GapReason.TAKEOVER)]


def test_streams_of_one_inspector_share_a_message(entries):
    """It is built once, and says what each of them would have built."""
    shared = SharedMessages()
    for entry in entries:
        first, second = shared.of(entry, 2), shared.of(entry, 1000)
        assert first is second
        assert first == watch_message(entry)


def test_a_message_for_one_reader_is_not_kept(entries):
    """Most inspectors have one stream: nothing is remembered of them."""
    shared = SharedMessages()
    assert shared.of(entries[0], 1) == watch_message(entries[0])
    assert not shared._kept


def test_what_is_kept_is_bounded_and_what_was_forgotten_is_built_again(entries):
    """A stream that is far behind the others gets the right message all the same."""
    shared = SharedMessages()
    for _ in range(2):
        for entry in entries:
            assert shared.of(entry, 2) == watch_message(entry)
    assert len(shared._kept) == shared_messages._MOST
