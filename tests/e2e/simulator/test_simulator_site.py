"""What a site may be set to: polls for all agents, locked accounts, limits, recordings, staff that works by itself."""

import asyncio
import json

import aiohttp
import pytest

from qc_adapter.simulator import Fault, SimulatorSettings, run
from tests.support.simulated import EMPTY_POLL, until

ALL = ("GET", "/agentevent/allagentevent")


async def test_one_poll_for_all_agents(simulators):
    """S21: at such a site one poll brings the events of all agents as an array, and polls of one are refused."""
    client = await simulators(event_method="all", poll_hold_seconds=30)
    first, second = await client.sign_in("101"), await client.sign_in("102")
    events = (await client.send(*ALL, first)).json["event"]
    assert [event["workNo"] for event in events] == ["101", "101", "102", "102"]
    poll = asyncio.create_task(client.send(*ALL, second))
    await until(lambda: len(client.simulator.requests("getAllAgentEvent")) == 2)
    client.simulator.inject("101", {"eventType": "Own", "workNo": "101", "content": None})
    assert [event["eventType"] for event in (await poll).json["event"]] == ["Own"]
    assert client.simulator.record.delivered == {"101": 3, "102": 2}
    assert await client.code("GET", "/agentevent/101", first) == "000-001"
    assert await client.code(*ALL, "wrong") == "000-003"


async def test_poll_for_all_agents_can_end_empty(simulators):
    """S21: a poll for all without an event is the usual empty one; without authentication it needs no GUID."""
    client = await simulators(event_method="all", auth_mode="off")
    assert await client.code(*ALL) == "100-006"
    await client.sign_in("101")
    assert len((await client.send(*ALL)).json["event"]) == 2
    assert (await client.send(*ALL)).body == EMPTY_POLL


async def test_polls_for_all_are_off_by_default(client):
    """S21: elsewhere the poll for all agents is the wrong method."""
    assert await client.code(*ALL, await client.sign_in()) == "000-001"


async def test_wrong_passwords_lock_the_account(simulators):
    """The fifth wrong password in a row locks; then the right one is refused too, until the lock is taken off."""
    client = await simulators(wrong_passwords_until_lock=3)
    client.simulator.set_agent("101", password="right")

    async def tried(password, way=""):
        return await client.code("PUT", f"/onlineagent/101{way}", json={"password": password, "phonenum": "1"})

    assert [await tried("wrong") for _ in range(2)] == ["100-004"] * 2
    assert await tried("right") == "0"
    assert [await tried("wrong", "/forcelogin") for _ in range(3)] == ["100-004"] * 3
    assert await tried("right", "/forcelogin") == "110-016"
    assert (await client.control("POST", "/agents/101", {"locked": False}))[0] == 200
    assert await tried("right", "/forcelogin") == "0"


async def test_limit_of_sign_ins(simulators):
    """A site has room for so many sign-ins; a forced one of the same agent needs no more."""
    client = await simulators(sign_in_limit=1)
    await client.sign_in("101")
    reply = await client.send("PUT", "/onlineagent/102", json={"password": "x"})
    assert (reply.json["retcode"], reply.json["message"]) == (
        "100-003",
        "The number of login agents has exceeded that permitted for this VDN.",
    )
    assert await client.sign_in("101", way="/forcelogin")


async def test_sign_in_tells_how_long_the_password_is_good(client):
    """A password that must be changed, or that ends in some days, is told at the sign-in; one that ended is refused."""
    simulator = client.simulator

    async def told(way):
        reply = await client.send("PUT", f"/onlineagent/101/{way}", json={"password": "x"})
        result = reply.json["result"] or {}
        return reply.json["retcode"], result.get("isForceChange"), result.get("timeRemaining")

    assert await told("loginex") == ("0", "false", "")
    simulator.set_agent("101", force_password_change=True, password_days=7)
    assert await told("forcelogin") == ("0", "true", "7")
    simulator.set_agent("101", password_days=-1)
    assert (await told("forcelogin"))[0] == "100-020"


async def test_whispering_is_a_right_of_its_own(client):
    """S18: an inspector without it may listen, but neither whisper nor switch to whispering."""
    guid = await client.sign_in()
    client.simulator.set_agent("101", whisper=False)
    client.simulator.start_call("292")
    assert await client.code("POST", "/qualitycontrol/101/requestwhisperagent?whisperagentid=292", guid) == "900-002"
    assert await client.code("PUT", "/qualitycontrol/101/addsupervise/292", guid) == "0"
    switch = "/qualitycontrol/101/requestswitchinsertwhisperagent?whisperagentid=292&switchtype="
    assert await client.code("POST", switch + "2", guid) == "900-002"
    assert await client.code("POST", switch + "1", guid) == "0"
    assert client.simulator.state_of("101") == "INSERTED"


FILE = "/qualitycontrol/101/recordfile?fileName=Y:/1/0/x.V3"


async def test_recording_file_is_a_stream_without_a_length(simulators):
    """S23: a recording comes in chunks without a length, each time the same; its name is needed, and the right."""
    client = await simulators(record_file_bytes=100_000)
    guid = await client.sign_in()
    one, two = [await client.send("GET", FILE, guid) for _ in range(2)]
    assert ("Content-Length" in one.headers, one.headers["Transfer-Encoding"]) == (False, "chunked")
    assert len(one.body) == 100_000
    assert one.body == two.body
    assert await client.code("GET", "/qualitycontrol/101/recordfile", guid) == "104-003"
    client.simulator.set_agent("101", inspector=False)
    assert await client.code("GET", FILE, guid) == "104-002"


@pytest.mark.parametrize("by", ["switch", "fault"])
async def test_recording_file_can_be_cut(simulators, by):
    """S23: the stream may end in the middle, by a switch for all files or by a fault for one."""
    client = await simulators(record_file_bytes=100_000, record_file_cut_after=60_000 if by == "switch" else None)
    guid = await client.sign_in()
    if by == "fault":
        client.simulator.add_fault(Fault("cut_json", operation="recordFile"))
    with pytest.raises(aiohttp.ClientPayloadError):
        await client.send("GET", FILE, guid)
    if by == "fault":
        assert (await client.send("GET", FILE, guid)).status == 200


async def test_floor_can_be_watched(simulators):
    """A call centre that runs by itself is told in figures over HTTP and, line by line, on a terminal."""
    client = await simulators(agents=30, calls_per_minute=6000, random_seed=1)
    await until(lambda: client.simulator.floor()["calls"]["running"] >= 5)
    guid = await client.sign_in()
    status, figures = await client.control("GET", "/floor")
    assert status == 200
    assert sum(figures["agents"].values()) == 31
    assert figures["calls"]["begun"] >= 5
    talker = next(call.agent_id for call in client.simulator.gateway.switchboard.calls())
    assert await client.code("PUT", f"/qualitycontrol/101/addsupervise/{talker}", guid) == "0"
    assert client.simulator.floor()["inspections"] == 1

    lines = []
    settings = SimulatorSettings(agents=5, calls_per_minute=6000, random_seed=1)
    task = asyncio.create_task(run(settings, announce=lines.append, watch_seconds=0.02, report=lines.append))
    await until(lambda: len(lines) >= 3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert "Agents 20001 to 20005 work by themselves" in lines[0]
    assert all("calls" in line and "requests/s" in line for line in lines[1:])


async def test_state_and_record_tell_no_secret(client):
    """Neither state nor record shows a service token, a password or a GUID."""
    guid = await client.sign_in(callBackUri="http://127.0.0.1:1/p", serviceToken="planted-token", password="planted-pw")
    client.simulator.set_agent("101", password="planted-pw")
    await client.send("POST", "/onlineagent/101/handshake", guid, headers={"service_token": "planted-token-2"})
    await until(lambda: client.simulator.pushes_of("101")["failures"] == 1)
    shown = json.dumps([client.simulator.state(), client.simulator.record.as_json(), client.simulator.floor()])
    shown += repr(client.simulator.gateway.roster.agent("101"))
    assert "http://127.0.0.1:1/p" in shown
    assert not any(secret in shown for secret in ("planted", guid))
