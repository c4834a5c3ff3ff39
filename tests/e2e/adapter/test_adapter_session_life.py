"""The rest of a session's life: fresh GUIDs on purpose, switch-overs that are waited out, and how events come."""

from __future__ import annotations

import asyncio
import socket

import pytest
from grpc import StatusCode

from qc_adapter.simulator import Fault
from qc_adapter.v1 import sessions_pb2
from tests.support.watches import hold

TOKEN = "canary0token0canary0token"


def update_guid(site, agent_id="101"):
    """Begin to ask for a fresh GUID."""
    return site.sessions.UpdateGuid(sessions_pb2.UpdateGuidRequest(agent_id=agent_id), timeout=20)


def adopt(site, guid, **more):
    """Begin an adoption."""
    return site.sessions.Adopt(sessions_pb2.AdoptRequest(agent_id="101", guid=guid, **more), timeout=20)


@pytest.fixture
def pushed():
    """The settings of a site whose gateway pushes."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    return {
        "QC_EVENT_SOURCE": "push",
        "QC_PUSH_LISTEN": f"127.0.0.1:{port}",
        "QC_PUSH_URL": f"http://127.0.0.1:{port}/events",
        "QC_PUSH_TOKEN": TOKEN,
        "QC_HEARTBEAT_SECONDS": "0.1",
    }


async def test_a_fresh_guid_is_stored_and_used(site, until):
    """The reply says nothing of it; the next poll and the next command carry it, and no event is lost."""
    await site.held_poll()
    before = site.simulator.guid_of("101")
    ended = await site.ending(update_guid(site))
    assert (ended.code, ended.updates[0].session.agent_id) == (StatusCode.OK, "101")
    fresh = site.simulator.guid_of("101")
    site.secrets |= {before, fresh}
    assert fresh != before
    assert (await site.adapter.store.get("101")).guid.reveal() == fresh
    site.simulator.inject("101", hold(1))
    await until(lambda: site.simulator.requests("getAgentEvent")[-1].guid == "current", "a poll with the new GUID")
    await site.goes_on()


async def test_a_fresh_guid_may_come_in_the_header_or_not_at_all(site):
    """Set-GUID is as good as the body; a reply with neither is no success, and the GUID that was there goes on."""
    site.simulator.add_fault(
        Fault("raw_body", operation="updateGuid", body='{"message":"","retcode":"0","result":{}}', processed=False)
    )
    ended = await site.ending(update_guid(site))
    assert (ended.code, ended.reason) == (StatusCode.UNKNOWN, "OUTCOME_UNKNOWN")
    body = '{"message":"","retcode":"0","result":{"guid":"a\\r\\nX: y"}}'
    site.simulator.add_fault(Fault("raw_body", operation="updateGuid", body=body, processed=False))
    assert (await site.ending(update_guid(site))).reason == "OUTCOME_UNKNOWN"
    await site.goes_on()


async def test_a_lost_reply_leaves_the_guid_to_the_next_poll(site, until):
    """Nobody knows whether it was changed: one request, OUTCOME_UNKNOWN, and the old GUID lives on for a while."""
    await site.held_poll()
    site.simulator.add_fault(Fault("reset_after", operation="updateGuid"))
    ended = await site.ending(update_guid(site))
    assert (ended.code, ended.reason) == (StatusCode.UNKNOWN, "OUTCOME_UNKNOWN")
    assert len(site.simulator.requests("updateGuid")) == 1
    assert (await site.ending(site.get())).updates[0].session.state == sessions_pb2.SESSION_STATE_ACTIVE


async def test_a_refused_guid_is_renewed_from_the_store_once(site):
    """100-006 with a newer GUID in the store was a race: once more with that one. Without one it is the answer."""
    site.simulator.add_fault(Fault("retcode", operation="updateGuid", code="100-006"))
    ended = await site.ending(update_guid(site))
    assert (ended.code, ended.reason) == (StatusCode.FAILED_PRECONDITION, "INSPECTOR_SESSION_LOST")
    assert len(site.simulator.requests("updateGuid")) == 1
    await site.held_poll()
    site.simulator.add_fault(Fault("rotate_now", operation="updateGuid"))
    site.simulator.add_fault(Fault("delay", operation="updateGuid", seconds=0.2))
    site.simulator.add_fault(Fault("retcode", operation="updateGuid", code="100-006"))
    assert (await site.ending(update_guid(site))).code is StatusCode.OK
    assert len(site.simulator.requests("updateGuid")) == 3
    assert (await site.ending(update_guid(site, "103"))).reason == "INSPECTOR_NOT_SIGNED_IN"
    await site.goes_on()


async def test_wire_a49_a_switch_over_is_waited_out_by_sign_outs_and_fresh_guids(site):
    """000-004 was not done: it is asked again within the call's time."""
    await site.ending(site.sign_in("102"))
    for operation in ("updateGuid", "logout"):
        site.simulator.add_fault(Fault("retcode", operation=operation, code="000-004"))
    signing_out = site.sessions.SignOut(sessions_pb2.SignOutRequest(agent_id="102"), timeout=20)
    endings = await asyncio.gather(site.ending(update_guid(site)), site.ending(signing_out))
    assert {one.code for one in endings} == {StatusCode.OK}
    assert [len(site.simulator.requests(one)) for one in ("updateGuid", "logout")] == [2, 2]
    assert site.simulator.state_of("102") == "SIGNED_OUT"
    await site.goes_on()


async def test_a_site_that_pushes_tells_the_gateway_where_to(open_site, pushed, until):
    """By its setting alone: a sign-in asks for pushes, a recovery does so again, and an adoption is pushed too."""
    site = await open_site(**pushed)
    site.secrets.add(TOKEN)
    ended = await site.ending(site.sign_in(re_sign_in=sessions_pb2.RE_SIGN_IN_SAME_CREDENTIALS))
    assert ended.updates[0].session.event_source == sessions_pb2.EVENT_SOURCE_PUSH
    assert site.simulator.state()["agents"]["101"]["push"]
    site.adapter.store.orders["101"].tried_at -= 5
    stream = site.watch()
    await stream.read()
    site.simulator.restart()
    while (await stream.read()).gap.reason != "TAKEOVER":
        pass
    stream.cancel()
    assert len(site.simulator.requests("login")) == 2
    assert site.simulator.state()["agents"]["101"]["push"]
    await until(lambda: site.adapter.store.orders["101"].stage is None, "the end of the recovery")
    site.secrets.add(guid := site.simulator.sign_in("101"))
    ended = await site.ending(adopt(site, guid))
    assert ended.updates[0].session.event_source == sessions_pb2.EVENT_SOURCE_PUSH


async def test_push_needs_a_place_to_push_to(open_site):
    """Without the settings an adoption with it is refused with what to set; by default it is polled."""
    site = await open_site()
    site.secrets.add(guid := site.simulator.sign_in("101"))
    ended = await site.ending(adopt(site, guid, event_source=sessions_pb2.EVENT_SOURCE_PUSH))
    assert (ended.code, ended.fields) == (StatusCode.INVALID_ARGUMENT, ("event_source",))
    assert "QC_PUSH_URL" in ended.message
    ended = await site.ending(adopt(site, guid))
    assert ended.updates[0].session.event_source == sessions_pb2.EVENT_SOURCE_POLL
    await site.goes_on()
