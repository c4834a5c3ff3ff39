"""When a gateway's circuit opens, whom it bars, and how it closes again."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from qc_adapter.gateway.bulkhead import Bulkhead
from qc_adapter.gateway.circuit import MOST_FAILURES, Circuit, CircuitChange
from qc_adapter.model.errors import GatewayMisconfigured, GatewayUnavailable, LimitReached


@dataclass
class Scene:
    """A circuit with a clock that stands still, and without jitter unless told."""

    now: float = 100.0
    jitter: float = 0.0
    told: list = field(default_factory=list)

    def __post_init__(self):
        self.circuit = Circuit("north", self.told.append, clock=lambda: self.now, jitter=lambda: self.jitter)

    def fail(self, times=MOST_FAILURES, **more):
        for _ in range(times):
            self.circuit.failed("no reply in time", self.now, **more)

    def barred(self):
        """How a command is barred, or None."""
        try:
            self.circuit.leave(self.circuit.enter("intercept"))
        except (GatewayUnavailable, GatewayMisconfigured) as barred:
            return barred
        return None

    def fail_as_probe(self):
        """Let one command try in vain."""
        probe = self.circuit.enter("intercept")
        self.fail(1)
        self.circuit.leave(probe)


@pytest.fixture
def scene():
    return Scene()


def test_a_row_of_failures_opens_it(scene):
    """The fifth failure in turn opens the circuit, told once; commands fail at once and say why and when again."""
    scene.fail(MOST_FAILURES - 1)
    assert scene.barred() is None
    scene.fail(3)
    assert scene.told == [CircuitChange("north", opened=True, why="no reply in time")]
    barred = scene.barred()
    assert isinstance(barred, GatewayUnavailable)
    assert "not sent" in barred.message
    assert "no reply in time" in barred.message
    assert barred.retry_seconds == 1.0


def test_an_answer_between_two_failures_keeps_it_closed(scene):
    """What is answered now and then is not away."""
    for _ in range(20):
        scene.fail(MOST_FAILURES - 1)
        scene.circuit.answered()
    assert scene.told == []


def test_what_was_lost_before_the_last_answer_does_not_count(scene):
    """A gateway that is back is not shut out for what still times out from before."""
    began = scene.now
    scene.now += 5
    scene.circuit.answered()
    for _ in range(50):
        scene.circuit.failed("no reply in time", began)
    assert scene.told == []


def test_after_the_pause_one_command_at_a_time_tries_it(scene):
    """While one command tries, the others fail at once; the one that is answered closes the circuit for all."""
    scene.fail()
    scene.now += 1.0
    probe = scene.circuit.enter("intercept")
    assert isinstance(scene.barred(), GatewayUnavailable)
    scene.circuit.answered()
    scene.circuit.leave(probe)
    assert [change.opened for change in scene.told] == [True, False]
    assert scene.barred() is None


def test_each_try_in_vain_doubles_the_pause(scene):
    """1 s, 2 s, 4 s, ... and never more than 30 s; callers are told to wait no longer than 5 s."""
    scene.fail()
    pauses, advice = [], []
    for _ in range(7):
        began = scene.now
        while barred := scene.barred():
            advice.append(barred.retry_seconds)
            scene.now += 0.25
        pauses.append(scene.now - began)
        scene.fail_as_probe()
    assert pauses == [1, 2, 4, 8, 16, 30, 30]
    assert (min(advice), max(advice)) == (1.0, 5.0)


def test_the_pause_is_longer_by_chance(scene):
    """Jitter adds up to a quarter, so that replicas do not try in step."""
    scene.jitter = 1.0
    scene.fail()
    scene.now += 1.2
    assert scene.barred() is not None
    scene.now += 0.05
    assert scene.barred() is None


def test_a_try_that_proves_nothing_changes_nothing(scene):
    """A command that is cancelled, or answered by a page, lets the next one try at once."""
    scene.fail()
    scene.now += 1.0
    for _ in range(3):
        assert scene.barred() is None
    assert scene.circuit.opened


def test_failures_of_polls_do_not_prolong_the_pause(scene):
    """Hundreds of polls that fail while it is open change neither the pause nor the log."""
    scene.fail(500)
    scene.now += 1.0
    assert scene.barred() is None
    assert len(scene.told) == 1


def test_a_poll_that_is_answered_closes_it(scene):
    """Any reply closes the circuit, without a command that tries; the next time begins with the first pause."""
    scene.fail()
    scene.now += 1.0
    scene.fail_as_probe()
    scene.circuit.answered()
    assert scene.barred() is None
    scene.now += 1.0
    scene.fail()
    scene.now += 1.0
    assert scene.barred() is None


def test_a_gateway_that_is_not_trusted_stays_misconfigured(scene):
    """A certificate that is refused again and again is told as what it is: no repetition helps."""
    scene.fail(untrusted=True)
    barred = scene.barred()
    assert isinstance(barred, GatewayMisconfigured)
    assert "not sent" in barred.message


def test_one_inspector_has_so_many_commands_under_way():
    """One more is refused by its name; another inspector's is not, and a place that is left is free again."""
    bulkhead = Bulkhead(2)
    bulkhead.enter("101")
    bulkhead.enter("101")
    with pytest.raises(LimitReached, match="101") as raised:
        bulkhead.enter("101")
    assert raised.value.limit == "commands_per_inspector"
    bulkhead.enter("102")
    bulkhead.leave("101")
    bulkhead.enter("101")
