"""The middle: all state of the simulated gateway, and what every operation does to it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from qc_adapter.simulator import recordings
from qc_adapter.simulator.accounts import Accounts
from qc_adapter.simulator.activity import Activity
from qc_adapter.simulator.announcer import Announcer
from qc_adapter.simulator.calls import Switchboard
from qc_adapter.simulator.faults import FaultBook
from qc_adapter.simulator.floor import Floor
from qc_adapter.simulator.inspection_operations import InspectionOperations
from qc_adapter.simulator.inspections import Inspections
from qc_adapter.simulator.monitor_operations import MonitorOperations
from qc_adapter.simulator.monitors import Monitors
from qc_adapter.simulator.nodes import Failover, Nodes
from qc_adapter.simulator.posture_operations import PostureOperations
from qc_adapter.simulator.push import Pushing
from qc_adapter.simulator.record import POLLS, Record
from qc_adapter.simulator.roster import MOVING, Roster
from qc_adapter.simulator.sign_in_operations import SignInOperations
from qc_adapter.simulator.timetable import Timetable

if TYPE_CHECKING:
    from collections.abc import Callable

    from qc_adapter.simulator.agents import Agent
    from qc_adapter.simulator.replies import Reply
    from qc_adapter.simulator.requests import GatewayRequest
    from qc_adapter.simulator.settings import SimulatorSettings

# These begin a session, so they cannot show a GUID; a stale one is ignored.
WITHOUT_GUID: Final = frozenset({"login", "forceLogin", "loginEx"})
# These keep a sign-in alive and bring the new GUID.
HEARTBEATS: Final = POLLS | {"handShake", "heartbeat"}
# The only ones that count for an agent whose events are pushed.
PUSH_HEARTBEATS: Final = HEARTBEATS - POLLS


@dataclass(frozen=True, slots=True)
class Clocks:
    """The two clocks: one for spans, one for the time of day; tests give their own."""

    now: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time


class Gateway:
    """Agents, calls and inspections behind one door: `perform`."""

    def __init__(self, settings: SimulatorSettings, clocks: Clocks) -> None:
        self.settings = settings
        self.now = clocks.now
        self.record = Record(settings.recorded_requests)
        self.faults = FaultBook(clocks.now)
        self.timetable = Timetable(clocks.now)
        self.nodes = Nodes(settings)
        self.roster = Roster(settings, self.record, self.nodes, clocks.now, clocks.wall)
        self.announcer = Announcer(settings, self.roster, self.timetable, self.faults, self.record)
        self.switchboard = Switchboard(settings, self.roster, self.announcer)
        self.monitors = Monitors(settings, self.roster, self.announcer)
        self.pushing = Pushing(settings, self.roster, self.timetable, self.faults, self.record)
        self.failover = Failover(self.nodes, self.roster, self.pushing, self.timetable)
        self.floor = Floor(settings, self.roster, self.switchboard, self.monitors, self.timetable)
        self.activity = Activity(self)
        self.inspections = Inspections(
            settings=settings,
            roster=self.roster,
            switchboard=self.switchboard,
            announcer=self.announcer,
            monitors=self.monitors,
            timetable=self.timetable,
        )
        self._signing = SignInOperations(
            settings=settings,
            roster=self.roster,
            accounts=Accounts(settings, self.roster),
            switchboard=self.switchboard,
            announcer=self.announcer,
            monitors=self.monitors,
            pushing=self.pushing,
            now=clocks.now,
        )
        postures = PostureOperations(self.roster, self.switchboard, self.announcer, self.timetable)
        monitoring = MonitorOperations(settings, self.roster, self.monitors)
        inspecting = InspectionOperations(
            settings=settings,
            roster=self.roster,
            switchboard=self.switchboard,
            inspections=self.inspections,
            announcer=self.announcer,
            monitors=self.monitors,
            timetable=self.timetable,
        )
        tables = (self._signing, postures, monitoring, inspecting)
        self._operations: dict[str, Callable[[GatewayRequest], Reply]] = {
            "recordFile": lambda request: recordings.judge(self, request)
        }
        for one in tables:
            self._operations |= one.table()

    def begin(self) -> None:
        """Begin what runs by itself: the look-out for silent agents, and calls."""
        self._sweep()
        self.floor.begin()

    def reset(self) -> None:
        """Forget everything that happened."""
        self.timetable.clear()
        self.faults.clear()
        self.inspections.clear()
        self.switchboard.clear()
        self.roster.clear()
        self.monitors.clear()
        self.nodes.clear()
        self.record.clear()
        self.begin()

    def restart(self) -> int:
        """Lose all sign-ins without a word, as a gateway does; return how many. Calls and staff stay."""
        lost = self.roster.signed_in_count()
        self.inspections.clear()
        self.monitors.clear()
        self.roster.lose_all()
        return lost

    def _sweep(self) -> None:
        self.roster.sweep()
        self.activity.sample()
        self.timetable.after(min(1.0, self.settings.max_silence_seconds / 4), self._sweep)

    def sign_in(self, agent: Agent) -> str:
        """Sign an agent in without a request; return the GUID."""
        return self._signing.open(agent).ring.current

    def check(self, request: GatewayRequest) -> str:
        """Judge the caller; "0" lets the request pass."""
        if not request.agent_id:
            return self.roster.unknown_guid_code()
        agent = self.roster.agent(request.agent_id)
        if request.operation in WITHOUT_GUID:
            return MOVING if agent.sign_in is not None and agent.sign_in.moving else "0"
        code, request.guid_age = self.roster.check(agent, request.guid)
        if code == "0" and self._keeps_alive(request, agent):
            self.roster.seen(agent)
        return code

    def _keeps_alive(self, request: GatewayRequest, agent: Agent) -> bool:
        if agent.sign_in is not None and agent.sign_in.push is not None:
            return request.operation in PUSH_HEARTBEATS
        return request.operation in HEARTBEATS or not self.settings.only_polls_keep_alive

    def perform(self, request: GatewayRequest) -> Reply:
        """Run a checked operation, all of it but the poll."""
        return self._operations[request.operation](request)

    def fresh_guid(self, request: GatewayRequest) -> str | None:
        """Return the GUID that this reply has to bring, if any."""
        sign_in = self.roster.agent(request.agent_id).sign_in
        if sign_in is None or request.operation in WITHOUT_GUID:
            return None
        if request.operation in HEARTBEATS:
            if sign_in.ring.due(self.now()):
                sign_in.ring.rotate(self.now())
            # Whoever still shows an older one has not got the news.
            if self.settings.auth_mode != "off" and request.guid != sign_in.ring.current:
                return sign_in.ring.current
        if self.settings.set_guid_on_every_put and request.verb == "PUT":
            return sign_in.ring.current
        return None

    def rotate(self, agent: Agent, *, release_polls: bool = True) -> None:
        """Change an agent's GUID now; held polls end, so that their replies bring the new one."""
        if agent.sign_in is not None:
            agent.sign_in.ring.rotate(self.now())
            if release_polls:
                agent.sign_in.mailbox.release()
