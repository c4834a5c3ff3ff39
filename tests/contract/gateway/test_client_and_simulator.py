"""The client against the simulated gateway: a whole sign-in, inspection and sign-out."""

from __future__ import annotations

import pytest

from qc_adapter.gateway import operations, requests
from qc_adapter.gateway.requests import SignInForm, SkillReset
from qc_adapter.model.deadline import Deadline
from qc_adapter.model.errors import GatewayRefused, OutcomeUnknown
from qc_adapter.model.session import Secret
from qc_adapter.simulator.faults import Fault
from qc_adapter.simulator.settings import SimulatorSettings
from qc_adapter.simulator.simulator import Simulator

FORM = SignInForm(Secret("pass-word"), phone_number="40038")


def soon():
    return Deadline.after(20)


@pytest.fixture
async def simulator():
    """A simulated gateway with quick events and short holds."""
    settings = SimulatorSettings(event_delay_seconds=0.0, poll_hold_seconds=2.0, agent_id_max=59999)
    async with Simulator(settings) as running:
        yield running


@pytest.fixture
async def client(bench, simulator):
    """A client of the simulated gateway."""
    return bench.client(simulator.url)


async def signed_in(client):
    return (await client.sign_in("117", FORM, force=True, deadline=soon())).session


async def events_until(client, session, wanted):
    """Poll until all wanted types have come; return the session with what the polls renewed, and the types."""
    seen = []
    while not set(wanted) <= set(seen):
        reply = await client.poll(session, hold_seconds=2)
        seen += [event.event_type for event in reply.events]
        if reply.renewal is not None:
            session = session.renewed(reply.renewal)
    return session, seen


async def test_an_inspector_listens_and_intercepts(client, simulator):
    """Sign-in, skills, listen and intercept are accepted, and their expected events come by polling."""
    session = await signed_in(client)
    await client.send(session, requests.reset_skills("117", SkillReset()), soon())
    simulator.start_call("291")
    session, _ = await events_until(client, session, ["AgentOther_InService", "AgentState_Ready"])
    await client.send(session, requests.listen("117", "291"), soon())
    session, _ = await events_until(client, session, operations.LISTEN.effects.expected)
    await client.send(session, requests.intercept("117", "291"), soon())
    session, _ = await events_until(client, session, operations.INTERCEPT.effects.expected)
    assert simulator.state_of("117") == "INTERCEPTED"
    await client.sign_out(session, force=True, deadline=soon())
    await client.sign_out(session, force=True, deadline=soon())
    assert simulator.state_of("117") == "SIGNED_OUT"


async def test_listening_ends(client, simulator):
    """Cancelling a listening brings the events that complete it."""
    session = await signed_in(client)
    simulator.start_call("291")
    await client.send(session, requests.listen("117", "291"), soon())
    session, _ = await events_until(client, session, operations.LISTEN.effects.expected)
    await client.send(session, requests.stop_inspecting("117", "291"), soon())
    await events_until(client, session, operations.STOP_INSPECTING.effects.expected)


async def test_whispering_begins_and_ends(client, simulator):
    """Whispering and its end bring the events that we conclude from the neighbouring operations."""
    session = await signed_in(client)
    simulator.start_call("291")
    await client.send(session, requests.whisper("117", "291"), soon())
    session, _ = await events_until(client, session, operations.WHISPER.effects.expected)
    await client.send(session, requests.stop_whispering("117", "291"), soon())
    await events_until(client, session, operations.STOP_WHISPERING.effects.expected)


async def test_a_rotated_guid_comes_with_a_poll(client, simulator):
    """A42: the poll's reply renews the session, and commands go on with the new GUID."""
    session = await signed_in(client)
    session, _ = await events_until(client, session, ["AgentOther_InService", "AgentState_Ready"])
    simulator.rotate("117")
    reply = await client.poll(session, hold_seconds=2)
    assert reply.renewal is not None
    session = session.renewed(reply.renewal)
    assert session.guid.reveal() == simulator.guid_of("117")
    simulator.start_call("291")
    await client.send(session, requests.listen("117", "291"), soon())


async def test_mistakes_are_refused_with_their_codes(client, simulator):
    """A target without a call, an inspector that is its own target and an unroutable id are told apart."""
    session = await signed_in(client)
    simulator.set_agent("291", on_duty=True)
    codes = {}
    for target in ("291", "117", "600000"):
        with pytest.raises(GatewayRefused) as raised:
            await client.send(session, requests.listen("117", target), soon())
        codes[target] = raised.value.retcode
    assert codes == {"291": "900-003", "117": "000-005", "600000": "000-002"}


async def test_a_kicked_inspector_is_refused(client, simulator):
    """A60: after losing its sign-in elsewhere the next poll is refused, not failed."""
    session = await signed_in(client)
    session, _ = await events_until(client, session, ["AgentOther_InService", "AgentState_Ready"])
    simulator.sign_in("117")
    with pytest.raises(GatewayRefused) as raised:
        await client.poll(session, hold_seconds=2)
    assert raised.value.retcode in {"100-006", "000-003"}


async def test_a_lost_reply_is_unknown_and_executed_once(client, simulator):
    """A84: the gateway did what was asked and the reply was lost: unknown, and it saw the request once."""
    session = await signed_in(client)
    simulator.start_call("291")
    simulator.add_fault(Fault("reset_after", operation="addSupervise"))
    with pytest.raises(OutcomeUnknown):
        await client.send(session, requests.listen("117", "291"), soon())
    assert len(simulator.requests("addSupervise")) == 1
    await events_until(client, session, operations.LISTEN.effects.expected)


async def test_nothing_printed_shows_a_secret(client, simulator, bench):
    """Neither values nor records of the client print a GUID or password."""
    answer = await client.sign_in("117", FORM, force=True, deadline=soon())
    text = f"{answer!r} {bench.calls!r} {client.last_seen!r}"
    assert simulator.guid_of("117") not in text
    assert "pass-word" not in text
