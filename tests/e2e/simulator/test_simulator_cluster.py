"""Monitoring, failover and restart as clients see them. Real sockets throughout."""

import asyncio
import json

import aiohttp
import pytest
from yarl import URL

from qc_adapter.simulator.scenario import parse
from tests.support.simulated import BASE, until


@pytest.mark.parametrize("agents", ["292;293", "292%3B293"], ids=["plain", "escaped"])
async def test_monitoring_on_the_wire(client, agents):
    """S20: several agents are monitored at once, the ";" plain or escaped; the record lists them."""
    guid = await client.sign_in()
    for operation, code in (("beginmonitor", "0"), ("endmonitor", "0"), ("beginmonitor", "0")):
        url = URL(f"{client.simulator.url}{BASE}/qualitycontrol/101/{operation}?agents={agents}", encoded=True)
        async with client.session.post(url, headers={"guid": guid}) as reply:
            assert json.loads(await reply.read())["retcode"] == code
    assert client.simulator.watched_by("101") == ("292", "293")
    assert client.simulator.requests("beginMonitor", "101")[0].parameters == {"agents": "292;293"}
    assert client.simulator.requests("endMonitor", "101")
    await client.event_types("101", guid, 2)
    await client.sign_in("293")
    notice = json.loads(await client.poll("101", guid))["event"]
    assert (notice["content"]["subtype"], notice["content"]["monitoredagent"]) == ("QC_AgentState_Login", "293")
    assert client.simulator.state()["agents"]["293"]["monitored_by"] == ("101",)


async def test_list_of_agents_tells_their_states(client):
    """An inspector may list all agents; 4 is idle, 7 is talking."""
    guid = await client.sign_in()
    await client.sign_in("292")
    client.simulator.start_call("293")
    result = (await client.send("GET", "/qualitycontrol/101/allagent", guid)).json["result"]
    assert {one["workno"]: one["status"] for one in result} == {"292": 4, "293": 7}


async def test_node_fails_and_the_sign_in_moves(simulators):
    """S22: a held poll ends with 000-004, so does every request, and then the GUID of the other node comes."""
    client = await simulators(nodes=3, poll_hold_seconds=30)
    guid = await client.sign_in("101")
    await client.event_types("101", guid, 2)
    poll = asyncio.create_task(client.send("GET", "/agentevent/101", guid))
    await until(lambda: client.simulator.state()["agents"]["101"]["held_polls"] == 1)
    status, answer = await client.control("POST", "/nodes/2/fail", {"switch_seconds": 600})
    assert (status, answer) == (200, {"sign_ins": 1})
    reply = await poll
    assert (reply.json["retcode"], "Set-GUID" in reply.headers) == ("000-004", False)
    assert await client.code("PUT", "/onlineagent/101/forcelogin", json={"password": "x"}) == "000-004"
    guid = await client.sign_in("102")
    assert guid.endswith(".AgentGateway0")
    await client.control("POST", "/nodes/0/fail", {"switch_seconds": 0.01})
    await until(lambda: not client.simulator.state()["agents"]["102"]["moving"])
    reply = await client.send("POST", "/onlineagent/102/handshake", guid)
    assert reply.json["retcode"] == "0"
    assert reply.headers["Set-GUID"].endswith(".AgentGateway1")
    assert client.simulator.state()["nodes"] == {"0": False, "1": True, "2": False}
    assert (await client.control("POST", "/nodes/2/recover"))[0] == 200
    status, answer = await client.control("POST", "/nodes/1/fail", {"keep_sign_ins": 1, "switch_seconds": "x"})
    assert (status, len(answer["problems"])) == (400, 2)
    assert (await client.control("POST", "/nodes/9/fail"))[0] == 400


async def test_restart_closes_the_port_for_a_while(simulators):
    """A restart drops connections and refuses new ones, comes back on the same port, and knows no sign-in."""
    client = await simulators(poll_hold_seconds=30, tls_port=0, self_signed=True)
    guid = await client.sign_in()
    await client.event_types("101", guid, 2)
    poll = asyncio.create_task(client.send("GET", "/agentevent/101", guid))
    await until(lambda: client.simulator.state()["agents"]["101"]["held_polls"] == 1)
    urls = client.simulator.url, client.simulator.tls_url
    assert (await client.control("POST", "/restart", {"down_seconds": 0.3}))[1] == {"sign_ins_lost": 1}
    with pytest.raises(aiohttp.ClientError):
        await poll
    async with aiohttp.ClientSession() as session:
        try:
            await session.get(client.simulator.url + BASE + "/agentevent/101")
        except aiohttp.ClientConnectorError:
            pass
        else:
            # A slow machine may have been asleep while it was down.
            assert client.simulator.is_up

    await until(lambda: client.simulator.is_up)
    assert await client.code("GET", "/agentevent/101", guid) == "100-006"
    assert (client.simulator.url, client.simulator.tls_url) == urls
    assert [one.reason for one in client.simulator.record.sign_outs] == ["restart"]
    assert await client.sign_in()


async def test_restart_without_a_pause(client):
    """A restart may be so quick that nobody is refused; a scenario can ask for it, and for a failed node."""
    guid = await client.sign_in()
    parse({"steps": [{"at_seconds": 0, "do": "restart"}]}).apply(client.simulator)
    await until(lambda: client.simulator.record.sign_outs)
    assert await client.code("GET", "/agentevent/101", guid) == "100-006"
    await client.sign_in()
    step = {"at_seconds": 0, "do": "fail_node", "node": 0, "keep_sign_ins": False}
    parse({"steps": [step, {"at_seconds": 0, "do": "set_agent", "agent_id": 101, "locked": True}]}).apply(
        client.simulator
    )
    await until(lambda: client.simulator.gateway.roster.agent("101").locked)
    assert await client.code("PUT", "/onlineagent/101", json={"password": "x"}) == "110-016"
