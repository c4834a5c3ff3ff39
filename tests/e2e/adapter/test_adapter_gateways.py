"""Several gateways: the inspector's id says which, and nothing of one reaches the other."""

from __future__ import annotations

import pytest
from grpc import StatusCode

from qc_adapter.v1 import quality_control_pb2 as qc
from qc_adapter.v1 import sessions_pb2
from tests.support.opening import simulated
from tests.support.watches import hold, read, until_told


@pytest.fixture
async def two_sites(open_site):
    """A site with a second gateway named north; inspector 101 is signed in at both."""
    async with simulated(agent_id_max=999999) as north:
        site = await open_site(
            QC_GATEWAYS="north", QC_GATEWAY_NORTH_URL=north.url, QC_GATEWAY_NORTH_AGENT_ID_MAX="999999"
        )
        for agent_id in ("101", "north/101"):
            assert (await site.ending(site.sign_in(agent_id))).code is StatusCode.OK
        site.secrets |= {north.guid_of("101")}
        yield site, north


async def test_the_same_number_at_two_gateways_is_two_inspectors(two_sites):
    """Each has its own session, events and commands; the gateway sees the number alone."""
    site, north = two_sites
    watches = [site.watch(agent_id) for agent_id in ("101", "default/101", "north/101")]
    for watch in watches:
        await read(watch, 1)
    north.start_call("292")
    listen = qc.ListenRequest(agent_id="north/101", work_no="292")
    assert (await site.ending(site.commands.Listen(listen, timeout=20))).outcome == "CONFIRMED"
    ended = await site.ending(site.intercept("north/101", "292"))
    assert (ended.code, ended.outcome) == (StatusCode.OK, "CONFIRMED")
    assert {update.event.work_no for update in ended.updates if update.HasField("event")} == {"101"}
    assert [len(one.requests("intercept", "101")) for one in (site.simulator, north)] == [0, 1]
    refused = await site.ending(site.intercept("101", "292"))
    assert refused.reason == "AGENT_UNKNOWN"  # nobody of that number works at the other gateway
    site.simulator.inject("101", hold("here"))
    for watch in watches[:2]:
        await until_told(watch, "9-here")
    for watch in watches:
        watch.cancel()


async def test_every_line_metric_and_session_says_which(two_sites):
    """Logs and metrics have a gateway field; sessions are listed by gateway, the default one first."""
    site, north = two_sites
    north.start_call("292")
    await site.ending(site.commands.Listen(qc.ListenRequest(agent_id="north/101", work_no="292"), timeout=20))
    line = site.calls[-1]
    assert (line["agent_id"], line["gateway"], line["rpc"]) == ("101", "north", "Listen")
    page = await site.page("/metrics")
    assert 'qc_requests_total{code="OK",gateway="north",method="addSupervise"} 1.0' in page
    assert 'qc_gateway_requests_total{gateway="north",method="addSupervise",retcode="0"} 1.0' in page
    assert 'qc_command_outcomes_total{gateway="north",method="addSupervise",outcome="confirmed"} 1.0' in page
    assert 'qc_leases_held{gateway="north"} 1.0' in page
    assert '"gateway":{"ok":true,"detail":"default: answered; north: answered"}' in await site.page("/readyz")
    listed = (await site.sessions.List(sessions_pb2.ListRequest(), timeout=20)).sessions
    assert [(one.gateway, one.agent_id) for one in listed] == [("default", "101"), ("north", "101")]
    page = await site.sessions.List(sessions_pb2.ListRequest(page_size=1), timeout=20)
    rest = await site.sessions.List(sessions_pb2.ListRequest(page_token=page.next_page_token), timeout=20)
    assert [one.gateway for one in rest.sessions] == ["north"]


@pytest.mark.parametrize(
    "agent_id", ["south/101", "/101", "North/101", "north/", "north/0101", "north/1000000", "101/north"]
)
async def test_an_unknown_gateway_is_a_bad_id(two_sites, agent_id):
    """INVALID_AGENT_ID names the gateways there are, or the range of that gateway; nothing is sent."""
    site, _ = two_sites
    ended = await site.ending(site.intercept(agent_id, "292"))
    assert (ended.code, ended.reason) == (StatusCode.INVALID_ARGUMENT, "INVALID_AGENT_ID")
    assert any(hint in ended.message for hint in ("default, north", "999999", "is required"))
    assert site.puts == 0


async def test_the_range_of_ids_is_that_of_the_gateway(two_sites):
    """A newer gateway takes longer ids than the default one."""
    site, _ = two_sites
    assert (await site.ending(site.sign_in("north/100001"))).code is StatusCode.OK
    assert (await site.ending(site.sign_in("100001"))).reason == "INVALID_AGENT_ID"


async def test_a_gateway_that_is_away_does_not_touch_the_other(two_sites):
    """With the default gateway gone, inspectors of the other one are served, and the replica stays ready."""
    site, north = two_sites
    await site.wire.refuse()
    assert (await site.ending(site.sign_in("102"))).reason == "GATEWAY_UNAVAILABLE"
    north.start_call("292")
    listen = qc.ListenRequest(agent_id="north/101", work_no="292")
    assert (await site.ending(site.commands.Listen(listen, timeout=20))).outcome == "CONFIRMED"
    assert '"ready":true' in await site.page("/readyz")
    await site.wire.accept()
