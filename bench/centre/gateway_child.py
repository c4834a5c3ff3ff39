"""The busy call centre as a process: a simulated gateway that also keeps which events it queued for each inspector."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from bench.answers import answer
from bench.centre.marks import mark
from qc_adapter.simulator import Simulator, SimulatorSettings

if TYPE_CHECKING:
    from qc_adapter.simulator.mailbox import Letter


class Trails:
    """What was queued for whom, in order."""

    def __init__(self, simulator: Simulator) -> None:
        self._queued: dict[str, list[str]] = defaultdict(list)
        announcer = simulator.gateway.announcer
        self._post = announcer.post
        self._record = simulator.record
        vars(announcer)["post"] = self._note

    def _note(self, agent_id: str, letter: Letter) -> None:
        before = self._record.queued[agent_id]
        self._post(agent_id, letter)
        if self._record.queued[agent_id] > before and isinstance(letter.event, dict):
            self._queued[agent_id].append(mark(letter.event["eventType"], letter.event["content"]))

    def of(self, agent_id: str) -> list[str]:
        """Return what was queued for an inspector."""
        return self._queued[agent_id]


def story(simulator: Simulator) -> dict[str, Any]:
    """Return what reached the gateway and what happened to sign-ins."""
    record = simulator.record
    operations: Counter[str] = Counter()
    for (operation, code), number in record.replies.items():
        operations[f"{operation} {code}"] += number
    return {
        "operations": dict(operations),
        "overlaps": record.poll_overlaps(),
        "sign_outs": [f"{entry.agent_id}: {entry.reason}" for entry in record.sign_outs],
        "pushes": record.push_attempts.total(),
        "pushes_repeated": record.push_repeated.total(),
    }


async def run(settings: SimulatorSettings) -> None:
    """Serve until the parent closes the pipe."""
    async with Simulator(settings) as simulator:
        trails = Trails(simulator)
        await answer(
            {
                "url": lambda: simulator.url,
                "story": lambda: story(simulator),
                "trail": trails.of,
                "state_of": simulator.state_of,
            }
        )


if __name__ == "__main__":
    asyncio.run(run(SimulatorSettings(**json.loads(sys.argv[1]))))
