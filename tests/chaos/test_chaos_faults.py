"""The short form of the chaos run: every fault once, with few inspectors and a tenth of all times."""

from __future__ import annotations

import pytest

from bench.chaos import form
from bench.chaos.scenarios import ALL, named
from bench.chaos.site import running

TOGETHER = [scenario for scenario in ALL if not scenario.sentinels]
#: Sentinels take their own time: the other failovers belong to the long run.
ALONE = [named("sentinel-killed")]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("scenario", TOGETHER, ids=lambda one: one.name)
async def test_no_fault_loses_an_event_overlaps_polls_signs_out_or_repeats_a_command(site, scenario):
    """After any fault each event was delivered once and in order or is covered by a gap, and nobody is signed out."""
    trial = await site.trial(scenario)
    assert trial.violations == []
    assert trial.found.sent > 0
    assert trial.found.delivered + trial.found.covered == trial.found.sent


@pytest.mark.parametrize("scenario", ALONE, ids=lambda one: one.name)
async def test_no_failover_of_redis_loses_an_event_overlaps_polls_or_signs_out(scenario):
    """A master that dies under Sentinel costs no event that no gap covers, and no sign-in."""
    async with running(form.SHORT, sentinels=True) as site:
        trial = await site.trial(scenario)
    assert trial.violations == []
    assert trial.found.delivered + trial.found.covered == trial.found.sent
