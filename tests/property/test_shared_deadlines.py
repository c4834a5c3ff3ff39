"""Waits of any length that end at nearly the same moment share a timer, and none ends early or much too late."""

from hypothesis import given
from hypothesis import strategies as st

from qc_adapter.gateway.deadlines import Deadlines


class Clock:
    """The part of an event loop that sets timers; time passes when it is told to."""

    def __init__(self):
        self.timers = []

    def call_at(self, moment, call, *arguments):
        timer = Timer(moment, call, arguments)
        self.timers.append(timer)
        return timer

    def pass_to(self, now):
        """Let the timers ring that are due, in their order."""
        due = sorted((timer for timer in self.timers if timer.at <= now), key=lambda timer: timer.at)
        self.timers = [timer for timer in self.timers if timer.at > now]
        for timer in due:
            timer.call(*timer.arguments)


class Timer:
    """What rings at a time."""

    def __init__(self, at, call, arguments):
        self.at, self.call, self.arguments = at, call, arguments

    def cancel(self):
        self.call = lambda *_arguments: None


class Wait:
    """Something that waits, and how often it was ended."""

    def __init__(self):
        self.ended = 0

    def time_is_over(self):
        self.ended += 1


seconds_of_waits = st.floats(0.001, 3600.0)


@given(st.lists(st.tuples(st.floats(0.0, 1e6), seconds_of_waits, st.booleans()), min_size=1, max_size=20))
def test_a_wait_ends_once_after_its_time_and_not_much_later(waits):
    """A wait that is not over by itself is ended once: never before its time, and a thirty-second later at most."""
    clock = Clock()
    deadlines = Deadlines(clock)
    for begun, seconds, by_itself in waits:
        wait, at = Wait(), begun + seconds
        moment = deadlines.begin(wait, at, seconds)
        assert at <= moment <= at + seconds / 32 + 1e-9 * at
        if by_itself:
            deadlines.done(wait, moment)
        clock.pass_to(at - 1e-6)
        assert wait.ended == 0
        clock.pass_to(moment)
        assert wait.ended == (0 if by_itself else 1)
        deadlines.done(wait, moment)  # as whoever waited does, also after its end
    assert clock.timers == []


@given(st.integers(1, 400))
def test_the_timers_of_many_waits_are_few(count):
    """Waits of 30 s that begin within 30 s have some 60 timers, however many they are; closed, they end none."""
    clock = Clock()
    deadlines = Deadlines(clock)
    waits = [Wait() for _ in range(count)]
    for number, wait in enumerate(waits):
        deadlines.begin(wait, 30 * number / count + 30.0, 30.0)
    assert len(clock.timers) <= 61
    deadlines.close()
    clock.pass_to(100.0)
    assert not any(wait.ended for wait in waits)
