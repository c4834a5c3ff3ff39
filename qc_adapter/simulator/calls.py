"""The call floor: customers' calls, who has them, and the events around them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from qc_adapter.simulator import contents
from qc_adapter.simulator.contents import Call, Shapes

if TYPE_CHECKING:
    from collections.abc import Callable

    from qc_adapter.simulator.agents import Agent
    from qc_adapter.simulator.announcer import Announcer
    from qc_adapter.simulator.roster import Roster
    from qc_adapter.simulator.settings import SimulatorSettings


class CallRefused(ValueError):
    """A call cannot be as it was asked for."""


class Switchboard:
    """Begins, moves and ends calls."""

    def __init__(
        self,
        settings: SimulatorSettings,
        roster: Roster,
        announcer: Announcer,
    ) -> None:
        self._settings = settings
        self._roster = roster
        self._tell = announcer
        self._shapes = Shapes(settings.feature_as_number, settings.nul_padded_call_data)
        self._calls: dict[str, Call] = {}
        self._sequence = 0
        # Chance makes numbers of customers, nothing secret.
        self._random = random.Random(settings.random_seed)  # noqa: S311
        self.ended = 0
        self.after_end: list[Callable[[Call], None]] = []
        roster.after_sign_out.append(self._agent_left)

    @property
    def begun(self) -> int:
        """How many calls there were up to now."""
        return self._sequence

    def call(self, call_id: str) -> Call | None:
        """Return a running call."""
        return self._calls.get(call_id)

    def calls(self) -> tuple[Call, ...]:
        """Return all running calls."""
        return tuple(self._calls.values())

    def call_of(self, agent_id: str) -> Call | None:
        """Return the call that the agent has."""
        call_id = self._roster.agent(agent_id).call_id
        return None if call_id is None else self._calls.get(call_id)

    def clear(self) -> None:
        """Forget all calls without telling anyone."""
        self._calls.clear()

    def begin(self, agent_id: str, customer: str | None = None, *, recorded: bool | None = None) -> Call:
        """Connect a customer with an agent; an agent who is not signed in sits at the phone from now on."""
        agent = self._roster.agent(agent_id)
        if not agent.exists:
            raise CallRefused(f"agent {agent_id} does not exist")
        if agent.call_id is not None:
            raise CallRefused(f"agent {agent_id} already talks on call {agent.call_id}")
        agent.on_duty = agent.on_duty or agent.sign_in is None
        self._sequence += 1
        now_ms = self._roster.wall_ms()
        call = Call(
            call_id=f"{now_ms // 1000}-{self._sequence}",
            customer=customer or f"1380{self._random.randrange(10**7):07d}",
            called="70092",
            agent_id=agent_id,
            begin_ms=now_ms,
            task_id=5000 + self._sequence,
            recorded=self._settings.recording if recorded is None else recorded,
            record_begin_ms=now_ms,
        )
        self._calls[call.call_id] = call
        agent.call_id = call.call_id
        self._announce_begin(agent, call)
        return call

    def _announce_begin(self, agent: Agent, call: Call) -> None:
        told = agent.agent_id
        self._tell.now(told, "AgentState_Busy")
        if not agent.phone_connected:
            self._tell.now(told, "AgentOther_PhoneAlerting")
        if call.recorded and self._settings.record_first:
            self._tell.now(told, "AgentMediaEvent_Record", contents.record(call, told))
        self._tell.now(told, "AgentOther_PhoneOffhook", {"type": "main"})
        self._tell.now(told, "AgentEvent_Auto_Answer", self._shapes.ringing(call))
        self._tell.now(told, "AgentEvent_Talking", self._shapes.talking(call))
        if call.recorded and not self._settings.record_first:
            self._tell.now(told, "AgentMediaEvent_Record", contents.record(call, told))

    def hold(self, call: Call) -> None:
        """Put the customer on hold."""
        call.held = True
        self._tell.now(call.agent_id, "AgentEvent_Hold", call.call_id)

    def resume(self, call: Call) -> None:
        """Take the customer back; Talking comes again for the same call."""
        call.held = False
        self._tell.now(call.agent_id, "AgentEvent_Talking", self._shapes.talking(call))

    def end(self, call: Call, *, by_agent: bool = False) -> None:
        """End a call for everyone; the customer hung up, or the agent."""
        if self._calls.pop(call.call_id, None) is None:
            return
        self.ended += 1
        agent = self._roster.agent(call.agent_id)
        agent.call_id = None
        self._take_posture(agent)
        told = agent.agent_id
        self._tell.now(told, "AgentEvent_Call_Release", call.call_id)
        self._tell.now(told, "AgentEvent_Customer_Release", contents.customer_release(call))
        self._tell.now(told, "AgentOther_PhoneRelease", {"phoneState": 2 if by_agent else 3})
        self.tell_posture(agent, later=False)
        if call.recorded:
            self._tell.now(told, "AgentMediaEvent_StopRecordDone", contents.record_done(call, self._roster.wall_ms()))
        for observer in self.after_end:
            observer(call)

    def take_over(self, call: Call, inspector: Agent) -> None:
        """Give a call to the inspector who intercepts it; the agent before is let go."""
        former = self._roster.agent(call.agent_id)
        former.call_id = None
        self._take_posture(former)
        inspector.call_id = call.call_id
        call.agent_id = inspector.agent_id
        call.record_begin_ms = self._roster.wall_ms()

    def intercept_content(self, event_type: str, call: Call) -> object:
        """Return the content of an event around an intercept."""
        match event_type:
            case "AgentEvent_Talking":
                return self._shapes.talking(call)
            case "AgentMediaEvent_Record":
                return contents.record(call, call.agent_id)
            case "AgentEvent_Call_Release":
                return call.call_id
            case "AgentEvent_Customer_Release":
                return contents.customer_release(call)
            case "AgentOther_PhoneRelease":
                return {"phoneState": 3}
            case _:
                return None

    def settle(self, agent: Agent, *, later: bool) -> None:
        """Take and tell the posture that was asked for, else wrap-up or idle."""
        self._take_posture(agent)
        self.tell_posture(agent, later=later)

    def _take_posture(self, agent: Agent) -> None:
        posture, agent.next_posture = agent.next_posture, None
        if posture is None:
            wrap_up = agent.sign_in is not None and not agent.sign_in.auto_enter_idle
            posture = "work" if wrap_up else "idle"
        agent.posture = posture

    def tell_posture(self, agent: Agent, *, later: bool) -> None:
        """Tell what the agent is when he does not talk."""
        tell = self._tell.later if later else self._tell.now
        told, posture = agent.agent_id, agent.posture
        if posture == "busy":
            self.tell_busy(agent, later=later)
        elif posture == "rest":
            tell(told, "AgentState_SetRest_Success", {"reason": agent.posture_reason})
        else:
            tell(told, "AgentState_Work" if posture == "work" else "AgentState_Ready")

    def tell_busy(self, agent: Agent, *, later: bool) -> None:
        """Tell an agent who became busy; reason 3 is an inspector's doing."""
        tell = self._tell.later if later else self._tell.now
        if agent.posture_reason == "3" and self._settings.forced_state_events == "force":
            tell(agent.agent_id, "AgentState_Force_SetNotReady")
        else:
            tell(agent.agent_id, "AgentState_SetNotReady_Success", {"reason": agent.posture_reason})

    def _agent_left(self, agent: Agent) -> None:
        call = self.call_of(agent.agent_id)
        if call is not None:
            self.end(call)
