"""A whole site on real sockets: a gateway, a wire that can break, the adapter, and a client of it."""

from __future__ import annotations

from dataclasses import dataclass

import grpc

from tests.support.callers import Caller
from tests.support.opening import opened
from tests.support.watching import Tape, kinds, until
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


async def site_before(stack, gateway, tape, environment, *, kind=Site, scheme="http"):
    """Open a site before a gateway that runs; the stack checks it for leaks and secrets, and closes it."""
    wire = Wire()
    await wire.start(int(gateway.url.rsplit(":", 1)[1]))
    stack.push_async_callback(wire.refuse)
    url = wire.url.replace("http", scheme, 1)
    adapter, channel = await opened(stack, {"QC_GATEWAY_URL": url} | environment)
    site = kind(simulator=gateway, wire=wire, adapter=adapter, channel=channel, tape=tape)
    stack.push_async_callback(_judge, site)
    stack.push_async_callback(site.calms_down, kinds())
    return site


async def _judge(site):
    """No secret got out, and no defect of our own was logged."""
    told = await site.page("/metrics") + await site.page("/readyz") + "".join(site.heard)
    assert site.tape.leaks(site.secrets | site.wire.secrets, told) == []
    assert site.tape.defects == []
