"""The simulated gateway as a process of a load run: settings as JSON in the first argument."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from typing import Any

from bench.answers import answer
from qc_adapter.simulator import Simulator, SimulatorSettings

SAMPLE_SECONDS = 1.0
_NOT_COMMANDS = frozenset(
    {"login", "forceLogin", "loginEx", "logout", "forceLogout", "resetSkill", "handShake", "heartbeat"}
)
#: Refused at the door: such a command may be sent again with the GUID that is stored by then.
_STALE_GUID = frozenset({"000-003", "100-006"})


class Rotations:
    """Counts how often each agent's GUID changes, by looking often; a new sign-in is no rotation."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._seen: dict[str, tuple[object, str]] = {}
        self.counts: Counter[str] = Counter()

    async def watch(self) -> None:
        """Look until cancelled."""
        while True:
            for agent in self._simulator.gateway.roster.agents():
                if agent.sign_in is not None:
                    self._note(agent.agent_id, agent.sign_in, agent.sign_in.ring.current)
            await asyncio.sleep(SAMPLE_SECONDS)

    def _note(self, agent_id: str, sign_in: object, guid: str) -> None:
        before = self._seen.get(agent_id)
        if before is not None and before[0] is sign_in and before[1] != guid:
            self.counts[agent_id] += 1
        self._seen[agent_id] = (sign_in, guid)


def commands(simulator: Simulator) -> list[list[Any]]:
    """Return operation, inspector, target, times received with a good GUID and times executed of each command."""
    received: Counter[tuple[str, str, str]] = Counter()
    executed: Counter[tuple[str, str, str]] = Counter()
    for entry in simulator.record.commands:
        if entry.operation not in _NOT_COMMANDS and entry.retcode not in _STALE_GUID:
            key = (entry.operation, entry.agent_id, entry.target)
            received[key] += 1
            executed[key] += entry.executed
    return [[*key, number, executed[key]] for key, number in received.items()]


def story(simulator: Simulator, rotations: Rotations) -> dict[str, Any]:
    """Return what happened to the sign-ins."""
    record = simulator.record
    return {
        "rotations": dict(rotations.counts),
        "overlaps": record.poll_overlaps(),
        "sign_outs": [f"{entry.agent_id}: {entry.reason}" for entry in record.sign_outs],
        "replies": {f"{operation} {code}": number for (operation, code), number in sorted(record.replies.items())},
        "lost_on_wire": record.lost_on_wire.total(),
        "queued": record.queued.total(),
        "delivered": record.delivered.total(),
    }


def held_polls(simulator: Simulator) -> int:
    """Return how many polls wait for an event now."""
    return sum(agent.sign_in.mailbox.held_polls() for agent in simulator.gateway.roster.agents() if agent.sign_in)


async def run(settings: SimulatorSettings) -> None:
    """Serve until the parent closes the pipe."""
    async with Simulator(settings) as simulator:
        rotations = Rotations(simulator)
        watching = asyncio.create_task(rotations.watch(), name="rotations")
        try:
            await answer(
                {
                    "url": lambda: simulator.url,
                    "commands": lambda: commands(simulator),
                    "story": lambda: story(simulator, rotations),
                    "held": lambda: held_polls(simulator),
                }
            )
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(run(SimulatorSettings(**json.loads(sys.argv[1]))))
