"""The targets of `make fuzz` in short: kept inputs, and some of the right form. The same cases each time."""

import pytest
from hypothesis import HealthCheck, given, settings

from tests.fuzz.catalogue import TARGETS
from tests.fuzz.target import SEEDS

_EXAMPLES = {"push": 80, "request": 150}
_PLAIN = 300
# A slow machine is no failure.
_UNHURRIED = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


@pytest.mark.parametrize(
    ("name", "seed"), [(name, seed.name) for name, target in TARGETS.items() for seed in target.seeds()]
)
def test_kept_inputs_break_nothing(name, seed):
    """An input that was kept, or broke something once, keeps the rule of its target."""
    TARGETS[name].check((SEEDS / name / seed).read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_inputs_of_the_right_form_break_nothing(name):
    """Any input of the form that the target reads keeps the rule of the target."""
    target = TARGETS[name]

    @settings(
        max_examples=_EXAMPLES.get(name, _PLAIN),
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=_UNHURRIED,
    )
    @given(target.shapes())
    def holds(data):
        target.check(data)

    holds()


def test_every_target_has_kept_inputs():
    """No target is without kept inputs."""
    assert not set(TARGETS) - {one.name for one in SEEDS.iterdir()}
