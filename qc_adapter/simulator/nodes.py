"""Beside the roster: which node of the cluster an agent's sign-in lives on, and what a dead node leaves behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qc_adapter.simulator.guids import Mint
from qc_adapter.simulator.mailbox import Closed
from qc_adapter.simulator.roster import MOVING

if TYPE_CHECKING:
    from collections.abc import Callable

    from qc_adapter.simulator.agents import Agent
    from qc_adapter.simulator.push import Pushing
    from qc_adapter.simulator.roster import Roster
    from qc_adapter.simulator.settings import SimulatorSettings
    from qc_adapter.simulator.timetable import Timetable


class Nodes:
    """The nodes that live; each makes GUIDs that end in its own name."""

    def __init__(self, settings: SimulatorSettings) -> None:
        first, seed = settings.node_number, settings.random_seed
        self.numbers = tuple(range(first, first + settings.nodes))
        self._mints = {number: Mint(number, None if seed is None else seed + number) for number in self.numbers}
        self._dead: set[int] = set()

    def living(self) -> tuple[int, ...]:
        """Return the nodes that take sign-ins."""
        return tuple(number for number in self.numbers if number not in self._dead)

    def place(self, agent_id: str) -> int:
        """Return the living node for an agent; the same one as long as the same nodes live."""
        living = self.living()
        return living[(int(agent_id) if agent_id.isdecimal() else 0) % len(living)]

    def mint(self, number: int) -> Callable[[], str]:
        """Return what makes GUIDs on a node."""
        return self._mints[number].guid

    def known(self, number: int) -> int:
        """Return the number if there is such a node; raises ValueError."""
        if number not in self.numbers:
            raise ValueError(f"there is no node {number}: the nodes are {', '.join(map(str, self.numbers))}")
        return number

    def bury(self, number: int) -> None:
        """Take no sign-ins on a node any more; the last one is started again at once."""
        if self.living() != (number,):
            self._dead.add(number)

    def raise_up(self, number: int) -> None:
        """Take sign-ins on a node again."""
        self._dead.discard(number)

    def clear(self) -> None:
        """Let all nodes live."""
        self._dead.clear()


class Failover:
    """Kills a node: its sign-ins are lost, or move to a living one."""

    def __init__(self, nodes: Nodes, roster: Roster, pushing: Pushing, timetable: Timetable) -> None:
        self._nodes = nodes
        self._roster = roster
        self._pushing = pushing
        self._timetable = timetable

    def fail(self, number: int, *, keep_sign_ins: bool, switch_seconds: float) -> int:
        """Kill a node; return how many sign-ins it had."""
        self._nodes.bury(self._nodes.known(number))
        agents = self._roster.on_node(number)
        for agent in agents:
            if not keep_sign_ins:
                self._roster.close(agent, "node_failed")
                continue
            self._begin_move(agent)
            self._timetable.after(switch_seconds, self._end_of(agent))
        return len(agents)

    def _begin_move(self, agent: Agent) -> None:
        if agent.sign_in is not None:
            agent.sign_in.moving = True
            agent.sign_in.mailbox.release(Closed(MOVING))

    def _end_of(self, agent: Agent) -> Callable[[], None]:
        moved = agent.sign_in

        def end() -> None:
            sign_in = agent.sign_in
            if sign_in is None or sign_in is not moved or not sign_in.moving:
                return
            sign_in.moving = False
            sign_in.node = self._nodes.place(agent.agent_id)
            sign_in.ring.move_to(self._nodes.mint(sign_in.node), self._timetable.now())
            self._roster.seen(agent)
            self._pushing.release(agent)

        return end
