"""Beside the gateway: what is going on in figures, and as one line for a terminal."""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from qc_adapter.simulator.gateway import Gateway

# The rate is that of the last seconds.
_SAMPLES: Final = 10
_STATES: Final = ("talking", "idle", "work", "busy", "rest", "away")


class Activity:
    """Counts agents by state, calls, requests and events."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._samples: deque[tuple[float, int]] = deque(maxlen=_SAMPLES)

    def sample(self) -> None:
        """Note how many requests there were up to now."""
        self._samples.append((self._gateway.now(), self._gateway.record.received))

    def figures(self) -> dict[str, Any]:
        """Return the figures of this moment."""
        gateway, record = self._gateway, self._gateway.record
        agents = gateway.roster.agents()
        states = Counter(self._state(agent.agent_id) for agent in agents)
        states.pop("unknown", None)
        return {
            "agents": {state: states[state] for state in _STATES},
            "signed_in": gateway.roster.signed_in_count(),
            "calls": {
                "running": len(gateway.switchboard.calls()),
                "begun": gateway.switchboard.begun,
                "ended": gateway.switchboard.ended,
            },
            "inspections": len(gateway.inspections.running()),
            "monitors": gateway.monitors.count(),
            "requests": {"received": record.received, "per_second": self._rate()},
            "events": {
                "queued": record.queued.total(),
                "delivered": record.delivered.total(),
                "waiting": sum(len(agent.sign_in.mailbox) for agent in agents if agent.sign_in is not None),
            },
            "pushes": {
                "attempts": record.push_attempts.total(),
                "failures": record.push_failures.total(),
                "delivered": record.push_delivered.total(),
            },
        }

    def _state(self, agent_id: str) -> str:
        agent = self._gateway.roster.agent(agent_id)
        if agent.reachable:
            return "talking" if agent.call_id is not None else agent.posture
        # Whoever was only named is not away from work.
        return "away" if agent_id in self._gateway.floor.staff_ids else "unknown"

    def _rate(self) -> float:
        if not self._samples:
            return 0.0
        since, before = self._samples[0]
        seconds = self._gateway.now() - since
        # After a reset the counter is below its samples.
        number = max(0, self._gateway.record.received - before)
        return round(number / seconds, 1) if seconds > 0 else 0.0


def line(figures: dict[str, Any]) -> str:
    """Return the figures as one line; what is nothing is left out."""
    calls, events, pushes = figures["calls"], figures["events"], figures["pushes"]
    parts = [f"{number} {state}" for state, number in figures["agents"].items() if number]
    parts.append(f"calls {calls['running']} running, {calls['begun']} begun, {calls['ended']} ended")
    parts += [f"{figures[name]} {name}" for name in ("inspections", "monitors") if figures[name]]
    parts.append(f"{figures['requests']['per_second']:g} requests/s")
    parts.append(f"events {events['queued']}, {events['delivered']} delivered")
    if pushes["attempts"]:
        parts.append(f"pushes {pushes['attempts']}, {pushes['failures']} failed")
    return " | ".join(parts)
