"""Who there is: all agents, who of them is signed in, and what a presented GUID is worth."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, Literal

from qc_adapter.simulator.agents import Agent, SignIn, SignOutReason
from qc_adapter.simulator.guids import GuidAge, GuidRing, Rotation
from qc_adapter.simulator.mailbox import Closed, Letter, Mailbox
from qc_adapter.simulator.record import Record, SignOutRecord

if TYPE_CHECKING:
    from collections.abc import Callable

    from qc_adapter.simulator.nodes import Nodes
    from qc_adapter.simulator.settings import SimulatorSettings

#: What everyone hears whose node is being changed.
MOVING: Final = "000-004"
_KICKED = frozenset({"by_inspector", "control"})


class Roster:
    """All agents; every id in range exists unless it was told otherwise."""

    def __init__(
        self,
        settings: SimulatorSettings,
        record: Record,
        nodes: Nodes,
        now: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._record = record
        self._now = now
        self._wall = wall
        self._nodes = nodes
        self._rotation = Rotation(
            settings.auth_mode == "dynamic",
            settings.guid_interval_seconds,
            settings.guid_timeout_seconds,
            settings.guid_grace_seconds,
        )
        self._agents: dict[str, Agent] = {}
        # Ordered by the last request, so that the sweep looks at the silent ones only.
        self._signed_in: OrderedDict[str, SignIn] = OrderedDict()
        #: Set when anyone gets an event, for a poll of all agents.
        self.letters = asyncio.Event()
        self.after_sign_out: list[Callable[[Agent], None]] = []

    def agent(self, agent_id: str) -> Agent:
        """Return the agent; an id that was never seen becomes known."""
        agent = self._agents.get(agent_id)
        if agent is None:
            agent = Agent(
                agent_id,
                exists=agent_id.isdecimal() and 101 <= int(agent_id) <= self._settings.agent_id_max,
                phone_connected=self._settings.phone_connected,
                phone_answered=self._settings.phone_answered,
            )
            self._agents[agent_id] = agent
        return agent

    def wall_ms(self) -> int:
        """Return the time of day in milliseconds since the epoch."""
        return int(self._wall() * 1000)

    def agents(self) -> tuple[Agent, ...]:
        """Return all agents that were ever named."""
        return tuple(self._agents.values())

    def signed_in(self) -> tuple[str, ...]:
        """Return the ids of all signed-in agents."""
        return tuple(self._signed_in)

    def signed_in_count(self) -> int:
        """Return how many agents are signed in."""
        return len(self._signed_in)

    def owner(self, guid: str | None) -> str:
        """Return whose GUID this is, or ""; without authentication anyone who is signed in will do."""
        if self._settings.auth_mode == "off":
            return next(iter(self._signed_in), "")
        owners = (agent_id for agent_id, one in self._signed_in.items() if guid in one.ring.known())
        return next(owners, "")

    def unknown_guid_code(self) -> str:
        """Return what a GUID gets that nobody has."""
        return self._settings.wrong_guid_code if self._signed_in else "100-006"

    def on_node(self, number: int) -> tuple[Agent, ...]:
        """Return the agents whose sign-in lives on a node."""
        return tuple(self._agents[agent_id] for agent_id, one in self._signed_in.items() if one.node == number)

    def open(self, agent: Agent) -> SignIn:
        """Begin a sign-in; the one before it has been taken over."""
        former = agent.sign_in
        node = self._nodes.place(agent.agent_id)
        ring = GuidRing(self._nodes.mint(node), self._rotation, self._now(), former.ring if former else None)
        if former is not None:
            self.close(agent, "taken_over")
        mailbox = Mailbox(self._settings.queue_limit, self._settings.concurrent_poll_winner)
        mailbox.on_letter = self.letters.set
        agent.sign_in = SignIn(ring, mailbox, self.wall_ms(), self._now(), node)
        self._signed_in[agent.agent_id] = agent.sign_in
        self._signed_in.move_to_end(agent.agent_id)
        return agent.sign_in

    def close(self, agent: Agent, reason: SignOutReason) -> bool:
        """End a sign-in; a poll that is held at that moment learns of it."""
        sign_in = agent.sign_in
        if sign_in is None:
            return False
        agent.sign_in = None
        self._signed_in.pop(agent.agent_id, None)
        self._record.sign_outs.append(SignOutRecord(self._now(), agent.agent_id, reason))
        mailbox = sign_in.mailbox
        reads = sign_in.push is not None or mailbox.held_polls()
        if reason in _KICKED and self._settings.shutdown_event_to_held_poll and reads:
            content = {"loginTime": str(sign_in.login_ms)}
            event = {"eventType": "AgentOther_ShutdownService", "workNo": agent.agent_id, "content": content}
            self._record.queued[agent.agent_id] += 1
            mailbox.put(Letter(event))
        if sign_in.push is not None:
            sign_in.push.close(last_words=reason in _KICKED)
        mailbox.release(Closed(self._settings.takeover_code if reason == "taken_over" else "100-006"))
        if reason != "taken_over":
            agent.posture, agent.next_posture, agent.skills = "idle", None, ()
            for told in self.after_sign_out:
                told(agent)
        return True

    def check(self, agent: Agent, guid: str | None) -> tuple[str, GuidAge | Literal["unchecked"]]:
        """Judge a request of an agent: the retcode ("0" is good) and what its GUID was worth."""
        self._expire(agent)
        sign_in = agent.sign_in
        if sign_in is None:
            return "100-006", "unchecked"
        if sign_in.moving:
            return MOVING, "unchecked"
        if self._settings.auth_mode == "off":
            return "0", "unchecked"
        age = sign_in.ring.age_of(guid, self._now())
        if age in ("current", "previous"):
            return "0", age
        return (self._settings.takeover_code if age == "taken_over" else self._settings.wrong_guid_code), age

    def seen(self, agent: Agent) -> None:
        """Note that the agent's client is alive."""
        if agent.sign_in is not None:
            agent.sign_in.last_seen = self._now()
            self._signed_in.move_to_end(agent.agent_id)

    def lose_all(self) -> None:
        """End all sign-ins and tell nobody; who talks goes on talking."""
        observers, self.after_sign_out = self.after_sign_out, []
        try:
            for agent in map(self.agent, self.signed_in()):
                agent.on_duty = agent.on_duty or agent.call_id is not None
                self.close(agent, "restart")
        finally:
            self.after_sign_out = observers

    def clear(self) -> None:
        """Forget everyone; held polls end without an event."""
        for agent in self._agents.values():
            if agent.sign_in is not None:
                agent.sign_in.mailbox.release()
                if agent.sign_in.push is not None:
                    agent.sign_in.push.close(last_words=False)
        self._agents.clear()
        self._signed_in.clear()

    def release_polls(self) -> None:
        """Answer all held polls now."""
        for sign_in in self._signed_in.values():
            sign_in.mailbox.release()

    def sweep(self) -> None:
        """Sign out the agents that were silent for too long."""
        for agent_id in tuple(self._signed_in):
            if self._now() - self._signed_in[agent_id].last_seen <= self._settings.max_silence_seconds:
                break
            self._expire(self._agents[agent_id])

    def _expire(self, agent: Agent) -> None:
        sign_in = agent.sign_in
        if sign_in is None or self._now() - sign_in.last_seen <= self._settings.max_silence_seconds:
            return
        # A poll that is held is no silence, and nobody can speak while his node changes.
        if not sign_in.mailbox.held_polls() and not sign_in.moving:
            self.close(agent, "silence")
