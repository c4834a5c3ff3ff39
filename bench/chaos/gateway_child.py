"""
The simulated gateway of a chaos run, as a process: every event that it queues for an inspector carries a number.

The number is the event's time stamp, which the adapter passes on and never looks at: so the events around commands are
numbered like the injected ones. Settings come as JSON in the first argument.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from dataclasses import replace
from functools import partial
from itertools import cycle
from typing import TYPE_CHECKING, Any, Final

from bench.answers import answer
from bench.chaos.numbers import stamp
from bench.simulator_child import commands
from qc_adapter.simulator import Simulator, SimulatorSettings
from qc_adapter.simulator.faults import Fault

if TYPE_CHECKING:
    from qc_adapter.simulator.faults import Action
    from qc_adapter.simulator.mailbox import Letter
    from qc_adapter.simulator.roster import Agent

EVENT_TYPE: Final = "ChaosEvent_Numbered"
_IDLE_SECONDS: Final = 0.05


class Numbering:
    """Gives each inspector's events the numbers 1, 2, 3, ... in the order in which the gateway queues them."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._post = simulator.gateway.announcer.post
        self.last: Counter[str] = Counter()
        # Between the call floor and the mailboxes there is no other door.
        vars(simulator.gateway.announcer)["post"] = self._numbered

    def _numbered(self, agent_id: str, letter: Letter) -> None:
        if self._simulator.gateway.roster.agent(agent_id).sign_in is not None:
            self.last[agent_id] += 1
            letter = replace(letter, event={**letter.event, "eventGenTime": stamp(self.last[agent_id])})
        self._post(agent_id, letter)

    def inject(self, agent_id: str) -> None:
        """Queue one event that stands for nothing."""
        self._simulator.inject(agent_id, {"eventType": EVENT_TYPE, "workNo": agent_id, "content": {}})


class Emission:
    """Injects events at a rate, to one inspector after the other."""

    def __init__(self, simulator: Simulator, numbering: Numbering) -> None:
        self._simulator = simulator
        self._numbering = numbering
        self._rate = 0.0

    def rate(self, events_a_second: str) -> float:
        """Set the rate; 0 stops."""
        self._rate = float(events_a_second)
        return self._rate

    def one_each(self) -> int:
        """Inject one event for every inspector."""
        inspectors = self._simulator.gateway.roster.signed_in()
        for agent_id in inspectors:
            self._numbering.inject(agent_id)
        return len(inspectors)

    async def run(self) -> None:
        """Inject until cancelled."""
        turn = cycle([""])
        known: tuple[str, ...] = ()
        while True:
            await asyncio.sleep(1 / self._rate if self._rate else _IDLE_SECONDS)
            present = tuple(sorted(self._simulator.gateway.roster.signed_in()))
            if present != known:
                known, turn = present, cycle(present)
            if self._rate and known:
                self._numbering.inject(next(turn))


class Silences:
    """How long the gateway heard nothing of an inspector: what its sign-out rule counts."""

    def __init__(self, simulator: Simulator) -> None:
        self._gateway = simulator.gateway
        self._seen = simulator.gateway.roster.seen
        self._last: dict[str, float] = {}
        self._longest = 0.0
        vars(simulator.gateway.roster)["seen"] = self._noted

    def _noted(self, agent: Agent) -> None:
        now = self._gateway.now()
        self._longest = max(self._longest, now - self._last.get(agent.agent_id, now))
        self._last[agent.agent_id] = now
        self._seen(agent)

    def longest(self) -> float:
        """Return the longest silence since the question before, the present ones included."""
        now = self._gateway.now()
        held = {
            agent.agent_id
            for agent in self._gateway.roster.agents()
            if agent.sign_in is None or agent.sign_in.mailbox.held_polls()
        }
        present = [now - then for agent_id, then in self._last.items() if agent_id not in held]
        longest, self._longest = max([self._longest, *present]), 0.0
        return longest


def damage(simulator: Simulator, action: Action, operation: str, times: str) -> int:
    """Let the replies to the next such requests go wrong, or the answers to the next pushes."""
    simulator.add_fault(Fault(action, operation=operation, times=int(times)))
    return len(simulator.gateway.faults.armed())


def waiting(simulator: Simulator) -> int:
    """Return how many events no poll and no push has taken yet."""
    return sum(len(agent.sign_in.mailbox) for agent in simulator.gateway.roster.agents() if agent.sign_in)


def story(simulator: Simulator) -> dict[str, Any]:
    """Return what must not have happened."""
    return {
        "overlaps": simulator.record.poll_overlaps(),
        # A restart is the fault itself: what must not have happened is that anybody stays out.
        "sign_outs": [f"{one.agent_id}: {one.reason}" for one in simulator.record.sign_outs if one.reason != "restart"],
        "pushed_again": simulator.record.push_repeated.total(),
    }


async def run(settings: SimulatorSettings) -> None:
    """Serve until the parent closes the pipe."""
    async with Simulator(settings) as simulator:
        numbering, silences = Numbering(simulator), Silences(simulator)
        emission = Emission(simulator, numbering)
        emitting = asyncio.create_task(emission.run(), name="emission")
        try:
            await answer(
                {
                    "url": lambda: simulator.url,
                    "signed_in": lambda: len(simulator.gateway.roster.signed_in()),
                    "emit": emission.rate,
                    "one_each": emission.one_each,
                    "emitted": lambda: dict(numbering.last),
                    "waiting": lambda: waiting(simulator),
                    "commands": lambda: commands(simulator),
                    "story": lambda: story(simulator),
                    "silence": silences.longest,
                    "damage": partial(damage, simulator),
                    "restart": simulator.restart,
                    "mend": simulator.clear_faults,
                }
            )
        finally:
            emitting.cancel()
            await asyncio.gather(emitting, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(run(SimulatorSettings(**json.loads(sys.argv[1]))))
