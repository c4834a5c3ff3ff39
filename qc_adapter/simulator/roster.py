"""Who there is: agents, their sign-ins, and what a presented GUID is worth."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from qc_adapter.simulator.guids import GuidAge, GuidRing, Mint, Rotation
from qc_adapter.simulator.mailbox import Closed, Letter, Mailbox
from qc_adapter.simulator.record import Record, SignOutRecord

if TYPE_CHECKING:
    from collections.abc import Callable

    from qc_adapter.simulator.settings import SimulatorSettings

Posture = Literal["idle", "busy", "work", "rest"]
SignOutReason = Literal["own", "forced_own", "by_inspector", "taken_over", "silence", "control"]
_KICKED = frozenset({"by_inspector", "control"})


@dataclass(slots=True)
class SignIn:
    """One signed-in client of an agent."""

    ring: GuidRing
    mailbox: Mailbox
    login_ms: int
    last_seen: float
    auto_enter_idle: bool = True
    listen_status: bool = False
    push: bool = False


@dataclass(slots=True)
class Agent:
    """Everything the gateway knows of one agent id."""

    agent_id: str
    exists: bool = True
    inspector: bool = True
    password: str | None = None
    on_duty: bool = False
    phone_connected: bool = False
    phone_answered: bool = True
    posture: Posture = "idle"
    # A posture asked for during a call: it is taken when the call ends.
    next_posture: Posture | None = None
    posture_reason: str = "0"
    skills: tuple[int, ...] = ()
    call_id: str | None = None
    sign_in: SignIn | None = field(default=None, repr=False)

    @property
    def reachable(self) -> bool:
        """Whether the call floor has data on this agent."""
        return self.exists and (self.sign_in is not None or self.on_duty)


class Roster:
    """All agents; every id in range exists unless it was told otherwise."""

    def __init__(
        self, settings: SimulatorSettings, record: Record, now: Callable[[], float], wall: Callable[[], float]
    ) -> None:
        self._settings = settings
        self._record = record
        self._now = now
        self._wall = wall
        self._mint = Mint(settings.node_number, settings.random_seed)
        self._rotation = Rotation(
            settings.auth_mode == "dynamic",
            settings.guid_interval_seconds,
            settings.guid_timeout_seconds,
            settings.guid_grace_seconds,
        )
        self._agents: dict[str, Agent] = {}
        # Ordered by the last request, so that the sweep looks at the silent ones only.
        self._signed_in: OrderedDict[str, SignIn] = OrderedDict()
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

    def open(self, agent: Agent) -> SignIn:
        """Begin a sign-in; the one before it has been taken over."""
        former = agent.sign_in
        ring = GuidRing(self._mint.guid, self._rotation, self._now(), former.ring if former else None)
        if former is not None:
            self.close(agent, "taken_over")
        mailbox = Mailbox(self._settings.queue_limit, self._settings.concurrent_poll_winner)
        agent.sign_in = SignIn(ring, mailbox, self.wall_ms(), self._now())
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
        if reason in _KICKED and self._settings.shutdown_event_to_held_poll and mailbox.held_polls():
            content = {"loginTime": str(sign_in.login_ms)}
            event = {"eventType": "AgentOther_ShutdownService", "workNo": agent.agent_id, "content": content}
            self._record.queued[agent.agent_id] += 1
            mailbox.put(Letter(event))
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

    def clear(self) -> None:
        """Forget everyone; held polls end without an event."""
        for agent in self._agents.values():
            if agent.sign_in is not None:
                agent.sign_in.mailbox.release()
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
        # A poll that is held is no silence.
        if not sign_in.mailbox.held_polls():
            self.close(agent, "silence")
