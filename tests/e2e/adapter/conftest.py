"""A whole site on real sockets: simulated gateway, a wire that can break, the adapter, and a client of it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import grpc
import pytest

from tests.support.callers import PASSWORD, Caller
from tests.support.opening import opened, simulated
from tests.support.watching import Tape, kinds, leaving_nothing, recorded, until
from tests.support.wire import Wire


@dataclass(kw_only=True)
class Site(Caller):
    """A gateway, an adapter before it, and a client with its stubs."""

    wire: Wire
    tape: Tape

    @property
    def calls(self):
        """The log lines of finished calls."""
        return [line for line in self.tape.lines if line["event"] == "call_finished"]

    async def goes_on(self, agent_id="101", work_no="292"):
        """Prove that the service still works: an intercept by the same inspector, sent once and confirmed."""
        self.simulator.clear_faults()
        state = self.simulator.state_of(agent_id)
        if state == "SIGNED_OUT" or (await self.ending(self.get(agent_id))).code is not grpc.StatusCode.OK:
            assert (await self.ending(self.sign_in(agent_id, force=True))).code is grpc.StatusCode.OK
        if state not in {"LISTENING", "IDLE", "SIGNED_OUT"}:
            for call in self.simulator.state()["calls"]:
                self.simulator.end_call(call["call_id"])
            await until(lambda: self.simulator.state_of(agent_id) == "IDLE", "an idle inspector")
        if self.simulator.state_of(agent_id) != "LISTENING":
            for call in self.simulator.state()["calls"]:
                self.simulator.end_call(call["call_id"])
            await self.listening(agent_id, work_no)
        before = self.puts
        good = await self.ending(self.intercept(agent_id, work_no))
        assert (good.code, good.outcome) == (grpc.StatusCode.OK, "CONFIRMED"), good
        assert self.puts == before + 1


@pytest.fixture
async def nothing_leaks():
    """After the test and the end of its site, tasks and sockets are what they were."""
    async with leaving_nothing():
        yield


@pytest.fixture
def tape():
    """What is logged, at the finest level."""
    with recorded() as made:
        yield made


@pytest.fixture
async def open_site(nothing_leaks, tape):
    """Open a site with other settings; after the test it is checked for leaks and secrets, and closed."""
    async with contextlib.AsyncExitStack() as stack:
        yield lambda *, gateway=None, **environment: _open(stack, tape, gateway or {}, environment)


async def _open(stack, tape, gateway, environment):
    simulator = await stack.enter_async_context(simulated(**gateway))
    wire = Wire()
    await wire.start(int(simulator.url.rsplit(":", 1)[1]))
    stack.push_async_callback(wire.refuse)
    adapter, channel = await opened(stack, {"QC_GATEWAY_URL": wire.url} | environment)
    site = Site(simulator=simulator, wire=wire, adapter=adapter, channel=channel, tape=tape)
    stack.push_async_callback(_judge, site)
    stack.push_async_callback(site.calms_down, kinds())
    return site


async def _judge(site):
    """No secret got out, and no defect of our own was logged."""
    told = await site.page("/metrics") + await site.page("/readyz") + "".join(site.heard)
    assert site.tape.leaks(site.secrets | site.wire.secrets, told) == []
    assert site.tape.defects == []


@pytest.fixture
async def site(open_site):
    """A site with inspector 101 signed in."""
    made = await open_site()
    assert (await made.ending(made.sign_in())).code is grpc.StatusCode.OK
    return made


@pytest.fixture(name="until")
def until_fixture():
    """The function that waits for a condition."""
    return until


@pytest.fixture
def password():
    """The password that sign-ins of this folder send."""
    return PASSWORD
