"""What inspectors do to other agents: the operations under `qualitycontrol`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from qc_adapter.simulator.inspections import OK, Inspections, Mode
from qc_adapter.simulator.posture_operations import rest, within
from qc_adapter.simulator.replies import ACCEPTED, Reply, refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from qc_adapter.simulator.agents import Agent
    from qc_adapter.simulator.announcer import Announcer
    from qc_adapter.simulator.calls import Switchboard
    from qc_adapter.simulator.monitors import Monitors
    from qc_adapter.simulator.requests import GatewayRequest
    from qc_adapter.simulator.roster import Roster
    from qc_adapter.simulator.settings import SimulatorSettings
    from qc_adapter.simulator.timetable import Timetable

_LISTEN_OR_INSERT: Final[frozenset[Mode]] = frozenset({"listen", "insert"})
_WHISPER: Final[frozenset[Mode]] = frozenset({"whisper"})
_ANY: Final = _LISTEN_OR_INSERT | _WHISPER
_SWITCH_TYPES: Final[dict[str, Mode]] = {"0": "listen", "1": "insert", "2": "whisper"}


class InspectionOperations:
    """Checks what all inspections have in common, then moves the state machine."""

    def __init__(
        self,
        *,
        settings: SimulatorSettings,
        roster: Roster,
        switchboard: Switchboard,
        inspections: Inspections,
        announcer: Announcer,
        monitors: Monitors,
        timetable: Timetable,
    ) -> None:
        self._settings = settings
        self._codes = settings.mistake_codes
        self._roster = roster
        self._switchboard = switchboard
        self._inspections = inspections
        self._tell = announcer
        self._monitors = monitors
        self._timetable = timetable

    def table(self) -> dict[str, Callable[[GatewayRequest], Reply]]:
        """Return the operations by their names."""
        moves = self._inspections
        return {
            "addSupervise": self._on_target(lambda me, target, _: moves.begin(me, target, "listen")),
            "addInsert": self._on_target(lambda me, target, _: moves.begin(me, target, "insert")),
            "requestWhisperAgent": self._on_target(lambda me, target, _: moves.begin(me, target, "whisper")),
            "stopSuperviseOrInsert": self._on_target(lambda me, target, _: moves.stop(me, target, _LISTEN_OR_INSERT)),
            "requestStopWhisperAgent": self._on_target(lambda me, target, _: moves.stop(me, target, _WHISPER)),
            "switchSuperviseOrInsert": self._on_target(lambda me, target, _: moves.toggle(me, target)),
            "requestSwitchInsertWhisperAgent": self._on_target(self._switch),
            "intercept": self._on_target(lambda me, target, ask: moves.intercept(me, target, ask.values.get("callId"))),
            "forceBusy": self._on_target(self._force_busy),
            "forceIdle": self._on_target(self._force_idle),
            "forceRest": self._on_target(self._force_rest),
            "forceLogOutAgent": self._on_target(self._force_sign_out),
            "forceDropCall": self._force_drop_call,
            "adjustSkill": self._adjust_skill,
        }

    def _on_target(self, step: Callable[[Agent, str, GatewayRequest], str]) -> Callable[[GatewayRequest], Reply]:
        def operation(request: GatewayRequest) -> Reply:
            return self._judged(request, request.target, step)

        return operation

    def _judged(self, request: GatewayRequest, target: str, step: Callable[[Agent, str, GatewayRequest], str]) -> Reply:
        inspector = self._roster.agent(request.agent_id)
        if not (target.isascii() and target.isdecimal()):
            return refused("000-002")
        if target == inspector.agent_id:
            return refused("000-005")
        if not inspector.inspector:
            return refused(self._codes.no_right)
        if not self._roster.agent(target).reachable:
            return refused(self._codes.target_unknown)
        code = step(inspector, target, request)
        return ACCEPTED if code == OK else refused(code)

    def _switch(self, inspector: Agent, target: str, request: GatewayRequest) -> str:
        mode = _SWITCH_TYPES.get(request.query.get("switchtype", ""))
        return "000-002" if mode is None else self._inspections.change(inspector, target, mode, _ANY)

    def _force_busy(self, _: Agent, target: str, __: GatewayRequest) -> str:
        agent = self._roster.agent(target)
        agent.posture_reason = "3"
        if agent.call_id is not None:
            agent.next_posture = "busy"
        else:
            agent.posture = "busy"
            self._switchboard.tell_busy(agent, later=True)
        return OK

    def _force_idle(self, _: Agent, target: str, __: GatewayRequest) -> str:
        agent = self._roster.agent(target)
        agent.next_posture = None
        if agent.call_id is None:
            agent.posture = "idle"
            forced = self._settings.forced_state_events == "force"
            self._tell.later(target, "AgentState_Force_Ready" if forced else "AgentState_Ready")
        return OK

    def _force_rest(self, _: Agent, target: str, request: GatewayRequest) -> str:
        time, reason = request.values["time"], request.values["reason"]
        if not within(time, 1, 86399) or not within(reason, 1, 255):
            return "000-002"
        rest(self._roster.agent(target), request.values, self._switchboard, self._tell, self._timetable)
        return OK

    def _force_sign_out(self, _: Agent, target: str, __: GatewayRequest) -> str:
        agent = self._roster.agent(target)
        agent.on_duty = False
        if not self._roster.close(agent, "by_inspector"):
            self._monitors.left(agent)
        call = self._switchboard.call_of(target)
        if call is not None:
            self._switchboard.end(call)
        return OK

    def _force_drop_call(self, request: GatewayRequest) -> Reply:
        if not self._roster.agent(request.agent_id).inspector:
            return refused(self._codes.no_right)
        call = self._switchboard.call(request.values["callId"])
        if call is None:
            return refused(self._codes.no_call_to_drop)
        self._timetable.after(self._settings.event_delay_seconds, lambda: self._switchboard.end(call))
        return ACCEPTED

    def _adjust_skill(self, request: GatewayRequest) -> Reply:
        fields = request.fields() or {}
        skills = fields.get("skills")
        if not fields.get("workNo") or not isinstance(skills, list) or len(skills) > 1000:
            return refused("100-001")
        if not all(str(skill).isdecimal() for skill in skills):
            return refused("100-001")

        def step(_: Agent, target: str, __: GatewayRequest) -> str:
            self._roster.agent(target).skills = tuple(int(skill) for skill in skills)
            return OK

        return self._judged(request, str(fields["workNo"]), step)
