"""Keeps one inspector whose commands hang from taking the gateway's slots of all others."""

from __future__ import annotations

from qc_adapter.model.errors import LimitReached


class Bulkhead:
    """Counts the commands under way of each inspector; what is one too many is refused, and waits for nothing."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._under_way: dict[str, int] = {}

    def enter(self, agent_id: str) -> None:
        """Note a command that begins; raises `LimitReached`."""
        under_way = self._under_way.get(agent_id, 0)
        if under_way >= self._most:
            raise LimitReached(
                "commands_per_inspector",
                f"inspector {agent_id} has {under_way} commands under way, as many as may be: nothing was sent",
            )
        self._under_way[agent_id] = under_way + 1

    def leave(self, agent_id: str) -> None:
        """Note that it ended."""
        under_way = self._under_way[agent_id] - 1
        if under_way:
            self._under_way[agent_id] = under_way
        else:
            del self._under_way[agent_id]
