"""What agents do for themselves: sign in and out, heartbeat, skills, postures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from qc_adapter.simulator import contents
from qc_adapter.simulator.replies import ACCEPTED, DONE, Reply, refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from qc_adapter.simulator.announcer import Announcer
    from qc_adapter.simulator.calls import Switchboard
    from qc_adapter.simulator.requests import GatewayRequest
    from qc_adapter.simulator.roster import Agent, Posture, Roster, SignIn, SignOutReason
    from qc_adapter.simulator.settings import SimulatorSettings
    from qc_adapter.simulator.timetable import Timetable

_STATUSES: Final[dict[str, Posture]] = {"3": "busy", "4": "idle", "5": "work"}
_GATEWAY_STATES: Final[dict[Posture, int]] = {"busy": 3, "idle": 4, "work": 5, "rest": 8}
_OK_WITH_RESULT = Reply(message="success", result={})


class SignInOperations:
    """The operations under `onlineagent`, and the question for the inspection right."""

    def __init__(
        self,
        settings: SimulatorSettings,
        roster: Roster,
        switchboard: Switchboard,
        announcer: Announcer,
        timetable: Timetable,
    ) -> None:
        self._settings = settings
        self._roster = roster
        self._switchboard = switchboard
        self._tell = announcer
        self._timetable = timetable
        # Inspectors who asked to hear of sign-ins and sign-outs.
        self._listeners: set[str] = set()
        roster.after_sign_out.append(self._agent_left)

    def table(self) -> dict[str, Callable[[GatewayRequest], Reply]]:
        """Return the operations by their names."""
        return {
            "login": self._login,
            "loginEx": self._login,
            "forceLogin": self._force_login,
            "logout": lambda request: self._logout(request, "own", _OK_WITH_RESULT),
            "forceLogout": lambda request: self._logout(request, "forced_own", DONE),
            "forceLogoutWithReason": self._force_logout_with_reason,
            "handShake": lambda _: DONE,
            "heartbeat": lambda _: DONE,
            "updateGuid": self._update_guid,
            "resetSkill": self._reset_skill,
            "getAgentStatus": self._status,
            "sayBusy": self._say_busy,
            "sayFree": self._say_free,
            "rest": self._rest,
            "isCensor": self._is_censor,
        }

    def clear(self) -> None:
        """Forget who listens."""
        self._listeners.clear()

    def _agent(self, request: GatewayRequest) -> Agent:
        return self._roster.agent(request.agent_id)

    def _login(self, request: GatewayRequest) -> Reply:
        agent = self._agent(request)
        if agent.sign_in is not None:
            return refused("100-002")
        return self._sign_in(agent, request)

    def _force_login(self, request: GatewayRequest) -> Reply:
        agent = self._agent(request)
        if agent.sign_in is not None and self._settings.forbid_takeover:
            return refused("100-015")
        return self._sign_in(agent, request)

    def _sign_in(self, agent: Agent, request: GatewayRequest) -> Reply:
        fields = request.fields()
        code = "100-001" if not fields else self._wrong_with(agent, fields)
        if code is not None or fields is None:
            return refused(code or "100-001")
        posture = _STATUSES[_text(fields.get("status"), "4")]
        sign_in = self._roster.open(agent)
        sign_in.auto_enter_idle = _flag(fields.get("autoenteridle"), default=True)
        sign_in.listen_status = _flag(fields.get("listenStatus"), default=False)
        sign_in.push = bool(fields.get("callBackUri") and fields.get("serviceToken"))
        self.announce_sign_in(agent, posture)
        return Reply(message="success", result=self._result(agent, sign_in), guid=sign_in.ring.current, cookies=True)

    def _wrong_with(self, agent: Agent, fields: dict[str, Any]) -> str | None:
        password = fields.get("password")
        if not agent.exists or (agent.password is not None and _text(password, "") != agent.password):
            return "100-004"
        if len(_text(password, "")) > 32 or _text(fields.get("status"), "4") not in _STATUSES:
            return "100-011"
        if self._settings.phone_number_required and not fields.get("phonenum"):
            return "100-001"
        return None

    def _result(self, agent: Agent, sign_in: SignIn) -> dict[str, Any]:
        return {
            "vdnid": 1,
            "workno": agent.agent_id,
            "mediatype": "TTF",
            "loginTime": str(sign_in.login_ms),
            "isForceChange": "false",
            "serverName": "AgentGateway",
            "timeRemaining": "",
        }

    def announce_sign_in(self, agent: Agent, posture: Posture = "idle") -> None:
        """Queue the first events: they are there before the reply is written."""
        told = agent.agent_id
        agent.posture, agent.posture_reason = posture, "0"
        self._tell.now(told, "AgentOther_InService")
        self._tell.now(told, "AgentState_Ready")
        if posture == "busy":
            self._switchboard.tell_busy(agent, later=False)
        elif posture == "work":
            self._tell.now(told, "AgentState_Work")
        self._listeners.discard(told)
        if agent.sign_in is not None and agent.sign_in.listen_status:
            self._listeners.add(told)
        self._notify(told, "QC_AgentState_Login")

    def _notify(self, agent_id: str, subtype: str) -> None:
        for listener in self._listeners - {agent_id}:
            self._tell.now(listener, "QC_AgentState_Notify", contents.agent_notice(agent_id, subtype))

    def _agent_left(self, agent: Agent) -> None:
        self._listeners.discard(agent.agent_id)
        self._notify(agent.agent_id, "QC_AgentState_Logout")

    def _logout(self, request: GatewayRequest, reason: SignOutReason, reply: Reply) -> Reply:
        agent = self._agent(request)
        if reason == "own" and agent.call_id is not None:
            # The plain sign-out does nothing during a call.
            return refused("100-009")
        self._roster.close(agent, reason)
        return reply

    def _force_logout_with_reason(self, request: GatewayRequest) -> Reply:
        if not _within(request.values["reason"], 1, 255):
            return refused("100-005")
        return self._logout(request, "forced_own", DONE)

    def _update_guid(self, request: GatewayRequest) -> Reply:
        sign_in = self._agent(request).sign_in
        if sign_in is None:
            return refused("100-006")
        return Reply(message="success", result={"guid": sign_in.ring.rotate(self._timetable.now())})

    def _reset_skill(self, request: GatewayRequest) -> Reply:
        listed = [part for part in request.query.get("skillid", "").split(";") if part]
        if not all(part.isdecimal() for part in listed):
            return refused("000-002")
        # Without a list the agent gets all skills of the account; one stands for them.
        self._agent(request).skills = tuple(map(int, listed)) or (1,)
        return ACCEPTED

    def _status(self, request: GatewayRequest) -> Reply:
        agent = self._agent(request)
        state = 7 if agent.call_id is not None else _GATEWAY_STATES[agent.posture]
        return Reply(message="success", result={"agentState": state})

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
        names = {"busy": "CancelNotReady", "work": "CancelWork", "rest": "CancelRest"}
        if former == "idle" and agent.call_id is None:
            return refused("100-009")
        if former in names:
            self._tell.later(agent.agent_id, f"AgentState_{names[former]}_Success")
        return _OK_WITH_RESULT

    def _rest(self, request: GatewayRequest) -> Reply:
        values = request.values
        if not _within(values["time"], 1, 86399) or not _within(values["reason"], 0, 255):
            return refused("000-002")
        rest(self._agent(request), values, self._switchboard, self._tell, self._timetable)
        return _OK_WITH_RESULT

    def _is_censor(self, request: GatewayRequest) -> Reply:
        return Reply(message="success", result=self._agent(request).inspector)


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


def _within(text: str, least: int, most: int) -> bool:
    return text.isdecimal() and least <= int(text) <= most


def _text(value: Any, default: str) -> str:
    return default if value is None else str(value)


def _flag(value: Any, *, default: bool) -> bool:
    """Read a flag that may come as text, number or bool."""
    if value is None:
        return default
    return str(value).lower() in ("true", "1")
