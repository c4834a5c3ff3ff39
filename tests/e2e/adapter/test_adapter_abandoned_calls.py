"""Callers that go away or have no time: what was not sent stays unsent, what was sent is settled, nothing is left."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from grpc import StatusCode

from qc_adapter.simulator import Fault
from qc_adapter.v1 import events_pb2, events_pb2_grpc, sessions_pb2
from qc_adapter.v1 import quality_control_pb2 as qc


@pytest.fixture
async def redis_site(open_site, own_redis_server):
    """A site whose sessions are in a Redis that can be frozen, with inspector 101 listening."""
    made = await open_site(QC_STORE_URL=own_redis_server.url)
    assert (await made.ending(made.sign_in())).code is StatusCode.OK
    await made.listening()
    try:
        yield made
    finally:
        own_redis_server.thaw()


@pytest.mark.parametrize("seconds", [0, 1e-9, 0.001, -1])
async def test_a_deadline_that_is_over_sends_nothing(site, seconds):
    """A call without time for a reply is DEADLINE_EXCEEDED, and the gateway hears nothing of it."""
    await site.listening()
    for _ in range(5):
        ended = await site.ending(site.intercept(timeout=seconds))
        assert ended.code is StatusCode.DEADLINE_EXCEEDED
        assert ended.updates == []
    await site.goes_on()  # counts the requests: one more than before
    assert site.puts == 1


async def test_a_deadline_before_sending_says_that_nothing_was_sent(redis_site, own_redis_server):
    """The time is used up by a slow store: DEADLINE_EXCEEDED, outcome not_sent, and no request later."""
    site = redis_site
    own_redis_server.freeze()
    ended = await site.ending(site.intercept(timeout=1.2, request_id="one"))
    own_redis_server.thaw()
    assert (ended.code, ended.reason) == (StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")
    assert ended.metadata["outcome"] == "not_sent"
    assert site.calls[-1]["outcome"] == "not_sent"
    assert site.puts == 0
    await site.goes_on()
    assert site.puts == 1


async def test_a_deadline_while_the_request_is_out_says_unknown(site):
    """The gateway is silent and the caller's time ends: the events still get their share, then outcome unknown."""
    await site.listening()
    site.simulator.add_fault(Fault("hang", operation="intercept"))
    ended = await site.ending(site.intercept(timeout=2, confirm_within=1.0))
    assert ended.code is StatusCode.DEADLINE_EXCEEDED
    assert (ended.reason, ended.metadata["outcome"]) == ("DEADLINE_EXCEEDED", "unknown")
    assert ended.metadata["cursor"]
    assert not ended.retry
    assert site.puts == 1


async def test_the_events_get_their_share_of_the_deadline(site):
    """The gateway is silent but did it: the events within the caller's time confirm it."""
    await site.listening()
    site.simulator.add_fault(Fault("hang", operation="intercept", processed=True))
    ended = await site.ending(site.intercept(timeout=2))
    assert (ended.code, ended.outcome) == (StatusCode.OK, "CONFIRMED")
    assert site.puts == 1
    await site.goes_on()


async def test_a_deadline_before_the_events_says_unknown_with_a_cursor(site):
    """Accepted, not yet confirmed, and the time is over: the cursor leads a watch to what came later."""
    await site.listening()
    site.simulator.add_fault(Fault("lose_event", agent_id="101", times=2))
    ended = await site.ending(site.intercept(timeout=2.5, confirm_within=4.0))
    assert (ended.code, ended.kinds) == (StatusCode.DEADLINE_EXCEEDED, ["accepted"])
    assert (ended.reason, ended.metadata["outcome"]) == ("DEADLINE_EXCEEDED", "unknown")
    stream = site.watch(cursor=ended.metadata["cursor"])
    assert (await stream.read()).HasField("subscribed")
    site.simulator.inject("101", {"eventType": "AgentEvent_Hold", "workNo": "101", "content": "1-1"})
    assert (await stream.read()).event.event_type == "AgentEvent_Hold"
    stream.cancel()
    assert site.puts == 1


async def cancelled(site, call):
    """Cancel a call as its caller; it ends as CANCELLED at both ends."""
    call.cancel()
    assert await call.code() is StatusCode.CANCELLED


async def test_a_call_cancelled_before_it_was_sent_is_never_sent(redis_site, own_redis_server, until):
    """The caller goes away while the store is slow: the command is given up, and a repetition runs."""
    site = redis_site
    own_redis_server.freeze()
    call = site.intercept(request_id="one")
    await until(lambda: site.adapter.runner.in_flight == 1)
    await cancelled(site, call)
    await until(lambda: site.adapter.runner.in_flight == 0)
    own_redis_server.thaw()
    assert site.puts == 0
    assert site.calls[-1]["grpc_code"] == "CANCELLED"
    good = await site.ending(site.intercept(request_id="one"))
    assert good.outcome == "CONFIRMED"
    assert site.puts == 1


async def test_a_call_cancelled_while_its_request_is_out_is_settled_without_it(open_site, until):
    """The request is out: it is neither repeated nor forgotten when the caller leaves."""
    site = await open_site(QC_GATEWAY_TIMEOUT_SECONDS="1")
    await site.ending(site.sign_in())
    await site.listening()
    site.simulator.add_fault(Fault("hang", operation="intercept", processed=True))
    stream = site.watch()
    assert (await stream.read()).HasField("subscribed")
    call = site.intercept()
    await until(lambda: site.puts == 1)
    await cancelled(site, call)
    assert (await stream.read()).event.event_type == "AgentEvent_Talking"
    stream.cancel()
    await until(lambda: site.adapter.runner.in_flight == 0)
    assert site.puts == 1
    assert 'qc_command_outcomes_total{gateway="default",method="intercept",outcome="confirmed"} 1.0' in await site.page(
        "/metrics"
    )
    await site.goes_on()


@pytest.mark.parametrize("rpc_ends", ["confirmed", "unconfirmed"])
async def test_a_call_cancelled_after_the_receipt_is_settled_without_it(site, until, rpc_ends):
    """Accepted and then left alone: the command gets its outcome, once."""
    await site.listening()
    if rpc_ends == "unconfirmed":
        site.simulator.add_fault(Fault("lose_event", agent_id="101", times=-1))
    call = site.intercept(confirm_within=0.3)
    assert (await call.read()).HasField("accepted")
    await cancelled(site, call)
    sample = f'qc_command_outcomes_total{{gateway="default",method="intercept",outcome="{rpc_ends}"}} 1.0'
    async with asyncio.timeout(10):
        while sample not in await site.page("/metrics"):
            pass
    assert site.puts == 1
    await site.goes_on()


async def test_a_call_cancelled_while_it_follows_leaves_nothing(site, until):
    """Confirmed and followed until the release: when the caller leaves, its subscription goes with it."""
    await site.listening()
    call = site.intercept(follow=qc.FOLLOW_UNTIL_RELEASED)
    while not (await call.read()).HasField("outcome"):
        pass
    feed = site.adapter.hub.feed("101")
    await until(lambda: feed.followed)
    await cancelled(site, call)
    await until(lambda: not feed.followed)
    await until(lambda: site.calls[-1]["grpc_code"] == "CANCELLED")
    assert site.calls[-1]["outcome"] == "confirmed"
    assert site.puts == 1
    await site.goes_on()


@pytest.mark.parametrize("rpc", ["sign_in", "sign_out"])
async def test_a_cancelled_sign_in_or_out_is_finished(site, until, rpc):
    """What was begun at the gateway is finished without the caller: store and gateway stay in step."""
    operation, begin = {
        "sign_in": ("login", lambda: site.sign_in("103")),
        "sign_out": ("logout", lambda: site.sessions.SignOut(sessions_pb2.SignOutRequest(agent_id="103"), timeout=20)),
    }[rpc]
    if rpc == "sign_out":
        await site.ending(site.sign_in("103"))
    site.simulator.add_fault(Fault("delay", operation=operation, agent_id="103", seconds=0.3))
    call = begin()
    await until(lambda: site.simulator.requests(operation, "103"))
    await cancelled(site, call)
    await until(lambda: site.adapter.sessions.under_way == 0)
    found = await site.ending(site.get("103"))
    assert (found.code is StatusCode.OK) is (rpc == "sign_in")
    assert (site.simulator.state_of("103") == "IDLE") is (rpc == "sign_in")
    assert len(site.simulator.requests(operation, "103")) == 1


async def test_callers_whose_connection_breaks_leave_nothing(site, until):
    """A client that dies with ten open streams costs nothing but its streams."""
    channel = grpc.aio.insecure_channel(
        f"127.0.0.1:{site.adapter.port}", options=[("grpc.use_local_subchannel_pool", 1)]
    )
    stub = events_pb2_grpc.InspectorEventsStub(channel)
    streams = [stub.Watch(events_pb2.WatchRequest(agent_id="101")) for _ in range(10)]
    for stream in streams:
        assert (await stream.read()).HasField("subscribed")
    feed = site.adapter.hub.feed("101")
    await until(lambda: feed.followed)
    await channel.close()
    await until(lambda: not feed.followed)
    await site.goes_on()
