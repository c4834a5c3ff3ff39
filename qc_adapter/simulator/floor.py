"""Beside the switchboard: a call centre that runs by itself; calls come, and agents work, rest and go."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qc_adapter.simulator.agents import Agent, Posture
    from qc_adapter.simulator.calls import Switchboard
    from qc_adapter.simulator.contents import Call
    from qc_adapter.simulator.monitors import Monitors
    from qc_adapter.simulator.roster import Roster
    from qc_adapter.simulator.settings import SimulatorSettings
    from qc_adapter.simulator.timetable import Timetable

# What an agent does when he looks up: from idle he seldom rests or goes; from there he soon comes back.
_RESTS, _GOES = 0.05, 0.02
_IDLE_AGAIN, _BACK = 0.6, 0.3


class Floor:
    """Gives the staff its calls and its habits; an agent whose client is signed in has his own habits."""

    def __init__(
        self,
        settings: SimulatorSettings,
        roster: Roster,
        switchboard: Switchboard,
        monitors: Monitors,
        timetable: Timetable,
    ) -> None:
        self._settings = settings
        self._roster = roster
        self._switchboard = switchboard
        self._monitors = monitors
        self._timetable = timetable
        last = settings.first_agent + settings.agents
        self._staff = tuple(map(str, range(settings.first_agent, last)))
        #: The agents who work without a client.
        self.staff_ids = frozenset(self._staff)
        self._called = settings.call_agents or self._staff
        # Chance makes pauses and habits, nothing secret.
        self._random = random.Random(settings.random_seed)  # noqa: S311

    def begin(self) -> None:
        """Put the staff on duty, and let calls and habits begin."""
        for agent_id in self._staff:
            self._roster.agent(agent_id).on_duty = True
        if self._settings.calls_per_minute > 0 and self._called:
            self._await_call()
        if self._staff:
            self._await_look()

    def _await_call(self) -> None:
        self._timetable.after(self._random.expovariate(self._settings.calls_per_minute / 60), self._next_call)

    def _next_call(self) -> None:
        self._await_call()
        free = [agent for agent in map(self._roster.agent, self._called) if self._gets_calls(agent)]
        if not free:
            return
        call = self._switchboard.begin(self._random.choice(free).agent_id)
        seconds = self._random.uniform(*self._settings.call_seconds)
        self._timetable.after(seconds, lambda: self._hang_up(call))
        if self._random.random() < self._settings.floor_hold_chance:
            self._timetable.after(seconds * 0.3, lambda: self._hold(call, held=True))
            self._timetable.after(seconds * 0.5, lambda: self._hold(call, held=False))

    def _gets_calls(self, agent: Agent) -> bool:
        # A client that signed in has no skills before resetskill; staff without a client needs none.
        unskilled = self._settings.calls_need_skills and agent.sign_in is not None and not agent.skills
        there = agent.reachable or agent.agent_id in self._settings.call_agents
        return there and agent.exists and agent.call_id is None and agent.posture == "idle" and not unskilled

    def _hold(self, call: Call, *, held: bool) -> None:
        if self._switchboard.call(call.call_id) is call and call.held is not held:
            (self._switchboard.hold if held else self._switchboard.resume)(call)

    def _hang_up(self, call: Call) -> None:
        agent = self._roster.agent(call.agent_id)
        staff = bool(self._staff) and agent.sign_in is None
        wraps_up = staff and self._random.random() < self._settings.floor_wrap_up_chance
        if wraps_up and agent.next_posture is None:
            agent.next_posture = "work"
        self._switchboard.end(call, by_agent=staff and self._random.random() < 0.5)
        if wraps_up and agent.posture == "work":
            seconds = self._random.uniform(*self._settings.floor_wrap_up_seconds)
            self._timetable.after(seconds, lambda: self._finish(agent))

    def _finish(self, agent: Agent) -> None:
        if agent.sign_in is None and agent.call_id is None and agent.posture == "work":
            self._take(agent, "idle")

    def _await_look(self) -> None:
        pace = self._settings.floor_look_seconds / len(self._staff)
        self._timetable.after(self._random.expovariate(1 / pace), self._look_up)

    def _look_up(self) -> None:
        """Let one agent of the staff think of something else to do."""
        self._await_look()
        agent = self._roster.agent(self._random.choice(self._staff))
        chance = self._random.random()
        if agent.sign_in is not None or not agent.exists or agent.call_id is not None:
            return
        if not agent.on_duty:
            if chance < _BACK:
                agent.on_duty, agent.posture = True, "idle"
                self._monitors.signed_in(agent)
        elif agent.posture in ("rest", "busy"):
            if chance < _IDLE_AGAIN:
                self._take(agent, "idle")
        elif agent.posture == "idle" and chance < _RESTS:
            self._take(agent, "rest")
        elif agent.posture == "idle" and chance < _RESTS + _GOES:
            agent.on_duty = False
            self._monitors.left(agent)

    def _take(self, agent: Agent, posture: Posture) -> None:
        agent.posture, agent.posture_reason = posture, "0"
        self._switchboard.tell_posture(agent, later=False)
