"""Redis goes away in every way there is: callers hear so at once, and nothing that was read is lost."""

from __future__ import annotations

import asyncio

import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2

from qc_adapter.simulator import Fault
from tests.support.watches import hold, read, told, until_told

SERVING = health_pb2.HealthCheckResponse.SERVING


def assert_store_unavailable(ended):
    """Nothing was done, and waiting helps."""
    assert (ended.code, ended.reason, ended.retry) == (StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE", True)
    assert ended.updates == []


async def serving(replica):
    """Wait until grpc.health.v1 says that the replica serves."""
    stream = replica.health.Watch(health_pb2.HealthCheckRequest(), timeout=20)
    while (await stream.read()).status != SERVING:
        pass
    stream.cancel()


async def whole_intercept(replica):
    """Prove that commands work: listen and intercept, confirmed."""
    await replica.listening()
    ended = await replica.ending(replica.intercept())
    assert (ended.code, ended.outcome) == (StatusCode.OK, "CONFIRMED"), ended


async def test_without_redis_calls_fail_at_once_and_send_nothing(cluster, pair):
    """Connections to Redis are refused: every call is STORE_UNAVAILABLE with RetryInfo, open streams live on."""
    streams = [one.watch() for one in pair]
    for stream in streams:
        await read(stream, 1)
    for one in pair:
        await one.store.refuse()
    before = len(cluster.simulator.record.commands)
    for one in pair:
        for call in (one.intercept(), one.intercept(request_id="one"), one.sign_out(), one.get(), one.watch()):
            assert_store_unavailable(await one.ending(call))
    assert len(cluster.simulator.record.commands) == before
    for one in pair:
        await one.store.accept()
    for one in pair:
        await serving(one)
    cluster.simulator.inject("101", hold(1))
    for stream in streams:
        assert told(await read(stream, 1)) == ["9-1"]
        stream.cancel()
    await whole_intercept(pair[1])


async def test_a_poll_reply_in_hand_waits_for_redis(cluster, pair, until):
    """An event is read while Redis is away: no poll goes out meanwhile, and it is stored once when Redis is back."""
    first, second = pair
    stream = second.watch()
    await read(stream, 1)
    await first.held_poll()
    for one in pair:
        await one.store.refuse()
    before = cluster.polls()
    cluster.simulator.inject("101", hold(1))
    await until(lambda: any(line["event"] == "polling_degraded" for line in cluster.tape.lines), "a reply in hand")
    cluster.simulator.inject("101", hold(2))
    assert_store_unavailable(await first.ending(first.intercept()))
    assert cluster.polls() == before
    for one in pair:
        await one.store.accept()
    assert told(await read(stream, 2)) == ["9-1", "9-2"]
    cluster.simulator.inject("101", hold(3))
    assert told(await read(stream, 1)) == ["9-3"]
    stream.cancel()
    assert cluster.changes("taken_over") == []


async def test_a_stored_reply_whose_receipt_was_lost_is_not_stored_twice(cluster, pair):
    """Redis stores the event and its answer never arrives: the step is repeated, and the event stands there once."""
    first, second = pair
    stream = second.watch()
    await read(stream, 1)
    await first.held_poll()
    first.store.stall(replies_only=True)
    cluster.simulator.inject("101", hold(1))
    assert told(await read(stream, 1)) == ["9-1"]
    first.store.cut()
    first.store.flow()
    cluster.simulator.inject("101", hold(2))
    assert told(await read(stream, 1)) == ["9-2"]
    stream.cancel()


async def test_a_command_stream_outlives_a_redis_that_went_away(cluster, pair):
    """Redis is away between the receipt and the events: the stream goes on, and the command is confirmed after it."""
    _, second = pair
    await second.listening()
    call = second.intercept()
    assert (await call.read()).HasField("accepted")
    for one in pair:
        one.store.cut()
    ended = await second.ending(call)
    assert (ended.code, ended.outcome) == (StatusCode.OK, "CONFIRMED")


async def test_a_redis_that_restarts_empty_gets_everything_back(cluster, pair, own_redis_server):
    """Redis restarts without its data: sessions and leases come back, a watch says LOG_LOST, nobody is signed out."""
    streams = [one.watch() for one in pair]
    for stream in streams:
        await read(stream, 1)
    own_redis_server.stop()
    await asyncio.to_thread(own_redis_server.start)
    for one, stream in zip(pair, streams, strict=True):
        assert (await read(stream, 1))[0].gap.reason == "LOG_LOST"
        await serving(one)
    cluster.simulator.inject("101", hold(1))
    for stream in streams:
        assert told(await until_told(stream, "9-1")) == ["9-1"]
        stream.cancel()
    await whole_intercept(pair[1])
    assert cluster.changes("taken_over") == []


async def test_a_reply_in_hand_outlives_a_redis_that_restarts_empty(cluster, pair, own_redis_server, until):
    """An event is in hand when Redis loses everything: it stands in the new log, after a gap that says LOG_LOST."""
    first, second = pair
    stream = second.watch()
    await read(stream, 1)
    await first.held_poll()
    own_redis_server.stop()
    cluster.simulator.inject("101", hold(1))
    await until(lambda: any(line["event"] == "polling_degraded" for line in cluster.tape.lines), "a reply in hand")
    await asyncio.to_thread(own_redis_server.start)
    seen = await until_told(stream, "9-1")
    assert told(seen) == ["gap", "9-1"]
    assert seen[0].gap.reason == "LOG_LOST"
    stream.cancel()


async def test_a_redis_that_is_away_for_longer_than_a_lease_changes_nothing(cluster, pair, until):
    """Nobody could renew: who comes back first leaves the leases to their holders; no gap, and nothing is lost."""
    first, second = pair
    stream = second.watch()
    await read(stream, 1)
    await first.held_poll()
    [reader] = first.adapter.readers._reading.values()
    for one in pair:
        one.store.stall()
    cluster.simulator.inject("101", hold(1))
    await until(lambda: reader.lease.remaining_seconds < -0.5, "a lease that has expired")
    second.store.flow()
    await until(
        lambda: any(line["event"] == "leases_renewed_again" for line in cluster.tape.lines), "a look at the book"
    )
    assert second.held == set()
    first.store.flow()
    cluster.simulator.inject("101", hold(2))
    assert told(await read(stream, 2)) == ["9-1", "9-2"]
    stream.cancel()
    assert (first.held, second.held) == ({"101"}, set())
    assert cluster.changes("taken_over") == []


async def test_a_demoted_redis_refuses_writes_until_it_is_promoted(cluster, pair):
    """Redis becomes a read-only replica: STORE_UNAVAILABLE and nothing sent; promoted again, all goes on by itself."""
    first, second = pair
    stream = second.watch()
    await read(stream, 1)
    await cluster.write("REPLICAOF", "127.0.0.1", "1")
    try:
        ended = await first.ending(first.intercept(request_id="one"))
        assert_store_unavailable(ended)
        assert first.puts == 0
        cluster.simulator.inject("101", hold(1))
    finally:
        await cluster.write("REPLICAOF", "NO", "ONE")
    assert told(await read(stream, 1)) == ["9-1"]
    stream.cancel()
    await serving(first)
    await whole_intercept(first)


async def test_a_slow_redis_costs_time_only(cluster, pair):
    """Every message to and from Redis takes 200 ms: commands are confirmed, and no lease changes hands."""
    before = [one.held for one in pair]
    for one in pair:
        one.store.delay_seconds = 0.2
    await whole_intercept(pair[1])
    assert [one.held for one in pair] == before
    assert cluster.changes("taken_over") == cluster.changes("fenced") == []
    for one in pair:
        one.store.delay_seconds = 0.0


@pytest.mark.parametrize("calls", [1, 20])
async def test_a_redis_that_is_silent_fails_calls_in_bounded_time(cluster, pair, calls):
    """Redis accepts and says nothing: calls that need it end by themselves, however many there are."""
    _, second = pair
    second.store.stall()
    endings = await asyncio.gather(
        *(second.ending(second.intercept(timeout=None, request_id=f"one-{number}")) for number in range(calls))
    )
    second.store.flow()
    for ended in endings:
        assert_store_unavailable(ended)
    assert second.puts == 0


async def test_a_sign_out_that_loses_redis_leaves_no_stream_in_the_dark(cluster, pair, until):
    """The gateway signed the inspector out and the record stays: watches end as lost, and a repetition cleans up."""
    cluster.may_sign_out = True
    first, second = pair
    stream = first.watch()
    await read(stream, 1)
    cluster.simulator.add_fault(Fault("delay", operation="logout", seconds=0.3, after=True))
    out = asyncio.create_task(second.ending(second.sign_out()))
    await until(lambda: cluster.simulator.requests("logout"))
    second.store.stall()
    assert (await out).reason == "STORE_UNAVAILABLE"
    second.store.flow()
    await cluster.write("HSET", "qc:log:101", "leaving", 1)  # as if the time for a sign-out were over
    assert (await first.ending(stream)).reason == "INSPECTOR_SESSION_LOST"
    while (ended := await second.ending(second.sign_out())).code is StatusCode.ABORTED:
        assert "just being signed in or out" in ended.message  # until the first one has taken its mark away
    assert ended.code is StatusCode.OK
    assert (await first.ending(first.get())).reason == "INSPECTOR_NOT_SIGNED_IN"
