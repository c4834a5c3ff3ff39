"""What inspectors ask to be told, and what they may ask for: monitoring, the list of agents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from qc_adapter.simulator.replies import ACCEPTED, Reply, refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from qc_adapter.simulator.monitors import Monitors
    from qc_adapter.simulator.requests import GatewayRequest
    from qc_adapter.simulator.roster import Roster
    from qc_adapter.simulator.settings import SimulatorSettings

AGENTS_IN_ONE_REQUEST: Final = 500


class MonitorOperations:
    """The operations under `qualitycontrol` that touch no call."""

    def __init__(self, settings: SimulatorSettings, roster: Roster, monitors: Monitors) -> None:
        self._no_right = settings.mistake_codes.no_right
        self._roster = roster
        self._monitors = monitors

    def table(self) -> dict[str, Callable[[GatewayRequest], Reply]]:
        """Return the operations by their names."""
        return {
            "beginMonitor": lambda request: self._monitor(request, self._monitors.begin),
            "endMonitor": lambda request: self._monitor(request, self._monitors.end),
            "allAgent": self._all_agent,
        }

    def _monitor(self, request: GatewayRequest, act: Callable[[str, list[str]], None]) -> Reply:
        if not self._roster.agent(request.agent_id).inspector:
            return refused(self._no_right)
        agents = [part for part in request.query.get("agents", "").split(";") if part]
        readable = all(part.isascii() and part.isdecimal() for part in agents)
        if not agents or not readable or len(agents) > AGENTS_IN_ONE_REQUEST:
            return refused("000-002")
        if request.agent_id in agents:
            return refused("000-005")
        act(request.agent_id, agents)
        return ACCEPTED

    def _all_agent(self, request: GatewayRequest) -> Reply:
        if not self._roster.agent(request.agent_id).inspector:
            return refused(self._no_right)
        agents: list[dict[str, Any]] = [
            {"workno": agent.agent_id, "name": agent.agent_id, "status": agent.gateway_state}
            for agent in self._roster.agents()
            if agent.reachable and agent.agent_id != request.agent_id
        ]
        return Reply(result=agents)
