"""The state machine of the inspectors: who inspects whom, how, and what both are told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from qc_adapter.simulator import contents

if TYPE_CHECKING:
    from collections.abc import Callable

    from qc_adapter.simulator.agents import Agent
    from qc_adapter.simulator.announcer import Announcer
    from qc_adapter.simulator.calls import Switchboard
    from qc_adapter.simulator.contents import Call
    from qc_adapter.simulator.monitors import Monitors
    from qc_adapter.simulator.roster import Roster
    from qc_adapter.simulator.settings import SimulatorSettings
    from qc_adapter.simulator.timetable import Timetable

Mode = Literal["listen", "insert", "whisper"]
State = Literal["seized", "under_way", "intercepted"]
QC_TYPES: Final[dict[Mode, int]] = {
    "listen": contents.QC_LISTEN,
    "insert": contents.QC_INSERT,
    "whisper": contents.QC_WHISPER,
}
OK: Final = "0"


@dataclass(slots=True, eq=False)
class Inspection:
    """What one inspector does at present."""

    inspector_id: str
    target_id: str
    call_id: str
    mode: Mode
    state: State = "seized"

    def name(self) -> str:
        """Return the state in the words of the contract."""
        if self.state != "under_way":
            return self.state.upper()
        return {"listen": "LISTENING", "insert": "INSERTED", "whisper": "WHISPERING"}[self.mode]


class Inspections:
    """One inspection per inspector; every move answers a retcode, "0" when it was accepted."""

    def __init__(
        self,
        *,
        settings: SimulatorSettings,
        roster: Roster,
        switchboard: Switchboard,
        announcer: Announcer,
        monitors: Monitors,
        timetable: Timetable,
    ) -> None:
        self._settings = settings
        self._codes = settings.mistake_codes
        self._roster = roster
        self._switchboard = switchboard
        self._tell = announcer
        self._monitors = monitors
        self._timetable = timetable
        self._running: dict[str, Inspection] = {}
        switchboard.after_end.append(self._call_ended)
        roster.after_sign_out.append(self._agent_left)

    def of(self, inspector_id: str) -> Inspection | None:
        """Return what the inspector does at present."""
        return self._running.get(inspector_id)

    def state_of(self, inspector_id: str) -> str:
        """Return the inspector's state in the words of the contract."""
        if self._roster.agent(inspector_id).sign_in is None:
            return "SIGNED_OUT"
        running = self._running.get(inspector_id)
        return running.name() if running else "IDLE"

    def running(self) -> tuple[Inspection, ...]:
        """Return all inspections."""
        return tuple(self._running.values())

    def clear(self) -> None:
        """Forget all inspections without telling anyone."""
        self._running.clear()

    def begin(self, inspector: Agent, target_id: str, mode: Mode) -> str:
        """Seize the inspector's phone; the inspection runs once it is picked up."""
        if mode == "whisper" and not inspector.whisper:
            return self._codes.no_right
        if inspector.agent_id in self._running or inspector.call_id is not None or inspector.posture != "idle":
            return self._codes.inspector_not_idle
        call = self._switchboard.call_of(target_id)
        if call is None:
            return self._codes.target_without_call
        inspection = Inspection(inspector.agent_id, target_id, call.call_id, mode)
        self._running[inspector.agent_id] = inspection
        self._tell.later(inspector.agent_id, "AgentState_Busy")
        if not inspector.phone_connected:
            self._tell.later(inspector.agent_id, "AgentOther_PhoneAlerting")
        if inspector.phone_answered:
            self._tell.later(inspector.agent_id, "AgentOther_PhoneOffhook", {"type": "main"})
            self._soon(lambda: self._picked_up(inspection))
        else:
            self._timetable.after(self._settings.answer_timeout_seconds, lambda: self._not_answered(inspection))
        return OK

    def stop(self, inspector: Agent, target_id: str, modes: frozenset[Mode]) -> str:
        """End listening, inserting or whispering."""
        inspection = self._under_way(inspector, target_id, modes)
        if inspection is None:
            return self._codes.nothing_under_way
        self._leave(inspection, later=True)
        return OK

    def change(self, inspector: Agent, target_id: str, mode: Mode, modes: frozenset[Mode]) -> str:
        """Go over from one mode to another."""
        if mode == "whisper" and not inspector.whisper:
            return self._codes.no_right
        inspection = self._under_way(inspector, target_id, modes)
        if inspection is None:
            return self._codes.nothing_under_way
        inspection.mode = mode
        self._announce_start(inspection, later=True)
        return OK

    def toggle(self, inspector: Agent, target_id: str) -> str:
        """Go from listening to inserting or back."""
        inspection = self._running.get(inspector.agent_id)
        mode: Mode = "insert" if inspection is not None and inspection.mode == "listen" else "listen"
        return self.change(inspector, target_id, mode, frozenset({"listen", "insert"}))

    def intercept(self, inspector: Agent, target_id: str, call_id: str | None) -> str:
        """Take the inspected call; the agent is let go."""
        inspection = self._under_way(inspector, target_id, frozenset(QC_TYPES))
        if inspection is None:
            return self._codes.intercept_without_inspection
        call = self._switchboard.call_of(target_id)
        if call is None or (call_id is not None and call.call_id != call_id):
            return self._codes.call_not_found
        former = self._roster.agent(target_id)
        inspection.state = "intercepted"
        self._switchboard.take_over(call, inspector)
        for event_type in self._settings.intercept_inspector_events:
            if event_type != "AgentMediaEvent_Record" or call.recorded:
                self._tell.later(inspector.agent_id, event_type, self._switchboard.intercept_content(event_type, call))
        self._release_intercepted(inspection, former, call)
        self._monitors.inspected(target_id, inspector.agent_id, begins=False)
        for other in self._inspections_of(target_id):
            self._leave(other, later=True)
        return OK

    def _release_intercepted(self, inspection: Inspection, former: Agent, call: Call) -> None:
        for event_type in self._settings.intercept_agent_events:
            if event_type == "AgentState_Ready":
                self._switchboard.tell_posture(former, later=True)
                continue
            content = self._switchboard.intercept_content(event_type, call)
            if event_type == "AgentOther_BeQcStop":
                content = contents.quality_control(inspection.inspector_id, QC_TYPES[inspection.mode])
            self._tell.later(former.agent_id, event_type, content)

    def _under_way(self, inspector: Agent, target_id: str, modes: frozenset[Mode]) -> Inspection | None:
        inspection = self._running.get(inspector.agent_id)
        if inspection is None or inspection.state != "under_way" or inspection.target_id != target_id:
            return None
        return inspection if inspection.mode in modes else None

    def _inspections_of(self, target_id: str) -> list[Inspection]:
        return [one for one in self._running.values() if one.target_id == target_id and one.state != "intercepted"]

    def _soon(self, action: Callable[[], None]) -> None:
        delay = self._settings.event_delay_seconds
        if delay == 0:
            action()
        else:
            self._timetable.after(delay, action)

    def _current(self, inspection: Inspection) -> bool:
        return self._running.get(inspection.inspector_id) is inspection

    def _picked_up(self, inspection: Inspection) -> None:
        if self._current(inspection) and inspection.state == "seized":
            inspection.state = "under_way"
            self._announce_start(inspection, later=False)
            self._monitors.inspected(inspection.target_id, inspection.inspector_id, begins=True)

    def _not_answered(self, inspection: Inspection) -> None:
        if self._current(inspection) and inspection.state == "seized":
            self._leave(inspection, later=False)

    def _announce_start(self, inspection: Inspection, *, later: bool) -> None:
        tell = self._tell.later if later else self._tell.now
        content = contents.quality_control(inspection.inspector_id, QC_TYPES[inspection.mode])
        tell(inspection.target_id, "AgentOther_BeQcStart", content)

    def _leave(self, inspection: Inspection, *, later: bool) -> None:
        """End an inspection that did not become an intercept."""
        tell = self._tell.later if later else self._tell.now
        del self._running[inspection.inspector_id]
        tell(inspection.inspector_id, "AgentOther_PhoneRelease", {"phoneState": 3})
        tell(inspection.inspector_id, "AgentState_Ready")
        if inspection.state == "under_way":
            content = contents.quality_control(inspection.inspector_id, QC_TYPES[inspection.mode])
            tell(inspection.target_id, "AgentOther_BeQcStop", content)
            self._monitors.inspected(inspection.target_id, inspection.inspector_id, begins=False)

    def _call_ended(self, call: Call) -> None:
        for inspection in self.running():
            if inspection.call_id != call.call_id:
                continue
            if inspection.state == "intercepted":
                del self._running[inspection.inspector_id]
            else:
                self._leave(inspection, later=False)

    def _agent_left(self, agent: Agent) -> None:
        inspection = self._running.get(agent.agent_id)
        if inspection is not None and inspection.state != "intercepted":
            self._leave(inspection, later=False)
