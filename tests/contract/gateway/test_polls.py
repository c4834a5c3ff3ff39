"""Long polls against a gateway of scripted bytes: what they bring, and whether an event may be lost."""

from __future__ import annotations

import asyncio
import os
import resource

import pytest

from qc_adapter.gateway import requests
from qc_adapter.gateway.envelope import RawEvent
from qc_adapter.gateway.observation import Outcome
from qc_adapter.model.deadline import Deadline
from qc_adapter.model.errors import GatewayMisconfigured, GatewayRefused, GatewayUnavailable, PollFailed
from qc_adapter.model.session import Renewal, Secret

GUID = "0b" * 24 + ".AgentGateway1"
PAGE = b"<html><body>secret page text</body></html>"
EVENT = b'{"message":"","retcode":"0","event":{"eventType":"AgentState_Ready","workNo":"117","content":null}}'


async def test_a_poll_brings_an_event_and_the_next_guid(gateway, client, session, bench):
    """A42: one reply carries the event and the renewal together."""
    gateway.script.append(gateway.reply(EVENT, headers=[("Set-GUID", f"JSESSIONID={GUID}")]))
    sent = []
    reply = await client.poll(session, hold_seconds=10, on_send=lambda: sent.append(True))
    assert reply.events == (RawEvent("AgentState_Ready", "117", None),)
    assert reply.renewal == Renewal(guid=Secret(GUID))
    assert not reply.event_may_be_lost
    (heard,) = gateway.heard
    assert (heard.verb, heard.target) == ("GET", "/agentgateway/resource/agentevent/117")
    assert heard.header("Guid") == session.guid.reveal()
    assert sent == [True]
    assert [(call.method, call.retcode, call.outcome) for call in bench.calls] == [("getAgentEvent", "0", Outcome.OK)]


async def test_no_event_is_no_effect(gateway, client, session):
    """A1: the usual reply brings nothing and renews nothing."""
    reply = await client.poll(session, hold_seconds=10)
    assert (reply.events, reply.renewal) == ((), None)


async def test_a_batch_without_a_retcode_is_delivered(gateway, client, session, bench):
    """A5: a list of events needs no retcode, and is not counted as if it had one."""
    gateway.script.append(gateway.reply(b'{"workNo":"117","eventList":[{"eventType":"A"},{"eventType":"B"}]}'))
    reply = await client.poll(session, hold_seconds=10)
    assert [(event.event_type, event.work_no) for event in reply.events] == [("A", "117"), ("B", "117")]
    assert [(call.retcode, call.outcome) for call in bench.calls] == [("none", Outcome.OK)]


async def test_what_is_no_event_is_said(gateway, client, session):
    """Something unreadable among the events is told as a possible loss; the readable ones are delivered."""
    gateway.script.append(gateway.reply(b'{"retcode":"0","event":[{"eventType":"A"},7]}'))
    reply = await client.poll(session, hold_seconds=10)
    assert len(reply.events) == 1
    assert reply.event_may_be_lost


async def test_events_without_end_are_a_loss_that_is_said(gateway, client, session):
    """Of more than 2000 events in one reply the first are delivered, in order, and the rest is told as lost."""
    entries = b",".join(b'{"eventType":"A%d"}' % number for number in range(2001))
    for body, lost in ((entries, True), (entries.rpartition(b",")[0], False)):
        gateway.script.append(gateway.reply(b'{"retcode":"0","event":[' + body + b"]}"))
        reply = await client.poll(session, hold_seconds=10)
        assert [event.event_type for event in reply.events] == [f"A{number}" for number in range(2000)]
        assert reply.event_may_be_lost is lost


@pytest.mark.parametrize("code", ["100-006", "000-003", "000-004"])
async def test_a_retcode_ends_a_poll(gateway, client, session, code):
    """A49, A60: a refused poll took no event and says why."""
    gateway.script.append(gateway.refusal(code))
    with pytest.raises(GatewayRefused) as raised:
        await client.poll(session, hold_seconds=10)
    assert raised.value.retcode == code


@pytest.mark.parametrize(
    ("status", "body", "lost"),
    [
        ("200 OK", b"", False),
        ("200 OK", PAGE, False),
        ("503 Service Unavailable", PAGE, True),
        ("500 Internal Server Error", PAGE, True),
        ("502 Bad Gateway", PAGE, True),
        ("504 Gateway Timeout", PAGE, True),
        ("200 OK", b'{"message":"","retco', True),
        ("200 OK", b'{"status":"fine"}', True),
    ],
)
async def test_an_odd_answer_says_whether_an_event_may_be_lost(gateway, client, session, *, status, body, lost):
    """A20, A23, A25: whole answers of others lost nothing; what broke off or was lost behind a proxy may have."""
    gateway.script.append(gateway.reply(body, status=status))
    with pytest.raises(PollFailed) as raised:
        await client.poll(session, hold_seconds=10)
    assert raised.value.event_may_be_lost is lost
    assert "secret page text" not in raised.value.message
    assert client.last_seen.reachable is False


@pytest.mark.parametrize("status", ["403 Forbidden", "302 Found"])
async def test_a_barred_poll_is_a_configuration_error(gateway, client, session, status):
    """A21, A33: an allow list or a redirect is loud and permanent."""
    gateway.script.append(gateway.reply(PAGE, status=status, headers=[("Location", f"{gateway.url}/login")]))
    with pytest.raises(GatewayMisconfigured):
        await client.poll(session, hold_seconds=10)
    assert len(gateway.heard) == 1


@pytest.mark.parametrize(
    "answer",
    [lambda g: g.RESET, lambda g: g.CLOSE, lambda g: (g.reply(EVENT, length=5000), g.CLOSE)],
    ids=["reset", "closed", "body cut"],
)
async def test_a_cut_poll_may_have_lost_an_event(gateway, client, session, bench, answer):
    """A25: a poll takes its event away, so a cut one is a possible loss; it is not sent again either."""
    gateway.script += [gateway.reply(), answer(gateway)]
    await client.poll(session, hold_seconds=10)
    with pytest.raises(PollFailed) as raised:
        await client.poll(session, hold_seconds=10)
    assert raised.value.event_may_be_lost
    assert len(gateway.heard) == 2
    assert bench.calls[-1].outcome is Outcome.POLL_FAILED


async def test_a_cut_poll_still_renews_the_session(gateway, client, session):
    """The next GUID stands in the head of the reply: it is not lost with the body."""
    gateway.script.append((gateway.reply(EVENT, headers=[("Set-GUID", "b.AgentGateway0")], length=5000), gateway.CLOSE))
    with pytest.raises(PollFailed) as raised:
        await client.poll(session, hold_seconds=10)
    assert raised.value.renewal == Renewal(guid=Secret("b.AgentGateway0"))


async def test_a_silent_poll_ends_after_hold_and_margin(gateway, bench, session):
    """A30: a poll waits longer than the gateway holds it, but not for ever."""
    client = bench.client(gateway.url, poll_margin_seconds=0.2)
    gateway.script.append(gateway.STALL)
    with pytest.raises(PollFailed, match="in time") as raised:
        await client.poll(session, hold_seconds=0.1)
    assert raised.value.event_may_be_lost


async def test_held_polls_do_not_delay_commands(gateway, bench, session):
    """A30: with every poll slot held, a command still goes out at once."""
    client = bench.client(gateway.url, poll_slots=2, command_slots=1)
    gateway.script += [gateway.STALL, gateway.STALL]
    polls = [asyncio.ensure_future(client.poll(session, hold_seconds=10)) for _ in range(2)]
    await gateway.until(lambda g: len(g.heard) == 2)
    await client.send(session, requests.listen("117", "291"), Deadline.after(20))
    gateway.resume()
    for end in await asyncio.gather(*polls, return_exceptions=True):
        assert isinstance(end, PollFailed)


async def test_a_cancelled_poll_leaks_nothing(gateway, bench, session):
    """A cancelled poll closes its connection and frees its slot."""
    client = bench.client(gateway.url, poll_slots=1)
    gateway.script.append(gateway.STALL)
    task = asyncio.ensure_future(client.poll(session, hold_seconds=10))
    await gateway.until(lambda g: len(g.heard) == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await gateway.until(lambda g: g.open_connections == 0)
    await client.poll(session, hold_seconds=10)


async def test_an_unreachable_gateway_took_no_event(bench, session, gateway):
    """A poll that was never sent is unavailable, not failed."""
    client = bench.client(gateway.url)
    await gateway.stop()
    with pytest.raises(GatewayUnavailable):
        await client.poll(session, hold_seconds=10)


async def test_a_process_without_descriptors_says_so(bench, session, gateway):
    """A poll that finds no descriptor is not sent, and says that the fault is not the gateway's."""
    client = bench.client(gateway.url)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, before[1]))
    try:
        with pytest.raises(GatewayUnavailable, match="limit of descriptors"):
            await client.poll(session, hold_seconds=10)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_health_follows_the_last_answer(gateway, client, session):
    """The gateway counts as unreachable after an odd answer, and as reachable with the next good one."""
    assert client.last_seen.reachable is None
    gateway.script.append(gateway.reply(PAGE, status="502 Bad Gateway"))
    with pytest.raises(PollFailed):
        await client.poll(session, hold_seconds=10)
    assert client.last_seen.reachable is False
    await client.poll(session, hold_seconds=10)
    assert client.last_seen.reachable is True
    assert client.last_seen.at > 0
