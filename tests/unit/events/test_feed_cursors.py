"""What a caller's cursor stands for in a log that may have lost an end of itself."""

import pytest

from qc_adapter.events.feed import Feed
from qc_adapter.events.model import AgentEvent, GapReason
from qc_adapter.model.errors import CursorExpired

EPOCH, OTHER = "0123456789ab", "ba9876543210"
EVENT = AgentEvent("AgentEvent_Hold", "101", None, None, 0.0)


@pytest.fixture
def feed():
    """A log that keeps the positions 8, 9 and 10."""
    made = Feed(3, 600.0, EPOCH, 5)
    for _ in range(5):
        made.append(EVENT)
    return made


def expired(feed, cursor):
    """Where to go on from a cursor that has expired."""
    with pytest.raises(CursorExpired) as error:
        feed.locate(cursor)
    assert error.value.cursor == cursor
    return error.value.go_on


@pytest.mark.parametrize("position", [7, 8, 9, 10])
def test_what_is_kept_is_found(feed, position):
    """A cursor right before, or at, an entry that is kept is the way to the rest."""
    assert feed.cursor(feed.locate(f"{EPOCH}-{position}")) == f"{EPOCH}-{position}"


@pytest.mark.parametrize("position", [11, 12, 999_999])
def test_who_has_seen_more_than_is_there_goes_on_at_the_end(feed, position):
    """A part of the log is lost: what is left of it was seen, and is not told a second time."""
    go_on = expired(feed, f"{EPOCH}-{position}")
    assert go_on == f"{EPOCH}-10"
    assert feed.read(feed.locate(go_on), 10) == []


@pytest.mark.parametrize("position", [0, 5, 6])
def test_who_has_seen_less_than_is_kept_goes_on_at_the_oldest(feed, position):
    """What lies between is gone; all that is kept is told."""
    go_on = expired(feed, f"{EPOCH}-{position}")
    assert go_on == f"{EPOCH}-7"
    assert len(feed.read(feed.locate(go_on), 10)) == 3


@pytest.mark.parametrize("position", [0, 9, 999_999])
def test_a_cursor_of_another_log_goes_on_at_the_oldest(feed, position):
    """The number of a position in another log says nothing about this one."""
    assert expired(feed, f"{OTHER}-{position}") == f"{EPOCH}-7"


def test_a_log_that_began_anew_counts_from_its_own_begin(feed):
    """After the loss of the whole log its cursors are judged by what the new one has."""
    feed.jump(OTHER, 2, GapReason.LOG_LOST)
    feed.append(EVENT)
    assert expired(feed, f"{OTHER}-9") == f"{OTHER}-3"
    for older in (f"{OTHER}-1", f"{EPOCH}-10"):
        assert expired(feed, older) == feed.cursor(feed.head)
    assert feed.locate(f"{OTHER}-2") == feed.tail - 1
