"""Beside the gateway: what a person or a test may do to it while it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qc_adapter.simulator.calls import CallRefused
from qc_adapter.simulator.mailbox import Letter

if TYPE_CHECKING:
    from qc_adapter.simulator.faults import Fault
    from qc_adapter.simulator.gateway import Gateway
    from qc_adapter.simulator.record import Record, RequestRecord

ATTRIBUTES = {
    "inspector": bool,
    "exists": bool,
    "on_duty": bool,
    "phone_connected": bool,
    "phone_answered": bool,
    "password": str,
    "whisper": bool,
    "locked": bool,
    "force_password_change": bool,
    "password_days": int,
}


class Controls:
    """The same acts that the control API offers, as methods."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway

    @property
    def record(self) -> Record:
        """What reached the gateway and what it did."""
        return self.gateway.record

    def requests(self, operation: str, agent_id: str | None = None) -> tuple[RequestRecord, ...]:
        """Return the received requests of an operation, oldest first."""
        return self.record.requests(operation, agent_id)

    def start_call(self, agent_id: str, customer: str | None = None, *, recorded: bool | None = None) -> str:
        """Connect a customer with an agent; return the call id."""
        return self.gateway.switchboard.begin(agent_id, customer, recorded=recorded).call_id

    def end_call(self, call_id: str) -> None:
        """End a call as if the customer hung up."""
        call = self.gateway.switchboard.call(call_id)
        if call is None:
            raise CallRefused(f"no call {call_id}")
        self.gateway.switchboard.end(call)

    def hold_call(self, call_id: str, *, held: bool) -> None:
        """Put a call on hold, or take it back."""
        call = self.gateway.switchboard.call(call_id)
        if call is None:
            raise CallRefused(f"no call {call_id}")
        if held:
            self.gateway.switchboard.hold(call)
        else:
            self.gateway.switchboard.resume(call)

    def set_agent(self, agent_id: str, **attributes: Any) -> None:
        """Change what the gateway knows of an agent; names as in ATTRIBUTES."""
        agent = self.gateway.roster.agent(agent_id)
        for name, value in attributes.items():
            if name not in ATTRIBUTES:
                raise ValueError(f"{name} is no attribute of an agent")
            setattr(agent, name, value)
            if name == "locked":
                agent.wrong_passwords = 0

    def sign_in(self, agent_id: str) -> str:
        """Sign an agent in without a request (one who is signed in is taken over); return the GUID."""
        return self.gateway.sign_in(self.gateway.roster.agent(agent_id))

    def sign_out(self, agent_id: str) -> bool:
        """End an agent's sign-in as if he was forced out."""
        return self.gateway.roster.close(self.gateway.roster.agent(agent_id), "control")

    def guid_of(self, agent_id: str) -> str:
        """Return an agent's present GUID; for tests in the same process only."""
        sign_in = self.gateway.roster.agent(agent_id).sign_in
        if sign_in is None:
            raise LookupError(f"agent {agent_id} is not signed in")
        return sign_in.ring.current

    def rotate(self, agent_id: str, *, release_polls: bool = True) -> None:
        """Change an agent's GUID now."""
        self.gateway.rotate(self.gateway.roster.agent(agent_id), release_polls=release_polls)

    def inject(self, agent_id: str, event: dict[str, Any] | list[Any] | str | None) -> None:
        """Queue an event as it is for an agent; `workNo` is not filled in."""
        self.gateway.announcer.post(agent_id, Letter(event))

    def inject_raw(self, agent_id: str, body: bytes) -> None:
        """Queue a whole poll body for an agent."""
        self.gateway.announcer.post(agent_id, Letter(raw=body))

    def add_fault(self, fault: Fault) -> None:
        """Arm a fault."""
        self.gateway.faults.add(fault)

    def clear_faults(self) -> None:
        """Disarm all faults."""
        self.gateway.faults.clear()

    def restart(self, down_seconds: float = 0.0) -> int:  # noqa: ARG002 - only what listens can be down
        """Lose all sign-ins as a restarted gateway does, agents stay known; return how many were lost."""
        return self.gateway.restart()

    def fail_node(self, number: int, *, keep_sign_ins: bool = True, switch_seconds: float = 20.0) -> int:
        """Kill a node; its sign-ins move to another one after a while, or are lost; return how many it had."""
        return self.gateway.failover.fail(number, keep_sign_ins=keep_sign_ins, switch_seconds=switch_seconds)

    def recover_node(self, number: int) -> None:
        """Let a node take sign-ins again."""
        self.gateway.nodes.raise_up(self.gateway.nodes.known(number))

    def monitors_of(self, agent_id: str) -> tuple[str, ...]:
        """Return the inspectors who monitor an agent."""
        return self.gateway.monitors.monitors_of(agent_id)

    def watched_by(self, inspector_id: str) -> tuple[str, ...]:
        """Return the agents whom an inspector monitors."""
        return self.gateway.monitors.watched_by(inspector_id)

    def pushes_of(self, agent_id: str) -> dict[str, int]:
        """Return how many pushes an agent had: attempts and failures; events delivered and repeated."""
        return self.record.pushes_of(agent_id)

    def reset(self) -> None:
        """Forget everything that happened, as after a restart."""
        self.gateway.reset()

    def state_of(self, agent_id: str) -> str:
        """Return an inspector's state: SIGNED_OUT, IDLE, SEIZED, LISTENING, INSERTED, WHISPERING, INTERCEPTED."""
        return self.gateway.inspections.state_of(agent_id)

    def floor(self) -> dict[str, Any]:
        """Return what is going on in figures."""
        return self.gateway.activity.figures()

    def state(self) -> dict[str, Any]:
        """Return what is going on; no GUIDs, no passwords."""
        floor = self.gateway
        return {
            "agents": {
                agent.agent_id: {
                    "signed_in": agent.sign_in is not None,
                    "inspector": agent.inspector,
                    "exists": agent.exists,
                    "on_duty": agent.on_duty,
                    "posture": agent.posture,
                    "skills": agent.skills,
                    "call_id": agent.call_id,
                    "inspection": floor.inspections.state_of(agent.agent_id),
                    "queued_events": 0 if agent.sign_in is None else len(agent.sign_in.mailbox),
                    "push": floor.pushing.state_of(agent),
                    "node": None if agent.sign_in is None else agent.sign_in.node,
                    "moving": agent.sign_in is not None and agent.sign_in.moving,
                    "monitored_by": floor.monitors.monitors_of(agent.agent_id),
                    "held_polls": 0 if agent.sign_in is None else agent.sign_in.mailbox.held_polls(),
                }
                for agent in floor.roster.agents()
            },
            "calls": [
                {"call_id": call.call_id, "agent_id": call.agent_id, "customer": call.customer, "held": call.held}
                for call in floor.switchboard.calls()
            ],
            "inspections": [
                {"inspector": one.inspector_id, "agent": one.target_id, "call_id": one.call_id, "state": one.name()}
                for one in floor.inspections.running()
            ],
            "nodes": {str(number): number in floor.nodes.living() for number in floor.nodes.numbers},
            "faults": floor.faults.armed(),
        }
