"""A gateway that does not answer, over real sockets: what fails at once, and what goes on regardless."""

from __future__ import annotations

import asyncio

import pytest

from bench.ports import free_port
from qc_adapter.gateway import requests
from qc_adapter.gateway.circuit import MOST_FAILURES
from qc_adapter.model.deadline import Deadline
from qc_adapter.model.errors import (
    GatewayMisconfigured,
    GatewayRefused,
    GatewayUnavailable,
    LimitReached,
    OutcomeUnknown,
    PollFailed,
)
from qc_adapter.model.session import Secret, Session

LISTEN = requests.listen("117", "291")
PAGE = b"<html>nginx</html>"


def soon():
    return Deadline.after(20)


def others(count):
    """Sessions of that many other inspectors."""
    return [Session(str(200 + number), Secret("0c" * 24)) for number in range(count)]


async def fails(client, session, times=MOST_FAILURES, kind=(OutcomeUnknown, GatewayUnavailable)):
    """Let so many commands end without an answer."""
    for _ in range(times):
        with pytest.raises(kind):
            await client.command(session, LISTEN, soon())


async def barred(client, session):
    """Whether a command fails without being sent."""
    sent = []
    try:
        await client.command(session, LISTEN, soon(), lambda: sent.append(True))
    except GatewayUnavailable as failure:
        return not sent and "in turn" in failure.message
    return False


UNANSWERED = {
    "reset": lambda g: g.RESET,
    "closed": lambda g: g.CLOSE,
    "cut": lambda g: (g.reply(length=500), g.CLOSE),
    "silent": lambda g: g.STALL,
    "502": lambda g: g.reply(PAGE, status="502 Bad Gateway"),
    "503": lambda g: g.reply(PAGE, status="503 Service Unavailable"),
    "504": lambda g: g.reply(PAGE, status="504 Gateway Timeout"),
}


@pytest.mark.parametrize("answer", UNANSWERED.values(), ids=UNANSWERED)
async def test_a_gateway_that_does_not_answer_is_not_sent_to(gateway, bench, session, answer):
    """After five commands in turn without an answer, whose outcome is unknown, the sixth is certainly not sent."""
    client = bench.client(gateway.url, request_timeout_seconds=0.1, connect_timeout_seconds=0.1)
    gateway.script += [answer(gateway)] * MOST_FAILURES
    await fails(client, session, kind=OutcomeUnknown)
    assert await barred(client, session)
    assert len(gateway.heard) == MOST_FAILURES
    assert [change.opened for change in bench.changes] == [True]


ANSWERED = {
    "refusal": (lambda g: g.refusal("900-002"), GatewayRefused),
    "refusal with 500": (
        lambda g: g.reply(b'{"message":"x","retcode":"900-001"}', status="500 Internal"),
        GatewayRefused,
    ),
    "403": (lambda g: g.reply(PAGE, status="403 Forbidden"), GatewayMisconfigured),
    "500 page": (lambda g: g.reply(PAGE, status="500 Internal"), OutcomeUnknown),
    "empty": (lambda g: g.reply(b""), OutcomeUnknown),
}


@pytest.mark.parametrize(("answer", "error"), ANSWERED.values(), ids=ANSWERED)
async def test_what_answers_is_not_away(gateway, client, session, bench, *, answer, error):
    """Refusals, and pages of a server that is there, open nothing, however many there are."""
    gateway.script += [answer(gateway)] * (2 * MOST_FAILURES)
    await fails(client, session, 2 * MOST_FAILURES, error)
    assert bench.changes == []


async def test_a_port_that_is_closed_and_opens(gateway, bench, session):
    """Refused connections open the circuit; polls go out all the same, and the first that is answered closes it."""
    port = free_port()
    client = bench.client(f"http://127.0.0.1:{port}")
    await fails(client, session, kind=GatewayUnavailable)
    assert await barred(client, session)
    with pytest.raises(GatewayUnavailable, match="refused the connection"):
        await client.poll(session, hold_seconds=10)
    server = await asyncio.start_server(gateway._serve, "127.0.0.1", port)
    await client.poll(session, hold_seconds=10)
    assert [change.opened for change in bench.changes] == [True, False]
    await client.command(session, LISTEN, soon())
    server.close()


@pytest.mark.parametrize("way", ["poll", "heartbeat", "sign_out", "send"])
async def test_what_keeps_a_sign_in_is_never_barred(gateway, client, session, bench, way):
    """With the circuit open, polls, heartbeats, sign-outs and recoveries are sent, and their answer closes it."""
    gateway.script += [gateway.RESET] * MOST_FAILURES
    await fails(client, session)
    ways = {
        "poll": lambda: client.poll(session, hold_seconds=10),
        "heartbeat": lambda: client.heartbeat(session, Secret("token")),
        "sign_out": lambda: client.sign_out(session, force=True, deadline=soon()),
        "send": lambda: client.send(session, LISTEN, soon()),
    }
    await ways[way]()
    assert len(gateway.heard) == MOST_FAILURES + 1
    assert [change.opened for change in bench.changes] == [True, False]


async def test_polls_that_cannot_be_sent_open_it_and_cut_ones_do_not(gateway, bench, session):
    """A connection that is cut while the gateway holds a poll says nothing about commands; one that is refused does."""
    client = bench.client(gateway.url)
    gateway.script += [gateway.RESET] * (2 * MOST_FAILURES)
    for _ in range(2 * MOST_FAILURES):
        with pytest.raises(PollFailed):
            await client.poll(session, hold_seconds=10)
    assert bench.changes == []
    refused = bench.client(f"http://127.0.0.1:{free_port()}")
    for _ in range(MOST_FAILURES):
        with pytest.raises(GatewayUnavailable):
            await refused.poll(session, hold_seconds=10)
    assert [change.opened for change in bench.changes] == [True]


async def test_a_caller_in_a_hurry_opens_nothing(gateway, client, session, bench):
    """Deadlines that are too short for any answer say nothing about the gateway."""
    gateway.script += [gateway.STALL] * (2 * MOST_FAILURES)
    for _ in range(2 * MOST_FAILURES):
        with pytest.raises(OutcomeUnknown):
            await client.command(session, LISTEN, Deadline.after(0.05))
    assert bench.changes == []


async def test_a_cancelled_try_lets_the_next_one_through(gateway, bench, session):
    """Cancelled while it tries, a command leaves its place; the next one is sent and closes the circuit."""
    client = bench.client(gateway.url)
    gateway.script += [gateway.RESET] * MOST_FAILURES + [gateway.STALL]
    await fails(client, session)
    client._circuit._again_at = 0.0
    probe = asyncio.ensure_future(client.command(session, LISTEN, soon()))
    await gateway.until(lambda g: len(g.heard) == MOST_FAILURES + 1)
    assert await barred(client, session)
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    await client.command(session, LISTEN, soon())
    assert [change.opened for change in bench.changes] == [True, False]


async def test_one_inspector_does_not_take_the_slots_of_others(gateway, bench, session):
    """Commands of one inspector that hang are so many at most; one more is refused at once, another's is sent."""
    client = bench.client(gateway.url, command_slots=4, commands_per_inspector=3)
    gateway.script += [gateway.STALL] * 3
    hanging = [asyncio.ensure_future(client.command(session, LISTEN, soon())) for _ in range(3)]
    await gateway.until(lambda g: len(g.heard) == 3)
    sent = []
    with pytest.raises(LimitReached):
        await client.command(session, LISTEN, soon(), lambda: sent.append(True))
    assert sent == []
    for one in others(3):
        await client.command(one, requests.listen(one.agent_id, "291"), soon())
    gateway.resume()
    assert all(isinstance(end, OutcomeUnknown) for end in await asyncio.gather(*hanging, return_exceptions=True))
    await client.command(session, LISTEN, soon())


async def test_full_slots_end_commands_unsent_and_hold_up_no_heartbeat(gateway, bench, session):
    """With all slots taken a command ends unsent and opens nothing; polls and heartbeats have slots of their own."""
    client = bench.client(
        gateway.url, command_slots=2, commands_per_inspector=2, request_timeout_seconds=0.5, connect_timeout_seconds=0.1
    )
    gateway.script += [gateway.STALL] * 2
    hanging = [asyncio.ensure_future(client.command(session, LISTEN, soon())) for _ in range(2)]
    await gateway.until(lambda g: len(g.heard) == 2)
    waiting = [asyncio.ensure_future(client.command(one, LISTEN, Deadline.after(0.2))) for one in others(8)]
    await client.heartbeat(session, Secret("token"))
    await client.poll(session, hold_seconds=10)
    ends = await asyncio.gather(*waiting, return_exceptions=True)
    assert {getattr(end, "outcome", "") for end in ends} == {"not_sent"}
    await asyncio.gather(*hanging, return_exceptions=True)
    assert bench.changes == []


async def test_a_gateway_that_hangs_does_not_slow_another(gateway, bench, session):
    """All slots and the circuit of one gateway are its own: commands to another one go on."""
    other = type(gateway)()
    await other.start()
    slow = bench.client(gateway.url, command_slots=2, name="slow")
    well = bench.client(other.url, command_slots=2, name="well")
    gateway.script += [gateway.STALL] * 2
    hanging = [asyncio.ensure_future(slow.command(session, LISTEN, soon())) for _ in range(6)]
    await gateway.until(lambda g: len(g.heard) == 2)
    for _ in range(5):
        await well.command(session, LISTEN, soon())
    for one in hanging:
        one.cancel()
    await asyncio.gather(*hanging, return_exceptions=True)
    await other.stop()


async def test_a_server_that_does_not_shake_hands_is_not_waited_for(bench, session):
    """A port that takes the connection and is silent in the TLS handshake ends with the time for connecting, unsent."""
    silent = asyncio.Event()

    async def say_nothing(_reader, writer):
        await silent.wait()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    there = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    client = bench.client(there, connect_timeout_seconds=0.2, request_timeout_seconds=30)
    sent = []
    with pytest.raises(GatewayUnavailable, match="in time"):
        await client.send(session, LISTEN, soon(), lambda: sent.append(True))
    assert sent == []
    silent.set()
    server.close()
    await server.wait_closed()
