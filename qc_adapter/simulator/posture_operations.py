"""What agents do while they are signed in: skills, busy, idle, rest, and the question for their state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from qc_adapter.simulator.replies import ACCEPTED, Reply, refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from qc_adapter.simulator.agents import Agent, Posture
    from qc_adapter.simulator.announcer import Announcer
    from qc_adapter.simulator.calls import Switchboard
    from qc_adapter.simulator.requests import GatewayRequest
    from qc_adapter.simulator.roster import Roster
    from qc_adapter.simulator.timetable import Timetable

_CANCELS: Final[dict[Posture, str]] = {"busy": "CancelNotReady", "work": "CancelWork", "rest": "CancelRest"}
_OK_WITH_RESULT: Final = Reply(message="success", result={})


class PostureOperations:
    """The operations under `onlineagent` that leave the sign-in as it is."""

    def __init__(self, roster: Roster, switchboard: Switchboard, announcer: Announcer, timetable: Timetable) -> None:
        self._roster = roster
        self._switchboard = switchboard
        self._tell = announcer
        self._timetable = timetable

    def table(self) -> dict[str, Callable[[GatewayRequest], Reply]]:
        """Return the operations by their names."""
        return {
            "resetSkill": self._reset_skill,
            "getAgentStatus": self._status,
            "sayBusy": self._say_busy,
            "sayFree": self._say_free,
            "rest": self._rest,
        }

    def _agent(self, request: GatewayRequest) -> Agent:
        return self._roster.agent(request.agent_id)

    def _reset_skill(self, request: GatewayRequest) -> Reply:
        listed = [part for part in request.query.get("skillid", "").split(";") if part]
        if not all(part.isdecimal() for part in listed):
            return refused("000-002")
        # Without a list the agent gets all skills of the account; one stands for them.
        self._agent(request).skills = tuple(map(int, listed)) or (1,)
        return ACCEPTED

    def _status(self, request: GatewayRequest) -> Reply:
        return Reply(message="success", result={"agentState": self._agent(request).gateway_state})

    def _say_busy(self, request: GatewayRequest) -> Reply:
        agent = self._agent(request)
        agent.posture_reason = "1"
        if agent.call_id is not None:
            agent.next_posture = "busy"
        else:
            agent.posture = "busy"
            self._switchboard.tell_busy(agent, later=True)
        return _OK_WITH_RESULT

    def _say_free(self, request: GatewayRequest) -> Reply:
        agent = self._agent(request)
        former, agent.posture, agent.next_posture = agent.posture, "idle", None
        if former == "idle" and agent.call_id is None:
            return refused("100-009")
        if former in _CANCELS:
            self._tell.later(agent.agent_id, f"AgentState_{_CANCELS[former]}_Success")
        return _OK_WITH_RESULT

    def _rest(self, request: GatewayRequest) -> Reply:
        values = request.values
        if not within(values["time"], 1, 86399) or not within(values["reason"], 0, 255):
            return refused("000-002")
        rest(self._agent(request), values, self._switchboard, self._tell, self._timetable)
        return _OK_WITH_RESULT


def rest(agent: Agent, values: dict[str, str], switchboard: Switchboard, tell: Announcer, timetable: Timetable) -> None:
    """Send an agent to rest, after the call if there is one; a reminder comes when the time is over."""
    agent.posture_reason = values["reason"]
    agent.next_posture = "rest"
    if agent.call_id is None:
        switchboard.settle(agent, later=True)

    def remind() -> None:
        if agent.posture == "rest":
            tell.now(agent.agent_id, "AgentState_Rest_Timeout")

    timetable.after(float(values["time"]), remind)


def within(text: str, least: int, most: int) -> bool:
    """Tell whether a text is a number in the range."""
    return text.isdecimal() and least <= int(text) <= most
