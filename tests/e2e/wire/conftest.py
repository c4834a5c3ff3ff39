"""Whole adapters before a gateway of scripted bytes: what stands on the wire is what the row of the list says."""

from __future__ import annotations

import asyncio
import contextlib
import re
from dataclasses import dataclass, replace

import aiohttp
import orjson
import pytest
from grpc import StatusCode

from bench.ports import free_port
from qc_adapter.v1 import quality_control_pb2 as qc
from qc_adapter.v1 import sessions_pb2
from tests.support.agent_gateway import AgentGateway
from tests.support.opening import PUSH_TOKEN, opened, pushing
from tests.support.sites import Site, site_before
from tests.support.watches import read
from tests.support.watching import PATIENCE_SECONDS, until


@dataclass(kw_only=True)
class WireSite(Site):
    """An adapter before a scripted gateway, at which inspector 291 works."""

    @property
    def gateway(self):
        """The scripted gateway."""
        return self.simulator

    async def signed_in(self, agent_id="291", **more):
        """Sign an inspector in and wait for its first poll."""
        ended = await self.ending(self.sign_in(agent_id, **more))
        assert ended.code is StatusCode.OK, ended
        await until(lambda: self.gateway.polls(agent_id), "a first poll")

    async def watching(self, agent_id="291", **more):
        """Begin a watch and read that it stands."""
        stream = self.watch(agent_id, **more)
        assert (await read(stream, 1))[0].HasField("subscribed")
        return stream

    async def session(self, agent_id="291"):
        """What the adapter tells of a session."""
        return (await self.ending(self.get(agent_id))).updates[0].session

    async def in_state(self, state, agent_id="291"):
        """Wait until a session is in that state; returns it."""
        wanted = sessions_pb2.SessionState.Value(f"SESSION_STATE_{state}")
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (session := await self.session(agent_id)).state != wanted:  # noqa: ASYNC110 - asked by a call
                await asyncio.sleep(0.005)
        return session

    def command(self, rpc="Intercept", agent_id="291", work_no="292", *, confirm_within=0.05, **more):
        """Begin a command on agent 292."""
        request = getattr(qc, f"{rpc}Request")(agent_id=agent_id, work_no=work_no, **more)
        request.options.confirm_within.FromMilliseconds(int(confirm_within * 1000))
        return getattr(self.commands, rpc)(request, timeout=20)

    async def push(self, body):
        """Push as the gateway does, to the callback that the last sign-in named; returns what it answers."""
        [*_, sign_in] = self.gateway.requests("login")
        named = orjson.loads(sign_in.body)
        headers = {"Content-Type": "application/json; charset=UTF-8", "service_token": named["serviceToken"]}
        async with (
            aiohttp.ClientSession() as client,
            client.post(named["callBackUri"], data=body, headers=headers) as answer,
        ):
            return answer.status, await answer.json()

    async def gateway_goes(self):
        """Let the gateway refuse connections, until the session is degraded and no poll is held there any more."""
        await self.wire.refuse()
        await self.in_state("DEGRADED")
        await until(lambda: not self.gateway.held.total(), "the end of held polls")

    async def more_polls(self, count=1, agent_id="291"):
        """Wait until the gateway has heard that many polls more."""
        wanted = len(self.gateway.polls(agent_id)) + count
        await until(lambda: len(self.gateway.polls(agent_id)) >= wanted, "more polls")

    def logged(self, name):
        """The log lines with that name."""
        return [line for line in self.tape.lines if line["event"] == name]

    async def sample(self, name, **labels):
        """The value of a metric with these labels, whatever others it has; 0 when there is none."""
        wanted = {f'{label}="{value}"' for label, value in labels.items()}
        lines = [line.rsplit(" ", 1) for line in (await self.page("/metrics")).splitlines() if line.startswith(name)]
        return sum(float(value) for found, value in lines if wanted <= set(re.findall(r'\w+="[^"]*"', found)))


@pytest.fixture
async def open_wire(nothing_leaks, tape):
    """Open a site with inspector 291 signed in, unless told otherwise; checked and closed after the test."""
    async with contextlib.AsyncExitStack() as stack:

        async def opening(*, tls=None, signed_in=True, hold_seconds=0.05, **environment):
            gateway = AgentGateway(tls=tls, hold_seconds=hold_seconds)
            await gateway.start()
            stack.push_async_callback(gateway.stop)
            scheme = "https" if tls else "http"
            site = await site_before(stack, gateway, tape, environment, kind=WireSite, scheme=scheme)
            if signed_in:
                await site.signed_in()
            return site

        yield opening


@pytest.fixture
def open_pushed(open_wire):
    """Open a site whose gateway pushes the events of sign-ins."""

    async def opening(**environment):
        site = await open_wire(signed_in=False, **pushing(free_port()) | environment)
        site.secrets.add(PUSH_TOKEN)
        return site

    return opening


@pytest.fixture
async def site(open_wire):
    """A site with inspector 291 signed in."""
    return await open_wire()


@pytest.fixture
async def open_beside(nothing_leaks):
    """Open another replica before the gateway of a site."""
    async with contextlib.AsyncExitStack() as stack:

        async def opening(site, **environment):
            adapter, channel = await opened(stack, {"QC_GATEWAY_URL": site.wire.url} | environment)
            return replace(site, adapter=adapter, channel=channel)

        yield opening
