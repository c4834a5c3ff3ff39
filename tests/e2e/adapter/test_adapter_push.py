"""Events that the gateway pushes: the same calls, streams and promises as with polls, by a setting alone."""

from __future__ import annotations

import asyncio
import io
import json
import re

import aiohttp
import pytest
import trustme
from grpc import StatusCode

from bench.ports import free_port
from qc_adapter.simulator import Fault
from qc_adapter.v1 import sessions_pb2
from tests.support.opening import PUSH_TOKEN, pushing
from tests.support.watches import hold, read, told, until_told

WHOLE = ["accepted", "AgentEvent_Talking", "AgentMediaEvent_Record", "outcome"]
QUICK = {"push_retry_seconds": 0.1, "push_timeout_seconds": 2.0}


@pytest.fixture
def open_pushed(open_site):
    """Open a site whose gateway pushes, with inspector 101 signed in."""

    async def opened(gateway=(), scheme="http", **environment):
        port = free_port()
        url = f"{scheme}://127.0.0.1:{port}/events"
        site = await open_site(gateway=QUICK | dict(gateway), **pushing(port, QC_PUSH_URL=url) | environment)
        site.secrets.add(PUSH_TOKEN)
        site.push_url = url
        signed_in = await site.ending(site.sign_in())
        assert signed_in.code is StatusCode.OK, signed_in
        assert signed_in.updates[0].session.event_source == sessions_pb2.EVENT_SOURCE_PUSH
        return site

    return opened


async def pushed(site, body=b"", *, token=PUSH_TOKEN, path="", verb="POST"):
    """Push as a gateway does; returns the status and the answer."""
    headers = {"Content-Type": "application/json; charset=UTF-8"} | ({"service_token": token} if token else {})
    async with (
        aiohttp.ClientSession() as client,
        client.request(verb, site.push_url + path, data=io.BytesIO(body), headers=headers) as reply,
    ):
        return reply.status, json.loads(await reply.read())


def eventually(number, count):
    """A push of that many events, from that number on."""
    events = [hold(place) for place in range(number, number + count)]
    return json.dumps({"workNo": "101", "eventList": events}).encode()


def pushes(text, outcome):
    """How many pushes of that outcome /metrics tells of."""
    return float(re.search(rf'^qc_pushes_total{{gateway="default",outcome="{outcome}"}} (\S+)$', text, re.MULTILINE)[1])


@pytest.mark.parametrize("shape", ["new", "old"])
async def test_nothing_but_the_way_of_the_events_changes(open_pushed, until, shape):
    """Listen, intercept and watch tell the same as with polls; nothing is polled, and heartbeats keep the sign-in."""
    site = await open_pushed({"push_shape": shape})
    watch = site.watch(cursor="oldest")
    await until_told(watch, "AgentState_Ready")
    await site.listening()
    ended = await site.ending(site.intercept())
    assert (ended.code, ended.kinds, ended.outcome) == (StatusCode.OK, WHOLE, "CONFIRMED")
    seen = await until_told(watch, "AgentMediaEvent_Record")
    assert "gap" not in told(seen)
    watch.cancel()
    assert site.simulator.requests("getAgentEvent") == ()
    await until(lambda: site.simulator.requests("handShake", "101"))
    record = site.simulator.record
    await until(lambda: record.queued["101"] == site.simulator.pushes_of("101")["delivered"])
    await until(lambda: "polling_started" in {line["event"] for line in site.tape.lines})


async def test_a_batch_whose_answer_got_lost_is_logged_once(open_pushed, until):
    """The gateway pushes again what it got no answer for, with newer events behind: each is told once."""
    site = await open_pushed()
    watch = site.watch()
    await read(watch, 1)
    site.simulator.add_fault(Fault("reset_after", operation="pushEvent", agent_id="101", times=2))
    for number in range(4):
        site.simulator.inject("101", hold(number))
    assert told(await read(watch, 4)) == ["9-0", "9-1", "9-2", "9-3"]
    await until(lambda: site.simulator.pushes_of("101")["repeated"] > 0)
    await until(lambda: site.simulator.pushes_of("101")["delivered"] == site.simulator.record.queued["101"])
    site.simulator.inject("101", hold("last"))
    assert told(await read(watch, 1)) == ["9-last"]
    watch.cancel()
    page = await site.page("/metrics")
    assert 'qc_events_total{event_type="AgentEvent_Hold",gateway="default"} 5.0' in page
    assert pushes(page, "repeated") >= 1


async def test_what_comes_sooner_than_a_repetition_is_new(open_pushed):
    """The same event twice in a row, faster than the gateway repeats anything, happened twice."""
    site = await open_pushed(QC_PUSH_RETRY_SECONDS="60")
    watch = site.watch()
    await read(watch, 1)
    for _ in range(3):
        assert await pushed(site, eventually(7, 1)) == (200, {"message": "success", "retcode": "0"})
    assert told(await read(watch, 3)) == ["9-7"] * 3
    watch.cancel()


async def test_a_heartbeat_brings_the_new_guid(open_pushed, until):
    """With GUIDs that change all the time, heartbeats and commands go on with the newest one."""
    site = await open_pushed(
        {"auth_mode": "dynamic", "guid_interval_seconds": 0.1, "guid_timeout_seconds": 0.6}, QC_HEARTBEAT_SECONDS="0.05"
    )
    first = site.simulator.guid_of("101")
    await until(lambda: site.simulator.guid_of("101") != first)
    await site.listening()
    assert (await site.ending(site.intercept())).outcome == "CONFIRMED"
    assert {request.retcode for request in site.simulator.requests("handShake", "101")} == {"0"}


async def test_a_session_that_ended_at_the_gateway_ends_the_streams(open_pushed):
    """The next heartbeat finds out: watches end with INSPECTOR_SESSION_LOST, and the session is lost."""
    site = await open_pushed()
    watch = site.watch()
    await read(watch, 1)
    site.simulator.sign_out("101")
    ended = await site.ending(watch)
    assert (ended.code, ended.reason) == (StatusCode.FAILED_PRECONDITION, "INSPECTOR_SESSION_LOST")
    found = (await site.ending(site.get())).updates[0].session
    assert found.state == sessions_pb2.SESSION_STATE_LOST


async def test_events_before_the_reply_to_the_sign_in_are_kept(open_pushed):
    """Some gateways push the first events before they answer the sign-in: they stand in the log."""
    site = await open_pushed({"push_before_reply": True})
    watch = site.watch(cursor="oldest")
    assert told(await until_told(watch, "AgentState_Ready"))[1:] == ["AgentOther_InService", "AgentState_Ready"]
    watch.cancel()
    assert site.simulator.pushes_of("101")["failures"] == 0


UNTAKEN = {
    "no token": (401, {"token": ""}),
    "a wrong token": (401, {"token": PUSH_TOKEN[:-1]}),
    "a token that is longer": (401, {"token": PUSH_TOKEN + "x"}),
    "another verb": (405, {"verb": "PUT"}),
    "another path": (404, {"path": "/elsewhere"}),
    "no body": (400, {"body": b""}),
    "no JSON": (400, {"body": b"<html></html>"}),
    "JSON that is no push": (400, {"body": b'{"hello":"world"}'}),
    "JSON that is too deep": (400, {"body": b"[" * 10_000 + b"]" * 10_000}),
    "no event in the list": (400, {"body": b'{"workNo":"101","eventList":[1,"x"]}'}),
    "an event without an agent": (400, {"body": b'{"eventList":[{"eventType":"AgentState_Ready"}]}'}),
    "an agent that is none": (400, {"body": b'{"workNo":"../1","eventList":[{"eventType":"AgentState_Ready"}]}'}),
    "an agent without a session": (404, {"body": b'{"workNo":"555","eventList":[{"eventType":"AgentState_Ready"}]}'}),
    "too much": (413, {"body": b'{"workNo":"101","eventList":[' + b" " * (1 << 20) + b"]}"}),
    "too many events": (413, {"body": json.dumps({"workNo": "101", "eventList": [hold(0)] * 2001}).encode()}),
}


async def test_what_is_no_push_is_not_taken(open_pushed):
    """Each is answered with a retcode that is not 0 and says what is wrong; nothing of it is logged, no secret told."""
    site = await open_pushed()
    watch = site.watch()
    await read(watch, 1)
    for name, (status, how) in UNTAKEN.items():
        body = how.pop("body", eventually(0, 1))
        answer = await pushed(site, body, **how)
        assert answer[0] == status, name
        assert answer[1]["retcode"] not in {"0", 0}, name
        assert answer[1]["message"], name
        assert PUSH_TOKEN not in answer[1]["message"]
    assert (await pushed(site, eventually(1, 1)))[0] == 200
    assert told(await read(watch, 1)) == ["9-1"]
    watch.cancel()
    page = await site.page("/metrics")
    assert (pushes(page, "refused"), pushes(page, "unreadable"), pushes(page, "unknown")) == (5, 9, 1)
    assert len([line for line in site.tape.lines if line["event"] == "push_not_taken"]) == 1
    # Once for each kind, and not for each push.
    lines = [line for line in site.tape.lines if line["event"] == "push_refused"]
    assert [line["status"] for line in lines] == [401, 405, 404, 400, 413]
    assert {line["peer"] for line in lines} == {"127.0.0.1"}
    assert PUSH_TOKEN[:-1] not in repr(lines)


async def test_a_push_without_events_and_one_that_is_readable_in_part(open_pushed):
    """Nothing to tell is a success; an entry that is no event leaves a gap behind the events that are."""
    site = await open_pushed()
    watch = site.watch()
    await read(watch, 1)
    assert (await pushed(site, b'{"message":"","retcode":"0","event":null}'))[0] == 200
    body = json.dumps({"workNo": "101", "eventList": [hold(1), 7]}).encode()
    assert (await pushed(site, body))[0] == 200
    assert told(await read(watch, 2)) == ["9-1", "gap"]
    watch.cancel()


async def test_an_event_for_somebody_else_costs_no_sign_in(open_pushed):
    """What names an agent without a session, or none, is dropped and counted where others of the push are taken."""
    site = await open_pushed()
    watch = site.watch()
    await read(watch, 1)
    events = [hold(1, "555"), hold(2), hold(3, "none"), hold(4, "555"), hold(5)]
    assert (await pushed(site, json.dumps({"workNo": "101", "eventList": events}).encode()))[0] == 200
    assert told(await read(watch, 2)) == ["9-2", "9-5"]
    watch.cancel()
    assert 'qc_events_foreign_total{gateway="default"} 3.0' in await site.page("/metrics")


HEAD = f"POST /events HTTP/1.1\r\nHost: x\r\nservice_token: {PUSH_TOKEN}\r\n"
BROKEN = {
    "a header without a colon": f"POST /events HTTP/1.1\r\nHost: x\r\nservice_token {PUSH_TOKEN}\r\n\r\n",
    "a header of 10 kB": f"POST /events HTTP/1.1\r\nHost: x\r\nservice_token: {PUSH_TOKEN * 500}\r\n\r\n",
    "a body that is no gzip": f"{HEAD}Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nabcde",
    "a chunk without a length": f"{HEAD}Transfer-Encoding: chunked\r\n\r\nZZZ\r\n",
    "a body that breaks off": f"{HEAD}Content-Length: 50\r\n\r\nabc",
}


async def test_broken_requests_are_counted_and_not_quoted(open_pushed):
    """Whoever reaches the port fills no log with tracebacks, and no line quotes a token out of a broken request."""
    site = await open_pushed()
    for name, request in BROKEN.items():
        reader, writer = await asyncio.open_connection("127.0.0.1", site.adapter.push_port)
        writer.write(request.encode())
        if name == "a body that breaks off":
            writer.write_eof()
        else:
            assert (await reader.readline()).split()[1] == b"400", name
        await reader.read()
        writer.close()
    assert (await pushed(site, eventually(1, 1)))[0] == 200
    assert [line for line in site.tape.lines if line.get("logger") == "aiohttp.server"] == []
    assert pushes(await site.page("/metrics"), "unreadable") == len(BROKEN)


async def test_a_callback_with_tls_is_trusted_by_its_ca(open_pushed, tmp_path):
    """The port speaks TLS with its own certificate; a gateway that trusts the CA pushes, one that does not cannot."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    tls = {"QC_PUSH_TLS_CERT_FILE": str(tmp_path / "cert.pem"), "QC_PUSH_TLS_KEY_FILE": str(tmp_path / "key.pem")}
    site = await open_pushed({"push_ca_file": str(tmp_path / "ca.pem")}, scheme="https", **tls)
    watch = site.watch(cursor="oldest")
    await until_told(watch, "AgentState_Ready")
    watch.cancel()
    assert site.simulator.pushes_of("101")["failures"] == 0


async def test_push_needs_all_that_it_needs(open_site):
    """A gateway that is to push without an address to push to does not start; the message names what is missing."""
    with pytest.raises(Exception, match="QC_PUSH_LISTEN, QC_PUSH_URL, QC_PUSH_TOKEN"):
        await open_site(QC_EVENT_SOURCE="push")
