"""A replica that went silent: another one takes over, says so, and what the old one still had is nowhere."""

from __future__ import annotations

import pytest
from grpc import StatusCode

from tests.support.watches import hold, read, told, until_told


@pytest.fixture
async def taken_over(cluster, pair, until):
    """The replica that polled is cut off from Redis with an event in hand, and the other one has taken over."""
    first, second = pair
    stream = second.watch()
    await read(stream, 1)
    await first.held_poll()
    await first.store.refuse()
    cluster.simulator.inject("101", hold("late"))
    await until(lambda: "101" in second.held, "a takeover")
    assert [one.gap.reason for one in await read(stream, 1)] == ["TAKEOVER"]
    yield stream
    stream.cancel()


async def test_a_replica_that_is_cut_off_is_replaced(cluster, pair, taken_over, until):
    """Silent for longer than its lease: another replica polls on after a gap, and events and commands work there."""
    _, second = pair
    cluster.simulator.inject("101", hold(1))
    assert told(await read(taken_over, 1)) == ["9-1"]
    await second.listening()
    ended = await second.ending(second.intercept())
    assert (ended.outcome, second.puts) == ("CONFIRMED", 1)
    [line] = cluster.changes("taken_over")
    assert (line["agent_id"], line["level"]) == ("101", "warning")


async def test_a_late_reply_of_the_old_reader_is_nowhere(cluster, pair, taken_over, until):
    """Connected again, the old reader is fenced: its late reply stands in no log, and it polls no more."""
    first, second = pair
    await first.store.accept()
    await until(lambda: "101" not in first.held, "the old reader gone")
    cluster.simulator.inject("101", hold(1))
    assert told(await until_told(taken_over, "9-1")) == ["9-1"]
    stream = first.watch(cursor="oldest")
    whole = told(await until_told(stream, "9-1"))
    stream.cancel()
    assert whole[-2:] == ["gap", "9-1"]
    assert "9-late" not in whole
    assert second.held == {"101"}
    assert len(cluster.changes("fenced") + cluster.changes("revoked")) == 1


async def test_a_takeover_is_counted_and_told(cluster, pair, taken_over, until):
    """Leases, their changes, gaps and store errors are counted; each change is one line in the log, without secrets."""
    first, second = pair
    await first.store.accept()
    await until(lambda: "101" not in first.held, "the old reader gone")
    assert await second.sample('qc_lease_changes_total{gateway="default",reason="taken_over"}') == 1
    assert await second.sample('qc_event_gaps_total{gateway="default",reason="takeover"}') == 1
    assert await second.sample('qc_leases_held{gateway="default"}') == 1
    assert await first.sample('qc_leases_held{gateway="default"}') == 0
    assert await first.sample('qc_lease_changes_total{gateway="default",reason="won"}') == 1
    lost = [
        await first.sample(f'qc_lease_changes_total{{gateway="default",reason="{reason}"}}')
        for reason in ("fenced", "revoked")
    ]
    assert sum(lost) == 1
    assert "qc_store_errors_total{" in await first.page("/metrics")
    assert await first.sample('qc_poll_age_seconds{gateway="default"}') == 0
    assert 0 <= await second.sample('qc_poll_age_seconds{gateway="default"}') < 120
    reasons = [line["reason"] for line in cluster.tape.lines if line["event"] == "lease_changed"]
    assert sorted(reasons)[-2:] == ["taken_over", "won"]
    assert len(reasons) == 3


async def test_a_new_sign_in_does_not_wait_for_a_replica_that_is_cut_off(cluster, pair, until):
    """The reader cannot be told of a new sign-in: another replica polls for it at once, after a gap."""
    cluster.may_sign_out = True
    first, second = pair
    stream = second.watch()
    await read(stream, 1)
    await first.held_poll()
    await first.store.refuse()
    assert (await second.ending(second.sign_in(force=True))).code is StatusCode.OK
    await second.held_poll()
    assert second.held == {"101"}
    cluster.simulator.inject("101", hold(1))
    seen = await until_told(stream, "9-1")
    assert [one.gap.reason for one in seen if one.HasField("gap")] == ["TAKEOVER"]
    stream.cancel()
    await first.store.accept()
    await until(lambda: not first.held, "the old reader gone")
    assert cluster.changes("session_lost") == []
