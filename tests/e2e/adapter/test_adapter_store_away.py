"""Sessions in a real Redis: away at the start, away later, and written by another system."""

from __future__ import annotations

import asyncio

import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2

from qc_adapter.simulator import Fault
from qc_adapter.v1 import quality_control_pb2 as qc
from qc_adapter.v1 import sessions_pb2

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


async def health_becomes(site, status):
    """Follow grpc.health.v1 until it says that."""
    stream = site.health.Watch(health_pb2.HealthCheckRequest(), timeout=20)
    while (await stream.read()).status != status:
        pass
    stream.cancel()


async def store_answers(site):
    """Ask as a caller would, again while the store is away: health may not yet have noticed that it was."""
    while (await site.ending(site.get())).reason == "STORE_UNAVAILABLE":
        pass


def assert_store_unavailable(ended):
    """Nothing was done, and waiting helps."""
    assert (ended.code, ended.reason, ended.domain) == (StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE", "qc-adapter")
    assert ended.retry
    assert ended.updates == []
    assert "session store" in ended.message


@pytest.fixture(params=["Intercept", "SignIn", "SignOut", "Adopt", "Get", "List", "Watch"])
def any_call(request):
    """Every kind of call that needs the store."""
    return {
        "Intercept": lambda site: site.intercept(),
        "SignIn": lambda site: site.sign_in(force=True),
        "SignOut": lambda site: site.sessions.SignOut(sessions_pb2.SignOutRequest(agent_id="101"), timeout=20),
        "Adopt": lambda site: site.sessions.Adopt(sessions_pb2.AdoptRequest(agent_id="101", guid="g"), timeout=20),
        "Get": lambda site: site.get(),
        "List": lambda site: site.sessions.List(sessions_pb2.ListRequest(), timeout=20),
        "Watch": lambda site: site.watch(),
    }[request.param]


async def test_every_call_says_that_the_store_is_away(open_site, own_redis_server, any_call):
    """Without Redis each call is UNAVAILABLE with RetryInfo, and the gateway hears nothing of it."""
    own_redis_server.stop()
    site = await open_site(QC_STORE_URL=own_redis_server.url)
    assert_store_unavailable(await site.ending(any_call(site)))
    assert site.simulator.record.received == 0


async def test_redis_may_come_after_the_adapter(open_site, own_redis_server):
    """Away at the start: alive, NOT_SERVING and says why; when Redis comes it serves without a restart."""
    own_redis_server.stop()
    site = await open_site(QC_STORE_URL=own_redis_server.url)
    assert await site.serving() == "NOT_SERVING"
    assert '"store":{"ok":false' in await site.page("/readyz")
    assert "qc_store_up 0.0" in await site.page("/metrics")
    assert '"alive":true' in await site.page("/livez")
    assert_store_unavailable(await site.ending(site.intercept()))
    await asyncio.to_thread(own_redis_server.start)
    await health_becomes(site, SERVING)
    await site.goes_on()


async def test_redis_may_go_and_come_back(open_site, own_redis_server):
    """Away later: NOT_SERVING, calls are UNAVAILABLE and send nothing; back again, the inspector signs in and works."""
    site = await open_site(QC_STORE_URL=own_redis_server.url)
    await site.ending(site.sign_in())
    await site.listening()
    own_redis_server.stop()
    # Whose GUID to use may be known until the loop hears of it; what makes a repetition safe is to be written down.
    assert_store_unavailable(await site.ending(site.intercept(request_id="one")))
    await health_becomes(site, NOT_SERVING)
    assert site.puts == 0
    assert [line["level"] for line in site.tape.lines if line["event"] == "store_lost"] == ["warning"]
    await asyncio.to_thread(own_redis_server.start)
    await health_becomes(site, SERVING)
    await site.goes_on()
    assert 'qc_store_errors_total{operation="get"}' in await site.page("/metrics")


async def test_a_frozen_redis_does_not_hold_calls_for_ever(open_site, own_redis_server):
    """Redis accepts and does not answer: the call ends by itself, nothing is sent, and it works after the thaw."""
    site = await open_site(QC_STORE_URL=own_redis_server.url)
    await site.ending(site.sign_in())
    await site.listening()
    await site.held_poll()
    own_redis_server.freeze()
    try:
        # Whose GUID to use may still be known for a moment; what makes a repetition safe is to be written down first.
        assert_store_unavailable(await site.ending(site.intercept(timeout=None, request_id="one")))
        assert site.puts == 0
    finally:
        own_redis_server.thaw()
    await store_answers(site)
    await health_becomes(site, SERVING)
    await site.goes_on()


async def test_an_intercept_that_is_out_ends_well_without_the_store(open_site, own_redis_server, until):
    """Redis stops answering while the request is out: the receipt still reaches the caller, the events after it."""
    site = await open_site(QC_STORE_URL=own_redis_server.url)
    await site.ending(site.sign_in())
    await site.listening()
    await site.held_poll()
    site.simulator.add_fault(Fault("delay", operation="intercept", seconds=0.2))
    call = site.intercept()
    await until(lambda: site.puts == 1)
    own_redis_server.freeze()
    try:
        assert (await call.read()).HasField("accepted")
    finally:
        own_redis_server.thaw()
    ended = await site.ending(call)
    assert ended.kinds == ["AgentEvent_Talking", "AgentMediaEvent_Record", "outcome"]
    assert ended.code is StatusCode.OK
    assert (ended.outcome, site.puts) == ("CONFIRMED", 1)


@pytest.mark.parametrize("prefix", ["", "JSESSIONID="])
async def test_a_session_written_by_hand_is_picked_up(open_site, redis_server, redis_url, until, prefix):
    """HSET of agent_id and guid is enough: the adapter begins to poll by itself, and the intercept works."""
    site = await open_site(QC_STORE_URL=redis_url)
    guid = site.simulator.sign_in("101")
    site.secrets.add(guid)
    with redis_server.client() as client:
        client.hset("qc:session:101", mapping={"agent_id": "101", "guid": prefix + guid})
    await until(lambda: site.simulator.requests("getAgentEvent", "101"), "a poll")
    await site.listening()
    ended = await site.ending(site.intercept())
    assert ended.kinds == ["accepted", "AgentEvent_Talking", "AgentMediaEvent_Record", "outcome"]
    assert (ended.outcome, site.puts) == ("CONFIRMED", 1)
    with redis_server.client() as client:
        client.delete("qc:session:101")
    ended = await site.ending(site.watch())
    assert ended.reason == "INSPECTOR_NOT_SIGNED_IN"


async def test_a_session_written_by_hand_works_at_once(open_site, redis_server, redis_url):
    """A command does not wait until the adapter has noticed the session."""
    site = await open_site(QC_STORE_URL=redis_url)
    guid = site.simulator.sign_in("101")
    site.secrets.add(guid)
    with redis_server.client() as client:
        client.hset("qc:session:101", mapping={"agent_id": "101", "guid": guid})
    await site.listening()
    assert (await site.ending(site.intercept())).outcome == "CONFIRMED"


async def test_a_rotated_guid_is_written_back(open_site, redis_server, redis_url, until):
    """The GUID that a poll brings stands in Redis for the other replicas, and nothing else of the record changes."""
    site = await open_site(QC_STORE_URL=redis_url)
    guid = site.simulator.sign_in("101")
    with redis_server.client() as client:
        client.hset("qc:session:101", mapping={"agent_id": "101", "guid": guid, "note": "ours"})
        await site.held_poll()
        site.simulator.rotate("101")
        newer = site.simulator.guid_of("101")
        await until(lambda: client.hget("qc:session:101", "guid") == newer.encode(), "the new GUID")
        assert client.hget("qc:session:101", "note") == b"ours"
    site.secrets |= {guid, newer}
    await site.goes_on()


@pytest.mark.parametrize(
    "record",
    [
        {"agent_id": "102", "guid": "canary-guid"},
        {"guid": "canary-guid"},
        {"agent_id": "101"},
        {"agent_id": "101", "guid": "canary guid"},
        {"agent_id": "101", "guid": "canary-guid", "event_source": "pigeon"},
        {"agent_id": "101", "guid": "canary-guid", "version": "2"},
    ],
    ids=["other agent", "no agent", "no guid", "bad guid", "bad source", "newer version"],
)
async def test_an_unreadable_record_is_no_session(open_site, redis_server, redis_url, record):
    """A record that is not this inspector's session is never used; the call names the record, not its values."""
    site = await open_site(QC_STORE_URL=redis_url)
    site.secrets |= {"canary-guid", "canary guid"}
    with redis_server.client() as client:
        client.hset("qc:session:101", mapping=record)
    ended = await site.ending(site.intercept())
    assert ended.code is not StatusCode.OK
    assert ended.reason not in {None, "INTERNAL"}
    assert site.puts == 0
    assert await site.serving() == "SERVING"
    await site.ending(site.sign_in("103"))
    await site.goes_on("103")


async def test_two_replicas_share_a_sign_in(open_site, redis_url):
    """What one replica signed in, the other one can use."""
    one = await open_site(QC_STORE_URL=redis_url)
    two = await open_site(QC_STORE_URL=redis_url, QC_GATEWAY_URL=one.wire.url)
    assert (await one.ending(one.sign_in())).code is StatusCode.OK
    one.simulator.start_call("292")
    assert (await two.ending(two.get())).updates[0].session.agent_id == "101"
    request = qc.ListenRequest(agent_id="101", work_no="292", options=qc.CommandOptions(follow=qc.FOLLOW_NONE))
    request.options.confirm_within.FromMilliseconds(100)
    assert (await two.ending(two.commands.Listen(request, timeout=20))).kinds == ["accepted"]
    assert len(one.simulator.requests("addSupervise")) == 1


async def test_bad_records_hide_nobody(open_site, redis_server, redis_url, until):
    """A key that is no session is named in the list and by its own calls; the other inspectors are served as ever."""
    site = await open_site(QC_STORE_URL=redis_url)
    guid = site.simulator.sign_in("303")
    site.secrets.add(guid)
    with redis_server.client() as client:
        client.set("qc:session:102", "not a hash")
        client.hset("qc:session:202", mapping={"agent_id": "203", "guid": "canary"})
        client.hset("qc:session:303", mapping={"agent_id": "303", "guid": guid})
        client.hset("qc:session:404", mapping={"agent_id": "404"})
        client.hset("qc:session:405", mapping={"agent_id": "405", "guid": "can ary"})
    await until(lambda: site.simulator.requests("getAgentEvent", "303"), "a poll")
    listed = (await site.ending(site.sessions.List(sessions_pb2.ListRequest(), timeout=20))).updates[0]
    assert [one.agent_id for one in listed.sessions] == ["102", "202", "303", "404", "405"]
    assert [bool(one.detail) for one in listed.sessions] == [True, True, False, True, True]
    ended = await site.ending(site.get("202"))
    assert (ended.code, ended.reason) == (StatusCode.FAILED_PRECONDITION, "INSPECTOR_SESSION_UNREADABLE")
    told = {line["agent_id"]: line["detail"] for line in site.tape.lines if line["event"] == "session_unreadable"}
    assert sorted(told) == ["102", "202", "404", "405"]
    assert "it has no guid" in told["404"]
    assert "its guid must be" in told["405"]  # which the log does not take for a secret
