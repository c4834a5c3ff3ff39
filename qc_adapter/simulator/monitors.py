"""Beside the call floor: who watches whom, and what watchers are told of an agent's state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from qc_adapter.simulator import contents

if TYPE_CHECKING:
    from qc_adapter.simulator.agents import Agent, Posture
    from qc_adapter.simulator.announcer import Announcer
    from qc_adapter.simulator.roster import Roster
    from qc_adapter.simulator.settings import SimulatorSettings

Subtype = Literal[
    "Login", "Logout", "Idle", "Busy", "Work", "Rest", "Talking", "SuperviseInsert", "StopSuperviseInsert"
]
_OF_POSTURE: Final[dict[Posture, Subtype]] = {"idle": "Idle", "busy": "Busy", "work": "Work", "rest": "Rest"}


class Monitors:
    """Sends QC_AgentState_Notify; monitoring ends with the sign-in of the inspector who began it."""

    def __init__(self, settings: SimulatorSettings, roster: Roster, announcer: Announcer) -> None:
        self._settings = settings
        self._roster = roster
        self._tell = announcer
        # Insertion order is the order of the news.
        self._watchers: dict[str, dict[str, None]] = {}
        self._watched: dict[str, dict[str, None]] = {}
        # Inspectors who asked at their sign-in to hear of all sign-ins and sign-outs.
        self._listeners: dict[str, None] = {}
        self._told: dict[str, Subtype] = {}
        announcer.after_event.append(self.look)
        roster.after_sign_out.append(self._left)

    def begin(self, monitor_id: str, agents: list[str]) -> None:
        """Watch agents; watching one twice changes nothing."""
        for agent_id in agents:
            self._watchers.setdefault(agent_id, {})[monitor_id] = None
            self._watched.setdefault(monitor_id, {})[agent_id] = None
            self._told.setdefault(agent_id, self._state(self._roster.agent(agent_id)))

    def end(self, monitor_id: str, agents: list[str]) -> None:
        """Watch agents no longer; one who was never watched does no harm."""
        for agent_id in agents:
            watchers = self._watchers.get(agent_id, {})
            watchers.pop(monitor_id, None)
            if not watchers:
                self._watchers.pop(agent_id, None)
                self._told.pop(agent_id, None)
            self._watched.get(monitor_id, {}).pop(agent_id, None)
        if not self._watched.get(monitor_id):
            self._watched.pop(monitor_id, None)

    def monitors_of(self, agent_id: str) -> tuple[str, ...]:
        """Return the inspectors who watch an agent."""
        return tuple(self._watchers.get(agent_id, ()))

    def watched_by(self, monitor_id: str) -> tuple[str, ...]:
        """Return the agents whom an inspector watches."""
        return tuple(self._watched.get(monitor_id, ()))

    def count(self) -> int:
        """Return how many inspectors watch someone."""
        return len(self._watched)

    def clear(self) -> None:
        """Forget all monitoring without telling anyone."""
        for known in (self._watchers, self._watched, self._listeners, self._told):
            known.clear()

    def signed_in(self, agent: Agent, *, listens: bool = False) -> None:
        """Tell of a sign-in; the agent may want to hear of those of others."""
        self._forget(agent.agent_id)
        if listens:
            self._listeners[agent.agent_id] = None
        self._notify(agent.agent_id, "Login", [*self.monitors_of(agent.agent_id), *self._listeners])
        if agent.agent_id in self._watchers:
            self._told[agent.agent_id] = "Login"
            self.look(agent.agent_id)

    def left(self, agent: Agent) -> None:
        """Tell of a sign-out."""
        self._notify(agent.agent_id, "Logout", [*self.monitors_of(agent.agent_id), *self._listeners])
        if agent.agent_id in self._watchers:
            self._told[agent.agent_id] = "Logout"

    def look(self, agent_id: str) -> None:
        """Tell an agent's state if it is not the one that was told last."""
        if agent_id not in self._watchers:
            return
        state = self._state(self._roster.agent(agent_id))
        if state not in ("Logout", self._told.get(agent_id)):
            self._told[agent_id] = state
            self._notify(agent_id, state, list(self.monitors_of(agent_id)))

    def inspected(self, agent_id: str, inspector_id: str, *, begins: bool) -> None:
        """Tell that a third party listens, inserts or whispers, or no longer does."""
        monitors = list(self.monitors_of(agent_id))
        if not self._settings.acting_inspector_is_told:
            monitors = [one for one in monitors if one != inspector_id]
        self._notify(agent_id, "SuperviseInsert" if begins else "StopSuperviseInsert", monitors)

    def _left(self, agent: Agent) -> None:
        self._forget(agent.agent_id)
        self.left(agent)

    def _forget(self, monitor_id: str) -> None:
        """Drop what a sign-in that is over had asked for."""
        self._listeners.pop(monitor_id, None)
        self.end(monitor_id, list(self.watched_by(monitor_id)))

    def _state(self, agent: Agent) -> Subtype:
        if not agent.reachable:
            return "Logout"
        return "Talking" if agent.call_id is not None else _OF_POSTURE[agent.posture]

    def _notify(self, agent_id: str, subtype: Subtype, monitors: list[str]) -> None:
        as_number = self._settings.monitored_agent_as_number
        notice = contents.agent_notice(int(agent_id) if as_number else agent_id, f"QC_AgentState_{subtype}")
        for monitor_id in dict.fromkeys(monitors):
            if monitor_id != agent_id:
                self._tell.now(monitor_id, "QC_AgentState_Notify", notice)
