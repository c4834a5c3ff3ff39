"""Between the wire and the mailboxes: a poll takes an event, or is held until there is one."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from qc_adapter.simulator.mailbox import Closed, Letter
from qc_adapter.simulator.replies import Delivery, Reply, refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from qc_adapter.simulator.agents import Agent
    from qc_adapter.simulator.gateway import Gateway
    from qc_adapter.simulator.requests import GatewayRequest

ALL_EVENTS_LIMIT: Final = 100


class Polls:
    """Answers polls of one agent, or of all agents at a site that is set so."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._settings = gateway.settings
        self._record = gateway.record
        self._stopping = False

    def stop(self) -> None:
        """Answer all held polls now."""
        self._stopping = True
        self._gateway.roster.letters.set()
        self._gateway.roster.release_polls()

    async def answer(self, request: GatewayRequest, connected: Callable[[], bool]) -> Reply:
        """Answer a poll; one that asks in the way the site is not set to gets the wrong method."""
        for_all = request.operation == "getAllAgentEvent"
        if for_all is not (self._settings.event_method == "all"):
            return refused("000-001")
        return await self._all(connected) if for_all else await self._one(request, connected)

    async def _one(self, request: GatewayRequest, connected: Callable[[], bool]) -> Reply:
        agent = self._gateway.roster.agent(request.agent_id)
        sign_in = agent.sign_in
        if sign_in is None:
            return refused("100-006")
        if sign_in.push is not None:
            return refused("000-001")
        mailbox = sign_in.mailbox
        letter = mailbox.take()
        if letter is None:
            if mailbox.held_polls():
                self._record.overlaps[agent.agent_id] += 1
            outcome = await mailbox.hold(self._settings.poll_hold_seconds, connected)
            if isinstance(outcome, Closed):
                return refused(outcome.retcode)
            letter = outcome
            if agent.sign_in is sign_in and connected():
                self._gateway.roster.seen(agent)
        if letter is None:
            return Reply(event=None)
        return Reply(event=letter.event, raw=letter.raw, deliveries=(Delivery(agent.agent_id, letter),))

    async def _all(self, connected: Callable[[], bool]) -> Reply:
        """Take the events of all agents as an array; whoever polls for all keeps all of them signed in."""
        roster = self._gateway.roster
        for agent in self._polled():
            roster.seen(agent)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.poll_hold_seconds):
                while not (waiting := [agent for agent in self._polled() if self._has_letters(agent)]):
                    if self._stopping:
                        break
                    roster.letters.clear()
                    await roster.letters.wait()
        for agent in self._polled():
            roster.seen(agent)
        taken: list[Delivery] = []
        for agent in waiting:
            taken += self._take(agent, ALL_EVENTS_LIMIT - len(taken))
        if not taken:
            return Reply(event=None)
        if not connected():
            return Reply(event=[], deliveries=tuple(taken))
        return Reply(event=[one.letter.event for one in taken], deliveries=tuple(taken))

    def _polled(self) -> list[Agent]:
        agents = map(self._gateway.roster.agent, sorted(self._gateway.roster.signed_in(), key=int))
        return [agent for agent in agents if agent.sign_in is not None and agent.sign_in.push is None]

    def _has_letters(self, agent: Agent) -> bool:
        return agent.sign_in is not None and len(agent.sign_in.mailbox) > 0

    def _take(self, agent: Agent, limit: int) -> list[Delivery]:
        taken: list[Delivery] = []
        letter: Letter | None
        while agent.sign_in is not None and len(taken) < limit:
            letter = agent.sign_in.mailbox.take()
            if letter is None:
                break
            taken.append(Delivery(agent.agent_id, letter))
        return taken

    def settle(self, reply: Reply, *, carried: bool) -> None:
        """Count the events of a reply as delivered or lost; a lost one may go back, if the site is set so."""
        for one in reversed(reply.deliveries):
            sign_in = self._gateway.roster.agent(one.agent_id).sign_in
            if carried:
                self._record.delivered[one.agent_id] += 1
            elif self._settings.cut_poll_takes_event or sign_in is None:
                self._record.lost_on_wire[one.agent_id] += 1
            else:
                sign_in.mailbox.put_back(one.letter)
