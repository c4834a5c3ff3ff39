"""Signing in and out against the simulator: store and gateway stay in step, whatever the caller does."""

import asyncio
import time

import pytest

from qc_adapter.gateway.client import GatewayClient
from qc_adapter.gateway.requests import SignInForm
from qc_adapter.gateway.settings import GatewaySettings
from qc_adapter.gateway.transport import GatewayTransport
from qc_adapter.model.deadline import Deadline
from qc_adapter.model.errors import GatewayRefused, NotSignedIn, SessionBusy, StoreUnavailable
from qc_adapter.model.session import Secret, Session
from qc_adapter.sessions.event_sources import EventSources
from qc_adapter.sessions.keeper import GuidKeeper
from qc_adapter.sessions.memory import MemorySessionStore
from qc_adapter.sessions.orders import Orders
from qc_adapter.sessions.service import SessionService
from qc_adapter.sessions.turns import Turns
from qc_adapter.simulator import Fault, Simulator, SimulatorSettings

FORM = SignInForm(password=Secret("planted"), phone_number="40101")


class Store(MemorySessionStore):
    """The store in memory; writing can fail."""

    full = False

    async def put(self, session, orders=None):
        if self.full:
            raise StoreUnavailable("put", "away")
        return await super().put(session, orders)


class Office:
    """A service, its store and gateway, and what it told its listeners."""

    def __init__(self, simulator):
        self.simulator = simulator
        settings = GatewaySettings(simulator.url)
        self.gateway = GatewayClient(GatewayTransport(settings), settings, lambda _call: None)
        self.store = Store()
        self.heard = []
        self.service = SessionService(
            gateway=self.gateway,
            store=self.store,
            listeners=self,
            turns=Turns(self.store),
            keeper=GuidKeeper(self.store),
            sources=EventSources(),
            seal=None,
        )

    async def notice(self, session):
        self.heard.append(("notice", session.agent_id))

    async def replaced(self, session):
        self.heard.append(("replaced", session.agent_id))

    async def adopted(self, session):
        self.heard.append(("adopted", session.agent_id))

    async def recovered(self, session):
        self.heard.append(("recovered", session.agent_id))

    async def leaving(self, agent_id):
        self.heard.append(("leaving", agent_id))

    async def forget(self, agent_id):
        self.heard.append(("forget", agent_id))

    async def sign_in(self, agent_id="101", *, force=False):
        return await self.service.sign_in(agent_id, Orders(FORM, force=force), again=False, deadline=Deadline.after(5))

    async def sign_out(self, agent_id="101", *, force=False):
        await self.service.sign_out(agent_id, force=force, deadline=Deadline.after(5))


@pytest.fixture
async def office():
    async with Simulator(SimulatorSettings(poll_hold_seconds=0.05, event_delay_seconds=0)) as simulator:
        made = Office(simulator)
        yield made
        await made.service.close(1)
        await made.gateway.close()


async def until(condition):
    ends = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < ends, "the condition never came true"
        await asyncio.sleep(0.001)


async def test_a_sign_in_is_stored_and_noticed(office):
    """The session is in the store with its GUID before anybody is told."""
    signed_in = await office.sign_in()
    assert (await office.store.get("101")).guid == signed_in.session.guid
    assert office.heard == [("notice", "101")]


async def test_a_sign_in_that_ends_an_older_one_is_no_loss(office):
    """Those who watch are warned before the gateway ends the older sign-in, and told that another took its place."""
    await office.sign_in()
    office.heard.clear()
    await office.sign_in(force=True)
    assert office.heard == [("leaving", "101"), ("replaced", "101")]


async def test_a_refused_new_sign_in_leaves_the_older_one(office):
    """When the gateway refuses, the session that was there goes on."""
    first = await office.sign_in()
    office.heard.clear()
    office.simulator.set_agent("101", password="another")
    with pytest.raises(GatewayRefused):
        await office.sign_in(force=True)
    assert office.heard == [("leaving", "101"), ("notice", "101")]
    assert (await office.store.get("101")).guid == first.session.guid


async def test_a_sign_out_is_forgotten(office):
    """Store, gateway and listeners all know that the inspector is out."""
    await office.sign_in()
    await office.sign_out()
    assert await office.store.get("101") is None
    assert office.simulator.state_of("101") == "SIGNED_OUT"
    assert office.heard[-1] == ("forget", "101")
    with pytest.raises(NotSignedIn):
        await office.sign_out()


async def test_a_session_that_the_gateway_forgot_can_be_signed_out(office):
    """Being out already is a success: the stored session goes."""
    await office.sign_in()
    office.simulator.sign_out("101")
    await office.sign_out()
    assert await office.store.get("101") is None


async def test_a_refused_sign_in_leaves_nothing_and_is_not_repeated(office):
    """A refusal is told as it is; a second try could lock the account."""
    office.simulator.set_agent("101", password="another")
    with pytest.raises(GatewayRefused):
        await office.sign_in()
    assert await office.store.get("101") is None
    assert len(office.simulator.requests("login")) == 1
    assert office.heard == []


async def test_a_sign_in_that_cannot_be_stored_is_undone(office):
    """A sign-in whose GUID is lost could neither be used nor ended."""
    office.store.full = True
    with pytest.raises(StoreUnavailable):
        await office.sign_in()
    assert office.simulator.state_of("101") == "SIGNED_OUT"
    assert office.heard == []


async def test_two_sign_ins_at_once_are_one(office):
    """Signing in and out of one inspector never overlap; the second call is refused cleanly."""
    results = await asyncio.gather(office.sign_in(), office.sign_in(), office.sign_in("102"), return_exceptions=True)
    assert [type(result).__name__ for result in results] == ["SignedIn", "SessionBusy", "SignedIn"]
    assert len(office.simulator.requests("login", "101")) == 1
    await office.sign_out()


async def test_an_adoption_waits_for_nobody(office):
    """A session is not adopted in the midst of a sign-in of the same inspector."""
    office.simulator.add_fault(Fault("delay", operation="login", seconds=0.2))
    signing_in = asyncio.create_task(office.sign_in())
    await until(lambda: office.service.under_way)
    with pytest.raises(SessionBusy):
        await office.service.adopt("101", Secret("adopted"), None)
    await signing_in
    await office.service.adopt("101", Secret("adopted"), None)
    assert (await office.service.get("101")).guid == Secret("adopted")
    assert office.heard[-1] == ("adopted", "101")


async def test_a_sign_in_is_finished_without_its_caller(office):
    """What was begun at the gateway ends in the store even when the caller goes away."""
    office.simulator.add_fault(Fault("delay", operation="login", seconds=0.1))
    signing_in = asyncio.create_task(office.sign_in())
    await until(lambda: office.service.under_way)
    signing_in.cancel()
    await asyncio.gather(signing_in, return_exceptions=True)
    await until(lambda: office.heard)
    assert await office.store.get("101") is not None


async def test_closing_ends_what_is_under_way(office):
    """A sign-in that outlasts the grace is cancelled and leaves no task."""
    office.simulator.add_fault(Fault("hang", operation="login"))
    signing_in = asyncio.create_task(office.sign_in())
    await until(lambda: office.service.under_way)
    await office.service.close(0.01)
    await asyncio.gather(signing_in, return_exceptions=True)
    assert office.service.under_way == 0


async def test_sessions_are_listed_by_number_in_pages(office):
    """Ids sort as numbers; a page ends with where the next one begins."""
    for agent_id in ("1000", "102", "101", "999"):
        await office.store.put(Session(agent_id, Secret("guid")))
    found, last = await office.service.list("", 3)
    assert ([session.agent_id for session in found], last) == (["101", "102", "999"], "999")
    found, last = await office.service.list(last, 3)
    assert ([session.agent_id for session in found], last) == (["1000"], "")
