"""Beside the flow: what reached the gateway and what it did, for people and tests; never a GUID."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import asdict, dataclass
from typing import Any

# Only what the reference names is kept of a query: nothing else may hide a secret here.
KEPT_PARAMETERS = frozenset({"whisperagentid", "switchtype", "skillid", "phonelinkage", "agents"})

POLLS = frozenset({"getAgentEvent", "getAllAgentEvent"})


@dataclass(slots=True)
class RequestRecord:
    """One request as the gateway saw it."""

    number: int
    seconds: float
    operation: str
    verb: str
    path: str
    agent_id: str
    target: str
    parameters: dict[str, str]
    traceparent: str = ""
    guid: str = "unchecked"
    executed: bool = False
    retcode: str | None = None
    status: int | None = None
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SignOutRecord:
    """One end of a sign-in."""

    seconds: float
    agent_id: str
    reason: str


class Record:
    """Counts everything; lists the newest."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        limit = self._limit
        self.received = 0
        # Polls have a list of their own, or they would soon push the commands out.
        self.commands: deque[RequestRecord] = deque(maxlen=limit)
        self.polls: deque[RequestRecord] = deque(maxlen=limit)
        self.sign_outs: deque[SignOutRecord] = deque(maxlen=limit)
        self.replies: Counter[tuple[str, str]] = Counter()
        self.overlaps: Counter[str] = Counter()
        self.queued: Counter[str] = Counter()
        self.delivered: Counter[str] = Counter()
        self.lost_on_wire: Counter[str] = Counter()
        self.lost_by_fault: Counter[str] = Counter()
        self.without_reader: Counter[str] = Counter()
        # Requests to callbacks, failed ones among them; events confirmed, and events sent once more.
        self.push_attempts: Counter[str] = Counter()
        self.push_failures: Counter[str] = Counter()
        self.push_delivered: Counter[str] = Counter()
        self.push_repeated: Counter[str] = Counter()

    def arrived(self, entry: RequestRecord) -> None:
        """List a request before anything is done with it."""
        self.received += 1
        (self.polls if entry.operation in POLLS else self.commands).append(entry)

    def answered(self, entry: RequestRecord, retcode: str | None, status: int | None) -> None:
        """Note how a request ended; None is no reply at all."""
        entry.retcode, entry.status = retcode, status
        self.replies[entry.operation, retcode or (f"http_{status}" if status else "none")] += 1

    def requests(self, operation: str, agent_id: str | None = None) -> tuple[RequestRecord, ...]:
        """Return the listed requests of an operation, oldest first."""
        source = self.polls if operation in POLLS else self.commands
        return tuple(
            entry
            for entry in source
            if entry.operation == operation and (agent_id is None or entry.agent_id == agent_id)
        )

    def poll_overlaps(self) -> int:
        """Return how many polls began while another poll of the same agent was held."""
        return self.overlaps.total()

    def pushes_of(self, agent_id: str) -> dict[str, int]:
        """Return the counters of an agent's pushes."""
        return {
            "attempts": self.push_attempts[agent_id],
            "failures": self.push_failures[agent_id],
            "delivered": self.push_delivered[agent_id],
            "repeated": self.push_repeated[agent_id],
        }

    def as_json(self, last: int = 200) -> dict[str, Any]:
        """Return counters and the newest requests."""
        operations: dict[str, dict[str, int]] = {}
        for (operation, code), number in self.replies.items():
            operations.setdefault(operation, {})[code] = number
        return {
            "received": self.received,
            "operations": operations,
            "poll_overlaps": dict(self.overlaps),
            "events": {
                "queued": dict(self.queued),
                "delivered": dict(self.delivered),
                "lost_on_wire": dict(self.lost_on_wire),
                "lost_by_fault": dict(self.lost_by_fault),
                "without_reader": dict(self.without_reader),
            },
            "pushes": {agent_id: self.pushes_of(agent_id) for agent_id in self.push_attempts},
            "sign_outs": [asdict(entry) for entry in list(self.sign_outs)[-last:]],
            "requests": [asdict(entry) for entry in list(self.commands)[-last:]],
            "polls": [asdict(entry) for entry in list(self.polls)[-last:]],
        }
