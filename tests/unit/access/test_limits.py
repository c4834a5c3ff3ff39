"""What callers may use at once: counted in numbers alone, with a clock of the test."""

from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qc_adapter.access.limit_values import NO_LIMITS, Limits
from qc_adapter.access.limits import Limiter
from qc_adapter.model.errors import LimitReached, TooManyStreams


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Desk:
    """A limiter, and callers that take places."""

    def __init__(self, overall=NO_LIMITS):
        self.clock = Clock()
        self.limiter = Limiter(overall, self.clock)

    def take(self, caller="desk", limits=NO_LIMITS, *, streaming=False):
        return self.limiter.admit(caller, limits, streaming=streaming)

    def refused(self, caller="desk", limits=NO_LIMITS, *, streaming=False):
        with pytest.raises(LimitReached) as refusal:
            self.take(caller, limits, streaming=streaming)
        return refusal.value


def test_calls_are_counted_until_they_are_answered():
    """A caller has as many calls under way as it may, and an answered stream is none of them any more."""
    desk, two = Desk(), Limits(calls=2)
    with desk.take(limits=two), desk.take(limits=two, streaming=True) as stream:
        assert (desk.refused(limits=two).limit, desk.refused(limits=two).retry_seconds) == ("calls", 1.0)
        stream.answered()
        stream.answered()  # each message says so
        with desk.take(limits=two):
            assert desk.refused(limits=two).limit == "calls"
    assert desk.limiter.unused


def test_a_second_has_so_many_calls_and_the_refusal_says_when_the_next_may_come():
    """All calls of a second may come at once; the next is let in at the moment that was told, and not before."""
    desk, limits = Desk(), Limits(calls_per_second=4)
    for _ in range(4):
        desk.take(limits=limits)
    refusal = desk.refused(limits=limits)
    assert (refusal.limit, refusal.retry_seconds) == ("calls_per_second", 0.25)
    desk.clock.now += 0.24
    assert desk.refused(limits=limits).retry_seconds == pytest.approx(0.01, abs=0.001)
    desk.clock.now += refusal.retry_seconds - 0.24
    desk.take(limits=limits)
    assert desk.refused(limits=limits)


def test_refused_calls_use_nothing_up():
    """Whoever floods is let in at his rate all the same: refused calls do not put the next one off."""
    desk, limits = Desk(), Limits(calls_per_second=10)
    admitted = 0
    for _ in range(1000):  # ten seconds, at ten times the rate
        desk.clock.now += 0.01
        try:
            desk.take(limits=limits).__exit__(None, None, None)
        except LimitReached:
            continue
        admitted += 1
    assert 100 <= admitted <= 110


def test_the_limits_of_one_caller_are_not_those_of_another():
    """A caller that has used its own up takes nothing from others, of the limits for all neither."""
    desk, own = Desk(Limits(calls_per_second=5)), Limits(calls_per_second=2)
    for _ in range(2):
        desk.take("flood", own)
    for _ in range(50):
        desk.refused("flood", own)
    for _ in range(3):
        desk.take("desk")
    assert "this replica" in desk.refused("third").message


def test_streams_are_limited_by_caller_by_inspector_and_in_all():
    """Each of the three has its own answer, and a stream that ends makes room."""
    desk = Desk(Limits(streams=3, streams_per_inspector=2))
    own = Limits(streams=2, streams_per_inspector=1)
    with desk.take(limits=own, streaming=True) as first, desk.take("other", streaming=True) as others:
        first.follow("101")
        others.follow("101")
        with desk.take(limits=own, streaming=True) as second:
            with pytest.raises(LimitReached, match="this caller has 1 open streams of this inspector"):
                second.follow("101")
            second.follow("102")
            assert desk.refused(limits=own, streaming=True).limit == "streams"
            with pytest.raises(TooManyStreams):
                desk.take("other", streaming=True)
        with desk.take("third", streaming=True) as third, pytest.raises(LimitReached, match="this replica has 2"):
            third.follow("101")
    assert desk.limiter.unused


def test_a_request_that_is_too_long_never_fits():
    """The refusal names the size and the limit, and invites no repetition."""
    with Desk().take(limits=Limits(message_bytes=100)) as place:
        place.fit(100)
        with pytest.raises(LimitReached, match="101 bytes") as refusal:
            place.fit(101)
    assert (refusal.value.limit, refusal.value.retry_seconds) == ("message_bytes", 0.0)


def test_limits_that_change_hold_from_the_next_call_on():
    """A policy that is read anew counts for calls that are under way already."""
    desk = Desk()
    with desk.take(limits=Limits(calls=5)), desk.take(limits=Limits(calls=2)):
        assert desk.refused(limits=Limits(calls=2)).limit == "calls"
        desk.take(limits=NO_LIMITS)


def test_callers_that_use_nothing_are_forgotten():
    """However many callers come in a day, those are remembered that do something or did so a moment ago."""
    desk = Desk()
    held = desk.take("held", streaming=True)
    for number in range(1000):
        desk.take(f"spiffe://example/{number}", Limits(calls_per_second=1)).__exit__(None, None, None)
    desk.clock.now += 60
    desk.take("new")
    assert desk.limiter.remembered == 2
    held.__exit__(None, None, None)


#: What one call does: its caller, whether it is a stream, its inspector, whether it is answered, whether it fails.
CALLS = st.tuples(
    st.sampled_from(["desk", "floor"]), st.booleans(), st.sampled_from(["", "101", "102"]), st.booleans(), st.booleans()
)


@given(st.lists(st.tuples(CALLS, st.integers(0, 5)), max_size=60))
def test_whatever_calls_do_all_places_come_back(steps):
    """Calls that begin and end in any order, refused or failed at any step, leave nothing held."""
    desk = Desk(Limits(calls=4, streams=3, streams_per_inspector=2, calls_per_second=1000))
    own = Limits(calls=3, streams=2, streams_per_inspector=1)
    held = []
    for (caller, streaming, inspector, answered, fails), leaver in steps:
        if held and leaver < len(held):
            held.pop(leaver).close()
        with ExitStack() as stack:
            try:
                place = stack.enter_context(desk.take(caller, own, streaming=streaming))
                if streaming and inspector:
                    place.follow(inspector)
                if answered:
                    place.answered()
                if fails:
                    continue
            except (LimitReached, TooManyStreams):
                continue
            held.append(stack.pop_all())
    for one in held:
        one.close()
    assert desk.limiter.unused
