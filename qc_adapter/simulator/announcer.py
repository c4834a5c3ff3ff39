"""From the call floor to the mailboxes: sends an event to an agent, now or later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qc_adapter.simulator.mailbox import Letter

if TYPE_CHECKING:
    from collections.abc import Callable

    from qc_adapter.simulator.faults import FaultBook
    from qc_adapter.simulator.record import Record
    from qc_adapter.simulator.roster import Roster
    from qc_adapter.simulator.settings import SimulatorSettings
    from qc_adapter.simulator.timetable import Timetable


class Announcer:
    """Puts events into mailboxes and counts them."""

    def __init__(
        self, settings: SimulatorSettings, roster: Roster, timetable: Timetable, faults: FaultBook, record: Record
    ) -> None:
        self._settings = settings
        self._roster = roster
        self._timetable = timetable
        self._faults = faults
        self._record = record
        #: Told of every agent to whom something happened, whether he hears of it or not.
        self.after_event: list[Callable[[str], None]] = []

    def later(self, agent_id: str, event_type: str, content: Any = None) -> None:
        """Send an event after the delay that its type has; a delay of None means never."""
        delay = self._settings.event_delays.get(event_type, self._settings.event_delay_seconds)
        if delay is None:
            self._tell_observers(agent_id)
            return
        if delay == 0:
            self.now(agent_id, event_type, content)
        else:
            self._timetable.after(delay, lambda: self.now(agent_id, event_type, content))

    def now(self, agent_id: str, event_type: str, content: Any = None) -> None:
        """Send an event at once."""
        self._tell_observers(agent_id)
        if self._settings.event_delays.get(event_type, 0.0) is None:
            return
        if content is None and self._settings.empty_content == "object":
            content = {}
        event: dict[str, Any] = {"eventType": event_type}
        if self._settings.event_time:
            event["eventGenTime"] = self._roster.wall_ms()
        self.post(agent_id, Letter({**event, "workNo": agent_id, "content": content}))

    def _tell_observers(self, agent_id: str) -> None:
        for observer in self.after_event:
            observer(agent_id)

    def post(self, agent_id: str, letter: Letter) -> None:
        """Queue a letter; nobody keeps events of an agent who is not signed in."""
        sign_in = self._roster.agent(agent_id).sign_in
        kind = letter.event.get("eventType", "") if isinstance(letter.event, dict) else ""
        if sign_in is None:
            self._record.without_reader[agent_id] += 1
        elif self._faults.loses_event(agent_id, kind):
            self._record.lost_by_fault[agent_id] += 1
        else:
            self._record.queued[agent_id] += 1
            sign_in.mailbox.put(letter)
