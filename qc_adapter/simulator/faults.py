"""Before the gateway answers: the misbehaviour that was asked for, and which request it hits."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final, Literal, get_args, get_type_hints

from qc_adapter.simulator.routes import ROUTES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Action = Literal[
    "delay",
    "reset_before",
    "reset_after",
    "html",
    "empty200",
    "cut_json",
    "slow_drip",
    "charset",
    "retcode",
    "redirect",
    "foreign_json",
    "raw_body",
    "switch_over",
    "lose_event",
    "rotate_now",
    "hang",
]
ACTIONS: Final[frozenset[str]] = frozenset(get_args(Action))

# These change how a request is handled; all others end it, so only one of those is used for a request.
MODIFIERS: Final = frozenset({"delay", "rotate_now"})
# The gateway did its work and only the reply is damaged, unless `processed` says otherwise.
DAMAGES_REPLY: Final = frozenset(
    {"reset_after", "empty200", "cut_json", "slow_drip", "charset", "foreign_json", "raw_body"}
)
HANG_LIMIT_SECONDS: Final = 120.0
# A fault names this operation to hit pushes; one that names none hits requests only.
PUSH: Final = "pushEvent"
#: What a fault may name: an operation, pushes, or nothing.
OPERATIONS: Final = frozenset({None, PUSH, *(operation for operation, _, _ in ROUTES)})
# On a push: wait, lose it on its way, or lose the answer of a callback that has taken it.
PUSH_ACTIONS: Final = frozenset({"delay", "reset_before", "reset_after"})


@dataclass(frozen=True, slots=True)
class Fault:
    """One misbehaviour; `operation`, `agent_id`, `target` and `event_type` of None match everything."""

    action: Action
    operation: str | None = None
    agent_id: str | None = None
    target: str | None = None
    event_type: str | None = None
    # -1 is for ever; switch_over counts in seconds instead.
    times: int = 1
    seconds: float = 0.0
    # delay: wait after processing, before the reply. rotate_now: rotate after processing.
    after: bool = False
    status: int = 502
    code: str = "900-003"
    message: str | None = None
    body: Any = None
    charset: Literal["gbk", "undecodable", "bom"] = "gbk"
    location: str = "/login.html"
    processed: bool | None = None
    # rotate_now: end held polls at once, so that their replies bring the new GUID.
    release_polls: bool = True

    @property
    def processes(self) -> bool:
        """Whether the gateway does its work although the reply goes wrong."""
        return self.action in DAMAGES_REPLY if self.processed is None else self.processed


@dataclass(slots=True)
class _Armed:
    fault: Fault
    left: int
    until: float


class FaultBook:
    """The faults that wait for their request or event."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._armed: list[_Armed] = []

    def add(self, fault: Fault) -> None:
        """Arm a fault."""
        self._armed.append(_Armed(fault, fault.times, self._now() + fault.seconds))

    def clear(self) -> None:
        """Disarm all."""
        self._armed.clear()

    def armed(self) -> list[dict[str, Any]]:
        """List what is armed."""
        return [
            {"action": a.fault.action, "operation": a.fault.operation, "agent_id": a.fault.agent_id, "left": a.left}
            for a in self._armed
        ]

    def for_request(self, operation: str, agent_id: str, target: str) -> tuple[Fault, ...]:
        """Take the faults that hit this request: all modifiers, and the first of the rest."""
        if not self._armed:
            return ()
        taken: list[Fault] = []
        ended = False
        for armed in tuple(self._armed):
            fault = armed.fault
            if fault.action == "lose_event" or not _fits(fault, operation, agent_id, target):
                continue
            modifier = fault.action in MODIFIERS
            if (ended and not modifier) or not self._use(armed):
                continue
            ended = ended or not modifier
            taken.append(fault)
        return tuple(taken)

    def for_push(self, agent_id: str) -> tuple[Fault, ...]:
        """Take the faults that hit this push."""
        return tuple(
            armed.fault
            for armed in tuple(self._armed)
            if armed.fault.operation == PUSH and armed.fault.agent_id in (None, agent_id) and self._use(armed)
        )

    def loses_event(self, agent_id: str, event_type: str) -> bool:
        """Tell whether this event is to vanish, and count it."""
        for armed in tuple(self._armed):
            fault = armed.fault
            if (
                fault.action == "lose_event"
                and fault.agent_id in (None, agent_id)
                and fault.event_type in (None, event_type)
            ):
                return self._use(armed)
        return False

    def _use(self, armed: _Armed) -> bool:
        if armed.fault.action == "switch_over":
            if self._now() < armed.until:
                return True
            self._armed.remove(armed)
            return False
        if armed.left > 0:
            armed.left -= 1
            if armed.left == 0:
                self._armed.remove(armed)
        return True


def _fits(fault: Fault, operation: str, agent_id: str, target: str) -> bool:
    return (
        fault.operation in (None, operation) and fault.agent_id in (None, agent_id) and fault.target in (None, target)
    )


_MATCH_NAMES: Final = frozenset({"operation", "agent_id", "target", "event_type"})
_KINDS: Final[Mapping[str, tuple[type, ...]]] = {
    "times": (int,),
    "seconds": (int, float),
    "status": (int,),
    "after": (bool,),
    "processed": (bool,),
    "release_polls": (bool,),
    "code": (str,),
    "message": (str,),
    "location": (str,),
}


def parse_fault(value: Any) -> tuple[Fault | None, list[str]]:
    """Read a fault from JSON; return it, or everything that is wrong with it."""
    if not isinstance(value, dict):
        return None, ["a fault must be an object"]
    match = value.get("match", {})
    flat = {name: item for name, item in value.items() if name != "match"}
    found = [] if isinstance(match, dict) else ["match must be an object"]
    if isinstance(match, dict):
        found += [f"match.{name} is not known" for name in match if name not in _MATCH_NAMES]
        flat |= {name: None if item is None else str(item) for name, item in match.items() if name in _MATCH_NAMES}
    known = {field.name for field in fields(Fault)}
    if flat.get("operation") not in OPERATIONS:
        found.append(f"match.operation must be one of {', '.join(sorted(filter(None, OPERATIONS)))}")
    found += [f"{name} is not known" for name in flat if name not in known]
    if flat.get("action") not in ACTIONS:
        found.append(f"action must be one of {', '.join(sorted(ACTIONS))}")
    elif flat.get("operation") == PUSH and flat["action"] not in PUSH_ACTIONS:
        found.append(f"action of a {PUSH} must be one of {', '.join(sorted(PUSH_ACTIONS))}")
    charsets = get_args(get_type_hints(Fault)["charset"])
    if flat.get("charset", "gbk") not in charsets:
        found.append(f"charset must be one of {', '.join(charsets)}")
    for name, kinds in _KINDS.items():
        item = flat.get(name)
        if item is not None and (not isinstance(item, kinds) or (isinstance(item, bool) and bool not in kinds)):
            found.append(f"{name} must be of type {kinds[-1].__name__}")
    if flat.get("times") == 0:
        found.append("times must be a number from 1 on, or -1 for ever")
    return (None, found) if found else (Fault(**flat), [])
