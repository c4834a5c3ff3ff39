"""The simulator as a client sees it: bytes, headers, tolerance, faults. Real sockets throughout."""

import asyncio
import json
import re
import ssl

import aiohttp
import pytest

from qc_adapter.simulator import Fault, MistakeCodes, SimulatorSettings, run
from qc_adapter.simulator.scenario import parse
from tests.support.simulated import BASE, EMPTY_POLL, Client, raw, until

# --- S1 to S5: bytes and headers


async def test_empty_poll_is_exactly_28_bytes(client):
    """S1: a poll without an event is the literal that real clients compare with."""
    guid = client.simulator.sign_in("101")
    assert len(EMPTY_POLL) == 28
    assert await client.event_types("101", guid, 2) == ["AgentOther_InService", "AgentState_Ready"]
    assert await client.poll("101", guid) == EMPTY_POLL


async def test_null_event_is_a_choice(simulators):
    """S1: sites that send a null event can be played."""
    client = await simulators(empty_poll="null")
    guid = client.simulator.sign_in("101")
    await client.event_types("101", guid, 2)
    assert await client.poll("101", guid) == b'{"message":"","retcode":"0","event":null}'


async def test_replies_are_compact_and_ordered(client):
    """S1: JSON is compact; message, retcode, then result or event; content may be null."""
    guid = client.simulator.sign_in("101")
    assert (
        await client.poll("101", guid)
        == b'{"message":"","retcode":"0","event":{"eventType":"AgentOther_InService","workNo":"101","content":null}}'
    )
    client.simulator.start_call("292")
    reply = await client.send("PUT", "/qualitycontrol/101/addsupervise/292", guid)
    assert reply.body == b'{"message":"","retcode":"0","result":{}}'


@pytest.mark.parametrize(
    ("style", "body"),
    [
        ("empty", b'{"message":"agent not login","result":"","retcode":"100-006"}'),
        ("missing", b'{"message":"agent not login","retcode":"100-006"}'),
    ],
    ids=["empty-result", "no-result"],
)
async def test_refusals_are_http_200(simulators, style, body):
    """S2: a refusal is HTTP 200 with the gateway's own words, and an empty text or nothing as result."""
    client = await simulators(error_result=style)
    reply = await client.send("GET", "/agentevent/101", "x")
    assert (reply.status, reply.body) == (200, body)


@pytest.mark.parametrize("balancer", ["none", "huaweielbsession", "loadbalance"])
async def test_sign_in_sets_cookies_first_then_the_guid(simulators, balancer):
    """S3: Set-Cookie lines come first, each with attributes, then Set-GUID in exactly this case."""
    client = await simulators(balancer_cookie=balancer, node_number=1)
    body = b'{"password":"x","phonenum":"1"}'
    reply = await raw(
        client.simulator,
        b"PUT /agentgateway/resource/onlineagent/101/forcelogin HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body),
    )
    lines = reply.split(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    names = [line.split(":")[0] for line in lines]
    cookies = [line for line in lines if line.startswith("Set-Cookie: ")]
    assert len(cookies) == (1 if balancer == "none" else 2)
    assert all(";" in line for line in cookies)
    assert balancer == "none" or cookies[1].startswith(f"Set-Cookie: {balancer}=")
    assert names[: len(cookies) + 1] == ["Set-Cookie"] * len(cookies) + ["Set-GUID"]
    assert re.fullmatch(r"Set-GUID: JSESSIONID=[0-9a-f]{48}\.AgentGateway1", lines[len(cookies)])


async def test_no_cookie_is_a_choice(simulators):
    """S3: a gateway without cookies can be played."""
    client = await simulators(session_cookie=False)
    reply = await client.send("PUT", "/onlineagent/101", json={"password": "x", "phonenum": "1"})
    assert "Set-Cookie" not in reply.headers


async def test_static_guid_never_changes(simulators):
    """S3: in static mode Set-GUID comes at sign-in only, unless every PUT is to bring it."""
    client = await simulators(auth_mode="static", guid_interval_seconds=0.01, guid_timeout_seconds=0.02)
    guid = await client.sign_in()
    assert "Set-GUID" not in (await client.send("GET", "/agentevent/101", guid)).headers
    other = await simulators(auth_mode="static", set_guid_on_every_put=True)
    guid = await other.sign_in()
    reply = await other.send("PUT", "/onlineagent/101/heartbeat", guid)
    assert reply.headers["Set-GUID"] == f"JSESSIONID={guid}"


@pytest.mark.parametrize(
    ("verb", "path"), [("GET", "/agentevent/101"), ("POST", "/onlineagent/101/handshake")], ids=["poll", "heartbeat"]
)
async def test_dynamic_guid_changes_with_polls_and_heartbeats(simulators, verb, path):
    """S3: in dynamic mode a due poll or heartbeat brings the new GUID; the old one counts for the grace."""
    client = await simulators(guid_interval_seconds=0)
    old = await client.sign_in()
    reply = await client.send(verb, path, old)
    new = reply.headers["Set-GUID"].removeprefix("JSESSIONID=")
    assert new != old
    assert await client.code("POST", "/onlineagent/101/handshake", old) == "0"
    assert new in client.simulator.gateway.roster.agent("101").sign_in.ring.known()


async def test_update_guid_brings_it_in_the_body(client):
    """A GUID that is asked for comes in the result."""
    guid = await client.sign_in()
    reply = await client.send("PUT", "/onlineagent/101/updateGuid", guid)
    assert reply.json["result"]["guid"] == client.simulator.guid_of("101") != guid


@pytest.mark.parametrize(
    ("style", "content_type"),
    [
        ("json", "application/json"),
        ("utf8", "application/json;charset=UTF-8"),
        ("gbk", "application/json;charset=GBK"),
        ("text", "text/plain"),
    ],
)
async def test_content_type_is_a_choice(simulators, style, content_type):
    """S4: all content types that were seen can be played, GBK with GBK bytes."""
    client = await simulators(content_type=style)
    guid = client.simulator.sign_in("101")
    client.simulator.inject("101", {"eventType": "X", "workNo": "101", "content": "你好"})
    await client.event_types("101", guid, 2)
    reply = await client.send("GET", "/agentevent/101", guid)
    assert reply.headers["Content-Type"] == content_type
    assert ("JSON-Type" in reply.headers) is (style == "text")
    assert "你好".encode("gbk" if style == "gbk" else "utf-8") in reply.body


async def test_tls_with_an_own_certificate(simulators):
    """S5: beside the plain port there is one with TLS and a self-signed certificate."""
    client = await simulators(tls_port=0, self_signed=True)
    trust = ssl.create_default_context(cadata=client.simulator.certificate_pem.decode())
    async with client.session.get(client.simulator.tls_url + BASE + "/agentevent/101", ssl=trust) as reply:
        assert json.loads(await reply.read())["retcode"] == "100-006"
    with pytest.raises(aiohttp.ClientConnectorCertificateError):
        await client.session.get(client.simulator.tls_url + BASE + "/agentevent/101")


# --- S6 to S11: what it tolerates


@pytest.mark.parametrize("name", ["guid", "Guid", "GUID"])
async def test_guid_header_in_any_case_and_no_look_at_cookies(client, name):
    """S6: the header name ignores case, and a stale or mangled Cookie changes nothing."""
    guid = await client.sign_in()
    cookies = {"Cookie": "JSESSIONID=someone-else; ;;=x"}
    assert await client.code("POST", "/onlineagent/101/handshake", headers={name: guid} | cookies) == "0"


async def test_stale_guid_at_forced_sign_in_is_ignored(client):
    """S6: a forced sign-in does not look at the GUID it comes with."""
    reply = await client.send("PUT", "/onlineagent/101/forcelogin", "stale", json={"password": "x"})
    assert reply.json["retcode"] == "0"


@pytest.mark.parametrize(
    "rest",
    [
        b"\r\n",
        b"Content-Length: 0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Content-Length: 4\r\n\r\nnull",
        b"Content-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}",
        b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
    ],
    ids=["none", "zero", "chunked-empty", "null", "text", "expect"],
)
async def test_odd_bodies_are_accepted(client, rest):
    """S7: an operation without a body takes whatever clients send instead."""
    guid = client.simulator.sign_in("101").encode()
    head = b" /agentgateway/resource/onlineagent/101/handshake HTTP/1.1\r\nHost: x\r\nConnection: close\r\nguid: "
    reply = await raw(client.simulator, b"POST" + head + guid + b"\r\n" + rest)
    assert reply.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200" if b"Expect" in rest else b"HTTP/1.1 200")
    assert reply.endswith(b'{"message":"success","retcode":"0"}')


async def test_body_on_get_and_delete_is_accepted(client):
    """S7: JSON on GET and DELETE does no harm."""
    guid = await client.sign_in()
    assert await client.code("GET", "/agentevent/101", guid, json={"x": 1}) == "0"
    assert await client.code("DELETE", "/onlineagent/101/logout", guid, json={"x": 1}) == "0"


async def test_sign_in_fields_in_any_type(client):
    """S8: sign-in fields may be text, number or bool; unknown and null ones are ignored."""
    fields = {"status": "3", "autoenteridle": "false", "agenttype": 4, "ip": None, "whatever": [1], "password": 12}
    guid = await client.sign_in(**fields)
    assert await client.event_types("101", guid, 3) == [
        "AgentOther_InService",
        "AgentState_Ready",
        "AgentState_SetNotReady_Success",
    ]


async def test_slash_cache_breaker_and_semicolon(client):
    """S9: a trailing slash and unknown parameters change nothing; ";" is data, plain or escaped."""
    guid = await client.sign_in()
    assert await client.code("POST", "/onlineagent/101/handshake/?time=1&resteasy_jsapi_anti_cache=2", guid) == "0"
    from yarl import URL

    for text in ("1;2;3", "1%3B2%3B3"):
        url = URL(f"{client.simulator.url}{BASE}/onlineagent/101/resetskill/true?skillid={text}", encoded=True)
        async with client.session.post(url, headers={"guid": guid}) as reply:
            assert json.loads(await reply.read())["retcode"] == "0"
        assert client.simulator.gateway.roster.agent("101").skills == (1, 2, 3)


@pytest.mark.parametrize("style", ["404", "000-002"])
async def test_unroutable_ids(simulators, style):
    """S10: an id outside the pattern is not routed: a page of the container, or 000-002, as chosen."""
    client = await simulators(bad_path=style)
    for agent_id in ("0101", "60000", "abc", "-1"):
        reply = await client.send("GET", f"/agentevent/{agent_id}", "x")
        if style == "404":
            assert (reply.status, reply.content_type) == (404, "text/html")
        else:
            assert (reply.status, reply.json["retcode"]) == (200, "000-002")


async def test_newer_gateways_route_six_digits(simulators):
    """S10: with the newer range 999999 is an agent."""
    client = await simulators(agent_id_max=999999)
    assert await client.sign_in("999999")


async def test_wrong_verb_names_the_right_one(client):
    """A path with another verb is refused by the container, which names the verb it takes."""
    reply = await client.send("POST", "/qualitycontrol/101/addsupervise/292", "x")
    assert (reply.status, reply.headers["Allow"]) == (405, "PUT")


async def test_idle_connection_is_closed_by_the_server(simulators):
    """S11: a keep-alive connection that idles is closed, though the client did not ask for it."""
    client = await simulators(idle_close_seconds=0.05)
    reply = await raw(client.simulator, b"GET /agentgateway/resource/agentevent/101 HTTP/1.1\r\nHost: x\r\n\r\n")
    assert reply.startswith(b"HTTP/1.1 200")
    assert b"Connection: close" not in reply


# --- S12 to S16: sign-in, polls, silence


@pytest.mark.parametrize("code", ["100-006", "000-003"])
async def test_forced_sign_in_takes_over(simulators, code):
    """S12: a second sign-in is refused, a forced one takes over, and the old GUID gets the chosen code."""
    client = await simulators(takeover_code=code)
    old = await client.sign_in()
    assert await client.code("PUT", "/onlineagent/101", json={"password": "x"}) == "100-002"
    new = await client.sign_in(way="/forcelogin")
    assert await client.code("GET", "/agentevent/101", old) == code
    assert await client.code("GET", "/agentevent/101", new) == "0"


async def test_who_was_taken_over_does_not_learn_the_new_guid(simulators):
    """S12: the held poll of the older sign-in ends with the code and without a Set-GUID."""
    client = await simulators(poll_hold_seconds=30)
    guid = client.simulator.sign_in("101")
    await client.event_types("101", guid, 2)
    poll = asyncio.create_task(client.send("GET", "/agentevent/101", guid))
    await until(lambda: client.simulator.state()["agents"]["101"]["held_polls"] == 1)
    client.simulator.sign_in("101")
    reply = await poll
    assert b'"retcode":"100-006"' in reply.body
    assert "Set-GUID" not in dict(reply.headers)


async def test_takeover_can_be_forbidden(simulators):
    """S12: a site may forbid the forced sign-in."""
    client = await simulators(forbid_takeover=True)
    await client.sign_in()
    assert await client.code("PUT", "/onlineagent/101/forcelogin", json={"password": "x"}) == "100-015"


async def test_after_sign_out_the_agent_is_not_known(client):
    """S12: after an own sign-out, forced or not, the GUID gets 100-006."""
    for way in ("logout", "forcelogout", "forcelogoutwithreason/7"):
        guid = await client.sign_in()
        assert await client.code("DELETE", f"/onlineagent/101/{way}", guid) == "0"
        assert await client.code("GET", "/agentevent/101", guid) == "100-006"


async def test_password_counts_when_one_is_set(client):
    """Any password is good until the agent has one of his own."""
    client.simulator.set_agent("101", password="secret")
    assert await client.code("PUT", "/onlineagent/101", json={"password": "x"}) == "100-004"
    assert await client.code("PUT", "/onlineagent/101", json={"password": "secret"}) == "0"
    assert await client.code("PUT", "/onlineagent/102") == "100-001"


async def test_held_poll_gets_the_event_at_once(simulators):
    """S13: a poll that is held is answered by the first event, one event a reply."""
    client = await simulators(poll_hold_seconds=30)
    guid = client.simulator.sign_in("101")
    await client.event_types("101", guid, 2)
    poll = asyncio.create_task(client.poll("101", guid))
    await until(lambda: client.simulator.state()["agents"]["101"]["held_polls"] == 1)
    client.simulator.inject("101", {"eventType": "First", "workNo": "101", "content": None})
    client.simulator.inject("101", {"eventType": "Second", "workNo": "101", "content": None})
    assert json.loads(await poll)["event"]["eventType"] == "First"
    assert await client.event_types("101", guid, 1) == ["Second"]


async def test_second_poll_steals_and_is_counted(simulators):
    """S14: two polls of one agent are both served, the newer one gets the event, and the overlap is recorded."""
    client = await simulators(poll_hold_seconds=30)
    guid = client.simulator.sign_in("101")
    await client.event_types("101", guid, 2)
    older = asyncio.create_task(client.poll("101", guid))
    await until(lambda: client.simulator.state()["agents"]["101"]["held_polls"] == 1)
    newer = asyncio.create_task(client.poll("101", guid))
    await until(lambda: client.simulator.state()["agents"]["101"]["held_polls"] == 2)
    client.simulator.inject("101", {"eventType": "Only", "workNo": "101", "content": None})
    assert b"Only" in await newer
    client.simulator.rotate("101")
    assert await older == EMPTY_POLL
    assert client.simulator.record.poll_overlaps() == 1


@pytest.mark.parametrize("taken", [True, False], ids=["lost", "kept"])
async def test_poll_that_was_cut_loses_its_event(simulators, taken):
    """S13: an event for a poll whose client has gone is lost and counted, or kept if so chosen."""
    client = await simulators(poll_hold_seconds=30, cut_poll_takes_event=taken)
    guid = client.simulator.sign_in("101")
    await client.event_types("101", guid, 2)
    mailbox = client.simulator.gateway.roster.agent("101").sign_in.mailbox
    poll = asyncio.create_task(client.poll("101", guid))
    await until(lambda: mailbox.held_polls() == 1)
    poll.cancel()
    await until(lambda: mailbox.held_polls() == 0)
    client.simulator.inject("101", {"eventType": "Void", "workNo": "101", "content": None})
    if taken:
        await until(lambda: client.simulator.record.lost_on_wire["101"] == 1)
        assert len(mailbox) == 0
    else:
        await until(lambda: len(mailbox) == 1)


async def test_silence_signs_out(simulators):
    """S15: who is silent for too long is signed out, and gets 100-006 from then on."""
    client = await simulators(max_silence_seconds=0.3)
    guid = await client.sign_in()
    await until(lambda: len(client.simulator.record.sign_outs) == 1)
    assert await client.code("GET", "/agentevent/101", guid) == "100-006"
    assert client.simulator.record.sign_outs[0].reason == "silence"


async def test_kicked_agent_learns_it_from_his_poll(simulators):
    """A held poll gets AgentOther_ShutdownService when its agent is forced out; the next one gets 100-006."""
    client = await simulators(poll_hold_seconds=30)
    inspector = client.simulator.sign_in("101")
    guid = client.simulator.sign_in("292")
    await client.event_types("292", guid, 2)
    poll = asyncio.create_task(client.poll("292", guid))
    await until(lambda: client.simulator.state()["agents"]["292"]["held_polls"] == 1)
    assert await client.code("POST", "/qualitycontrol/101/forcelogout/292", inspector) == "0"
    assert b"AgentOther_ShutdownService" in await poll
    assert await client.code("GET", "/agentevent/292", guid) == "100-006"


async def test_push_agents_cannot_poll(client):
    """Who signed in with a callback fetches by the wrong method when he polls; his heartbeat is good."""
    guid = await client.sign_in(callBackUri="https://localhost/push", serviceToken="t")
    assert await client.code("GET", "/agentevent/101", guid) == "000-001"
    assert await client.code("POST", "/onlineagent/101/handshake", guid) == "0"


async def test_authentication_can_be_off(simulators):
    """With authentication off a GUID is not asked for, a sign-in still is."""
    client = await simulators(auth_mode="off")
    assert await client.code("GET", "/agentevent/101") == "100-006"
    await client.sign_in()
    assert await client.code("GET", "/agentevent/101") == "0"


# --- S17 to S19: inspection


async def test_listen_and_intercept_end_to_end(client):
    """S18, S19: sign in, listen, intercept; both sides read their events, and the call is the inspector's."""
    inspector, agent = await client.sign_in("101"), await client.sign_in("292")
    call_id = client.simulator.start_call("292", "13800000000")
    await client.event_types("101", inspector, 2)
    await client.event_types("292", agent, 8)
    assert json.loads((await client.send("GET", "/agentgroup/101/iscensor/", inspector)).body)["result"] is True
    assert await client.code("PUT", "/qualitycontrol/101/addsupervise/292", inspector) == "0"
    assert await client.event_types("101", inspector, 3) == [
        "AgentState_Busy",
        "AgentOther_PhoneAlerting",
        "AgentOther_PhoneOffhook",
    ]
    assert await client.event_types("292", agent, 1) == ["AgentOther_BeQcStart"]
    assert await client.code("PUT", "/qualitycontrol/101/intercept/292", inspector) == "0"
    talking = json.loads(await client.poll("101", inspector))["event"]
    assert (talking["eventType"], talking["content"]["callid"]) == ("AgentEvent_Talking", call_id)
    assert await client.event_types("101", inspector, 1) == ["AgentMediaEvent_Record"]
    released = await client.event_types("292", agent, 5)
    assert set(released) == {
        "AgentOther_BeQcStop",
        "AgentEvent_Call_Release",
        "AgentEvent_Customer_Release",
        "AgentOther_PhoneRelease",
        "AgentState_Ready",
    }
    assert client.simulator.state_of("101") == "INTERCEPTED"


async def test_events_come_after_their_delay(simulators):
    """S19: the reply says "accepted", the events come later."""
    client = await simulators(event_delay_seconds=0.02, event_delays={"AgentState_Busy": None}, poll_hold_seconds=5)
    guid = client.simulator.sign_in("101")
    await client.event_types("101", guid, 2)
    client.simulator.start_call("292")
    assert await client.code("POST", "/qualitycontrol/101/requestwhisperagent?whisperagentid=292", guid) == "0"
    assert client.simulator.state_of("101") == "SEIZED"
    assert await client.event_types("101", guid, 2) == ["AgentOther_PhoneAlerting", "AgentOther_PhoneOffhook"]
    await until(lambda: client.simulator.state_of("101") == "WHISPERING")


async def test_inspection_mistakes_on_the_wire(simulators):
    """S18: mistakes are HTTP 200 with the code that the settings give them."""
    client = await simulators(mistake_codes=MistakeCodes(target_without_call="900-005"))
    guid = await client.sign_in()
    await client.sign_in("292")
    assert await client.code("PUT", "/qualitycontrol/101/addsupervise/101", guid) == "000-005"
    assert await client.code("PUT", "/qualitycontrol/101/addsupervise/293", guid) == "900-004"
    assert await client.code("PUT", "/qualitycontrol/101/addsupervise/292", guid) == "900-005"
    assert await client.code("PUT", "/qualitycontrol/101/intercept/292", guid) == "900-003"
    assert await client.code("DELETE", "/qualitycontrol/101/292", guid) == "900-005"
    assert await client.code("POST", "/qualitycontrol/101/requestwhisperagent", guid) == "000-002"
    client.simulator.set_agent("101", inspector=False)
    assert await client.code("PUT", "/qualitycontrol/101/addsupervise/292", guid) == "900-002"
    assert await client.code("POST", "/qualitycontrol/101/forcedropcall/1-1", guid) == "900-002"


# --- Faults


@pytest.fixture
async def signed_in(client):
    """A client whose inspector 101 listens to agent 292, and the GUID."""
    guid = await client.sign_in()
    client.simulator.start_call("292")
    await client.code("PUT", "/qualitycontrol/101/addsupervise/292", guid)
    await client.event_types("101", guid, 5)
    return client, guid


def last(client, operation="intercept"):
    """Return the newest request of an operation."""
    return client.simulator.requests(operation, "101")[-1]


INTERCEPT = ("PUT", "/qualitycontrol/101/intercept/292")


@pytest.mark.parametrize(
    ("action", "executed"), [("reset_before", False), ("reset_after", True)], ids=["before", "after"]
)
async def test_reset_connection(signed_in, action, executed):
    """A connection can be reset before the gateway did anything, or after it did everything."""
    client, guid = signed_in
    client.simulator.add_fault(Fault(action, operation="intercept"))
    with pytest.raises(aiohttp.ClientOSError):
        await client.send(*INTERCEPT, guid)
    assert (last(client).executed, last(client).retcode, last(client).faults) == (executed, None, (action,))
    assert client.simulator.state_of("101") == ("INTERCEPTED" if executed else "LISTENING")


@pytest.mark.parametrize("status", [403, 404, 500, 502, 503])
async def test_html_error_page(signed_in, status):
    """S5: a balancer's error page is HTML, and the gateway never saw the request."""
    client, guid = signed_in
    client.simulator.add_fault(Fault("html", operation="intercept", status=status))
    reply = await client.send(*INTERCEPT, guid)
    assert (reply.status, reply.content_type, last(client).executed) == (status, "text/html", False)


async def test_empty_and_foreign_replies(signed_in):
    """A 200 can be empty, foreign JSON, or any bytes, though the command was done."""
    client, guid = signed_in
    client.simulator.add_fault(Fault("empty200"))
    assert (await client.send(*INTERCEPT, guid)).body == b""
    assert last(client).executed
    client.simulator.add_fault(Fault("foreign_json"))
    assert (await client.send(*INTERCEPT, guid)).body == b"[1,2]"
    client.simulator.add_fault(Fault("foreign_json", body={"retcode": 0}))
    assert (await client.send(*INTERCEPT, guid)).body == b'{"retcode":0}'
    client.simulator.add_fault(Fault("raw_body", body="nonsense"))
    assert (await client.send(*INTERCEPT, guid)).body == b"nonsense"


async def test_cut_json(signed_in):
    """A reply can break off in the middle; its event, if any, is counted as lost."""
    client, guid = signed_in
    client.simulator.add_fault(Fault("cut_json", times=2))
    with pytest.raises(aiohttp.ClientPayloadError):
        await client.send(*INTERCEPT, guid)
    with pytest.raises(aiohttp.ClientPayloadError):
        await client.poll("101", guid)
    assert last(client).executed
    assert client.simulator.record.lost_on_wire["101"] == 1


async def test_slow_reply_and_delays(signed_in):
    """A reply can drip, and a request can wait before or after it is done."""
    client, guid = signed_in
    client.simulator.add_fault(Fault("slow_drip", seconds=0.05))
    assert await client.code("POST", "/onlineagent/101/handshake", guid) == "0"
    client.simulator.add_fault(Fault("delay", operation="intercept", seconds=30, after=True))
    command = asyncio.create_task(client.code(*INTERCEPT, guid))
    await until(lambda: client.simulator.state_of("101") == "INTERCEPTED")
    assert not command.done()
    command.cancel()


async def test_odd_charsets(signed_in):
    """A reply can be GBK, undecodable, or begin with a byte order mark."""
    client, guid = signed_in
    for charset, part in (("gbk", b"\xc4\xe3\xba\xc3"), ("undecodable", b"\xff\xfe"), ("bom", b"\xef\xbb\xbf{")):
        client.simulator.add_fault(Fault("charset", charset=charset))
        reply = await client.send("POST", "/onlineagent/101/handshake", guid)
        assert part in reply.body
        assert ("GBK" in reply.headers["Content-Type"]) is (charset == "gbk")


async def test_retcode_and_redirect(signed_in):
    """A command can be refused with any code and words, or sent elsewhere; both without being done."""
    client, guid = signed_in
    client.simulator.add_fault(Fault("retcode", operation="intercept", code="900-001", message="no provider"))
    reply = await client.send(*INTERCEPT, guid)
    assert reply.body == b'{"message":"no provider","result":"","retcode":"900-001"}'
    client.simulator.add_fault(Fault("redirect", operation="intercept"))
    reply = await client.send(*INTERCEPT, guid)
    assert (reply.status, reply.headers["Location"]) == (302, "/login.html")
    assert not any(entry.executed for entry in client.simulator.requests("intercept"))


async def test_switch_over_ends_by_itself(signed_in):
    """While an agent moves to another node everything answers 000-004, then all is as before."""
    client, guid = signed_in
    client.simulator.add_fault(Fault("switch_over", agent_id="101", seconds=0.2))
    assert await client.code("POST", "/onlineagent/101/handshake", guid) == "000-004"
    await until(lambda: not client.simulator.gateway.faults.for_request("handShake", "101", ""))
    assert await client.code("POST", "/onlineagent/101/handshake", guid) == "0"


async def test_rotation_between_look_up_and_command(simulators):
    """With no grace a rotation right before a command kills its GUID; the held poll brings the new one."""
    client = await simulators(guid_grace_override_seconds=0.0, poll_hold_seconds=30)
    guid = await client.sign_in()
    await client.event_types("101", guid, 2)
    poll = asyncio.create_task(client.send("GET", "/agentevent/101", guid))
    await until(lambda: client.simulator.state()["agents"]["101"]["held_polls"] == 1)
    client.simulator.add_fault(Fault("rotate_now", operation="intercept"))
    assert await client.code(*INTERCEPT, guid) == "000-003"
    assert last(client).guid == "expired"
    reply = await poll
    assert reply.body == EMPTY_POLL
    new = reply.headers["Set-GUID"].removeprefix("JSESSIONID=")
    assert await client.code("POST", "/onlineagent/101/handshake", new) == "0"


async def test_rotation_after_a_poll_is_in_its_reply(client):
    """A rotation asked for after processing shows in the reply of that very poll."""
    guid = await client.sign_in()
    client.simulator.add_fault(Fault("rotate_now", operation="getAgentEvent", after=True))
    reply = await client.send("GET", "/agentevent/101", guid)
    assert reply.headers["Set-GUID"] == f"JSESSIONID={client.simulator.guid_of('101')}" != f"JSESSIONID={guid}"


async def test_lost_event(signed_in):
    """An event can vanish between the call and the mailbox."""
    client, guid = signed_in
    client.simulator.add_fault(Fault("lose_event", agent_id="101", event_type="AgentEvent_Talking"))
    assert await client.code(*INTERCEPT, guid) == "0"
    assert await client.event_types("101", guid, 1) == ["AgentMediaEvent_Record"]


@pytest.mark.parametrize("processed", [False, True], ids=["untouched", "done"])
async def test_hang(signed_in, processed):
    """A request can be taken and never answered, done or not; it ends when the client leaves."""
    client, guid = signed_in
    client.simulator.add_fault(Fault("hang", operation="intercept", processed=processed))
    command = asyncio.create_task(client.send(*INTERCEPT, guid))
    await until(lambda: client.simulator.requests("intercept") and (not processed or last(client).executed))
    assert not command.done()
    assert client.simulator.state_of("101") == ("INTERCEPTED" if processed else "LISTENING")
    command.cancel()
    await until(lambda: client.simulator.record.replies["intercept", "none"] == 1)


# --- Control API, record, life


async def test_control_api_does_what_the_methods_do(client):
    """Calls, agents, events, faults, record, state and reset are there over HTTP; wrong requests name every problem."""
    guid = await client.sign_in()
    status, answer = await client.control("POST", "/calls", {"agent_id": "292", "customer": "10086"})
    assert status == 200
    assert (await client.control("POST", "/calls", {"agent_id": "292"}))[0] == 409
    assert (await client.control("POST", f"/calls/{answer['call_id']}/hold"))[0] == 200
    assert (await client.control("DELETE", f"/calls/{answer['call_id']}"))[0] == 200
    assert (await client.control("POST", "/agents/101", {"inspector": False}))[0] == 200
    assert not client.simulator.gateway.roster.agent("101").inspector
    assert (await client.control("POST", "/events", {"agent_id": "101", "raw_body": '{"retcode":0}'}))[0] == 200
    await client.event_types("101", guid, 2)
    assert await client.poll("101", guid) == b'{"retcode":0}'
    assert (await client.control("POST", "/faults", {"match": {"agent_id": 101}, "action": "html"}))[0] == 200
    assert (await client.send("POST", "/onlineagent/101/handshake", guid)).status == 502
    assert (await client.control("DELETE", "/faults"))[0] == 200
    status, answer = await client.control("POST", "/faults", {"action": "explode", "times": "x"})
    assert (status, len(answer["problems"])) == (400, 2)
    assert (await client.control("POST", "/agents/101", {"beauty": 1}))[0] == 400
    for path, body, status in (
        ("/agents/x", {"inspector": True}, 400),
        ("/agents/999/rotate", None, 409),
        ("/events", {"agent_id": "101"}, 400),
        ("/events", {"agent_id": "101", "event": 5}, 400),
        ("/events", {"agent_id": "999", "event": {}}, 409),
    ):
        assert (await client.control("POST", path, body))[0] == status, path
    assert (await client.control("GET", "/nowhere"))[0] == 404
    assert "POST /simulator/faults" in (await client.control("GET", ""))[1]
    shown = str(await client.control("GET", "/state")) + str(await client.control("GET", "/record"))
    assert "getAgentEvent" in shown
    assert guid not in shown
    assert (await client.control("DELETE", "/agents/101"))[1] == {"signed_out": True}
    assert (await client.control("POST", "/reset"))[0] == 200
    assert client.simulator.requests("login") == ()


async def test_control_api_can_be_off(simulators):
    """Without the control API its paths are unknown."""
    client = await simulators(control_enabled=False)
    async with client.session.get(client.simulator.url + "/simulator/state") as reply:
        assert reply.status == 404


async def test_record_tells_what_was_asked(client):
    """The record lists operation, agent, target, parameters and what the GUID was worth."""
    guid = await client.sign_in()
    client.simulator.start_call("292")
    await client.code(
        "POST", "/qualitycontrol/101/requestswitchinsertwhisperagent?whisperagentid=292&switchtype=1", guid
    )
    entry = client.simulator.requests("requestSwitchInsertWhisperAgent", "101")[0]
    assert (entry.target, entry.parameters) == ("292", {"whisperagentid": "292", "switchtype": "1"})
    assert (entry.guid, entry.retcode, entry.executed) == ("current", "900-005", False)


async def test_many_held_polls(simulators):
    """Hundreds of polls are held at a time, and each gets the event of its own agent."""
    client = await simulators(poll_hold_seconds=30)
    count = 300
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        many = Client(client.simulator, session)
        guids = {str(agent): client.simulator.sign_in(str(agent)) for agent in range(1000, 1000 + count)}
        for agent in guids:
            client.simulator.gateway.roster.agent(agent).sign_in.mailbox.take()
            client.simulator.gateway.roster.agent(agent).sign_in.mailbox.take()
        polls = {agent: asyncio.create_task(many.poll(agent, guid)) for agent, guid in guids.items()}
        roster = client.simulator.gateway.roster
        await until(lambda: all(roster.agent(agent).sign_in.mailbox.held_polls() for agent in guids), 15)
        for agent in guids:
            client.simulator.inject(agent, {"eventType": "Own", "workNo": agent, "content": None})
        for agent, poll in polls.items():
            assert json.loads(await poll)["event"]["workNo"] == agent
    assert client.simulator.record.poll_overlaps() == 0


async def test_stop_ends_held_polls(simulators):
    """A simulator that stops answers the polls it holds; nobody waits for their time to end."""
    client = await simulators(poll_hold_seconds=30)
    guid = client.simulator.sign_in("101")
    await client.event_types("101", guid, 2)
    poll = asyncio.create_task(client.poll("101", guid))
    await until(lambda: client.simulator.state()["agents"]["101"]["held_polls"] == 1)
    await client.simulator.stop()
    assert await poll == EMPTY_POLL


async def test_run_announces_and_ends_when_cancelled(simulators):
    """`run` tells a newcomer what to try, plays a scenario, and ends when it is cancelled."""
    said = []
    scenario = parse({"calls": [{"agent_id": "292"}]})
    task = asyncio.create_task(run(SimulatorSettings(), scenario=scenario, announce=said.append))
    await until(lambda: said)
    assert all(word in said[0] for word in ("curl", "forcelogin", "intercept", "/simulator/record"))
    url = re.search(r"http://[\d.:]+", said[0])[0]
    async with aiohttp.ClientSession() as session, session.get(url + "/simulator/state") as reply:
        assert (await reply.json())["calls"][0]["agent_id"] == "292"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
