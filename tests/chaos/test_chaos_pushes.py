"""The short form of the chaos run with pushed events: what is different from polls, each fault once."""

from __future__ import annotations

import pytest

from bench.chaos.scenarios import PUSHED, named

FORGETS = named("gateway-forgets", PUSHED)
FAULTS = [*(named(name, PUSHED) for name in ("sigstop", "redis-restarted", "balancing")), FORGETS]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("scenario", FAULTS, ids=lambda one: one.name)
async def test_no_fault_loses_a_pushed_event_tells_it_twice_or_signs_out(pushed_site, scenario):
    """
    The gateway pushes again what was not answered, so each event is told once and without a gap to cover it.

    One that forgets its sign-ins forgets the pushes that it was at; there is a gap where it was.
    """
    trial = await pushed_site.trial(scenario)
    assert trial.violations == []
    assert trial.found.sent > 0
    forgotten = trial.found.covered if scenario is FORGETS else 0
    assert trial.found.delivered + forgotten == trial.found.sent
