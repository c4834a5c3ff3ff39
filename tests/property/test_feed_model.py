"""The log of one inspector against a model of it: a plain list that forgets nothing."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from qc_adapter.events import model
from qc_adapter.events.feed import OLDEST, Feed
from qc_adapter.events.hub import Hub, Subscription
from qc_adapter.events.model import AgentEvent, Gap, GapReason
from qc_adapter.model.errors import CursorExpired, InvalidCursor, SlowConsumer

CALLS = ("1456401416-3", "1456401416-4")
TYPES = (
    model.TALKING,
    model.CALL_RELEASE,
    model.CUSTOMER_RELEASE,
    model.PHONE_RELEASE,
    model.READY,
    model.WORK,
    model.SHUTDOWN,
    model.IN_SERVICE,
    "AgentEvent_Hold",
)


def an_event(event_type="AgentEvent_Hold", call_id=""):
    return AgentEvent(event_type, "101", None, None, 0.0, call_id)


class FeedMachine(RuleBasedStateMachine):
    """Appends, ages, opens readers and reads in any order."""

    @initialize(capacity=st.integers(1, 8))
    def begin(self, capacity):
        self.capacity = capacity
        self.hub = Hub(capacity, retention_seconds=1000.0)
        self.feed = self.hub.feed("101")
        self.heard = []
        self.feed.listeners.add(self.heard.append)
        self.told = []  # every entry ever, in order
        self.head = 0
        self.readers = []
        self.talking = set()

    def _appended(self, entry):
        self.told.append(entry)
        self.head = max(self.head, len(self.told) - self.capacity)
        assert entry.sequence == len(self.told)
        assert self.heard == self.told

    @rule(event_type=st.sampled_from(TYPES), call_id=st.sampled_from(("", *CALLS)))
    def append(self, event_type, call_id):
        self._appended(self.feed.append(an_event(event_type, call_id)))
        if event_type == model.TALKING and call_id:
            self.talking.add(call_id)
        elif event_type in {model.CALL_RELEASE, model.CUSTOMER_RELEASE}:
            self.talking.discard(call_id)
        elif event_type in {model.PHONE_RELEASE, model.READY, model.WORK, model.SHUTDOWN, model.IN_SERVICE}:
            self.talking.clear()

    @rule()
    def append_gap(self):
        before = self.feed.cursor(self.feed.tail)
        entry = self.feed.append(GapReason.POLL_REPLY_LOST)
        self._appended(entry)
        assert entry.item == Gap(GapReason.POLL_REPLY_LOST, before, entry.cursor)

    @rule(kept=st.integers(0, 3))
    def age(self, kept):
        """Let time pass until all but the newest few entries are too old."""
        index = max(0, len(self.told) - 1 - kept)
        if self.told:
            self.feed.trim(self.told[index].logged_at + 1000.0 + 1e-6)
            assert self.feed.head >= self.head
            self.head = self.feed.head

    @rule(back=st.integers(0, 12))
    def open_at_a_cursor(self, back):
        sequence = len(self.told) - back
        if sequence < 0:
            return
        cursor = self.feed.cursor(sequence)
        if sequence < self.head:
            with pytest.raises(CursorExpired) as expired:
                self.feed.locate(cursor)
            assert self.feed.locate(expired.value.go_on) == self.head
        else:
            assert self.feed.locate(cursor) == sequence
            self.readers.append(Subscription(self.hub, self.feed, sequence))

    @rule()
    def open_at_the_oldest(self):
        self.readers.append(Subscription(self.hub, self.feed, self.feed.locate(OLDEST)))

    @rule()
    def open_now(self):
        assert self.feed.locate("") == len(self.told)
        self.readers.append(Subscription(self.hub, self.feed, self.feed.locate("")))

    @rule(which=st.integers(0, 20), limit=st.integers(0, 5))
    def read(self, which, limit):
        if not self.readers:
            return
        reader = self.readers[which % len(self.readers)]
        position = reader.position
        if position < self.head:
            with pytest.raises(SlowConsumer) as slow:
                reader.take(limit)
            assert slow.value.cursor == self.feed.cursor(position) == reader.cursor
            self.readers.remove(reader)
            return
        entries = reader.take(limit)
        assert entries == self.told[position : position + limit]
        assert reader.position == position + len(entries)

    @invariant()
    def bounds_agree(self):
        if hasattr(self, "feed"):
            assert self.feed.tail == len(self.told)
            assert self.feed.head == self.head
            assert self.feed.talking == self.talking
            assert len(self.told) - self.head <= self.capacity


TestFeed = FeedMachine.TestCase
TestFeed.settings = settings(max_examples=40, stateful_step_count=30, deadline=None, derandomize=True, database=None)


@given(st.text(max_size=60))
def test_a_text_that_is_no_cursor_is_refused_as_such(text):
    """Only the empty text, 'oldest' and what this service gave out are cursors."""
    feed = Feed(4, 10.0)
    feed.append(an_event())
    if text in {"", OLDEST}:
        return
    with pytest.raises((InvalidCursor, CursorExpired)):
        feed.locate(text)


@given(st.integers(0, 10**15 - 1), st.integers(1, 5))
def test_a_cursor_of_another_log_is_expired_whatever_its_position(sequence, appended):
    """A cursor carries the name of its log, so one of another inspector or process never fits by chance."""
    feed, other = Feed(10, 10.0), Feed(10, 10.0)
    for _ in range(appended):
        feed.append(an_event())
    with pytest.raises(CursorExpired):
        feed.locate(other.cursor(sequence))


@pytest.mark.parametrize(
    "cursor",
    [
        "0-1",
        "aaaaaaaaaaaa-",
        "aaaaaaaaaaaa-1\n",
        "AAAAAAAAAAAA-1",
        "m-aaaaaaaaaaaa-1",
        f"aaaaaaaaaaaa-{10**15}",
        " ",
        "now",
    ],
)
def test_a_near_miss_is_an_invalid_cursor(cursor):
    """A cursor is taken whole and in its letter case."""
    with pytest.raises(InvalidCursor):
        Feed(4, 10.0).locate(cursor)


def test_a_cursor_of_the_future_is_expired():
    """A position that this log has not reached belongs to a log that is gone."""
    feed = Feed(4, 10.0)
    with pytest.raises(CursorExpired):
        feed.locate(feed.cursor(1))
