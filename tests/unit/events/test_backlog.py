"""Old events are told from new ones: those that waited in the gateway's queue while nobody polled."""

import time

from qc_adapter.events.backlog import Backlog


def test_what_comes_at_once_after_a_silence_may_be_as_old_as_that():
    """Nobody polled for a minute, and the first reply comes at once: its event happened some time in that minute."""
    backlog = Backlog(0.2, 60.0)
    began = time.time()
    since = backlog.answered(0.001, events=True)
    assert began - 61.0 < since <= time.time() - 60.0
    assert backlog.answered(0.001, events=True) == since


def test_an_empty_reply_ends_the_silence():
    """The queue is empty now: what comes at once after that has just happened."""
    backlog = Backlog(0.2, 60.0)
    assert backlog.answered(0.001, events=False) is None
    assert backlog.answered(0.001, events=True) is None


def test_a_reply_that_was_held_has_just_happened():
    """The poll waited for its event, so the queue was empty before."""
    backlog = Backlog(0.2, 60.0)
    assert backlog.answered(3.0, events=True) is None
    assert backlog.answered(0.001, events=True) is None


def test_how_long_is_held_is_measured_by_the_fastest_reply():
    """With a gateway that answers in a millisecond a tenth of a second is a long time."""
    backlog = Backlog(0.2, 60.0)
    assert backlog.answered(0.001, events=True) is not None
    assert backlog.answered(0.1, events=True) is None


def test_a_session_that_nobody_polled_for_has_no_old_events():
    """It was signed in, or handed over by another system, a moment ago."""
    assert Backlog(0.2, None).answered(0.001, events=True) is None
