"""What a timed step of a scenario can do, and how it is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from qc_adapter.simulator.calls import CallRefused
from qc_adapter.simulator.controls import ATTRIBUTES, Controls
from qc_adapter.simulator.faults import Fault, parse_fault

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_AGENT: Final = frozenset({"agent_id"})
_NOTHING: Final[frozenset[str]] = frozenset()

#: The acts, and the members that each needs and may have.
STEPS: Final[Mapping[str, tuple[frozenset[str], frozenset[str]]]] = {
    "start_call": (_AGENT, frozenset({"customer"})),
    "end_call": (_AGENT, _NOTHING),
    "hold_call": (_AGENT, _NOTHING),
    "resume_call": (_AGENT, _NOTHING),
    "sign_out": (_AGENT, _NOTHING),
    "rotate": (_AGENT, _NOTHING),
    "set_agent": (_AGENT, frozenset(ATTRIBUTES)),
    "event": (_AGENT | {"event"}, _NOTHING),
    "fault": (frozenset({"fault"}), _NOTHING),
    "clear_faults": (_NOTHING, _NOTHING),
    "fail_node": (frozenset({"node"}), frozenset({"keep_sign_ins", "switch_seconds"})),
    "recover_node": (frozenset({"node"}), _NOTHING),
    "restart": (_NOTHING, frozenset({"down_seconds"})),
}
_KINDS: Final[Mapping[str, tuple[type, ...]]] = {
    **{name: (kind,) for name, kind in ATTRIBUTES.items()},
    "node": (int,),
    "keep_sign_ins": (bool,),
    "switch_seconds": (int, float),
    "down_seconds": (int, float),
}


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happens some seconds after the start."""

    at_seconds: float
    act: str
    values: Mapping[str, Any]


def members(place: str, item: Mapping[str, Any], needed: frozenset[str], optional: frozenset[str]) -> list[str]:
    """Return what is wrong with the members of an entry."""
    found = [f"{place}: {name} is missing" for name in sorted(needed - set(item))]
    found += [f"{place}: {name} is not known" for name in item if name not in needed | optional]
    found += [
        f"{place}: {name} must be of type {kinds[-1].__name__}"
        for name, kinds in _KINDS.items()
        if name in item and not fits(item[name], kinds)
    ]
    agent_id = item.get("agent_id", "101")
    if not str(agent_id).isdecimal():
        found.append(f"{place}: agent_id must be digits, not {agent_id!r}")
    return found


def fits(value: Any, kinds: tuple[type, ...]) -> bool:
    """Tell whether a value has one of the types; a bool is no number here."""
    return isinstance(value, kinds) and (not isinstance(value, bool) or bool in kinds)


def read_fault(place: str, item: Any, found: list[str]) -> Fault | None:
    """Read a fault; what is wrong with it is added to `found`."""
    fault, wrong = parse_fault(item)
    found += [f"{place}: {problem}" for problem in wrong]
    return fault


def read_step(place: str, item: dict[str, Any], found: list[str]) -> Step | None:
    """Read a step; what is wrong with it is added to `found`."""
    act, at_seconds = str(item.get("do")), item.get("at_seconds")
    if isinstance(at_seconds, bool) or not isinstance(at_seconds, int | float) or at_seconds < 0:
        found.append(f"{place}: at_seconds must be a number from 0 on")
        return None
    if act not in STEPS:
        found.append(f"{place}: do must be one of {', '.join(STEPS)}")
        return None
    needed, optional = STEPS[act]
    values = {name: entry for name, entry in item.items() if name not in ("do", "at_seconds")}
    found += members(place, values, needed, optional)
    if act == "fault" and "fault" in values:
        values["fault"] = read_fault(f"{place}.fault", values["fault"], found)
    return Step(float(at_seconds), act, values)


def action(controls: Controls, step: Step) -> Callable[[], object]:
    """Return what the step does when its time has come."""
    values = step.values
    agent_id = str(values.get("agent_id", ""))

    def call_id() -> str:
        call = controls.gateway.switchboard.call_of(agent_id)
        if call is None:
            raise CallRefused(f"agent {agent_id} has no call")
        return call.call_id

    rest = {name: value for name, value in values.items() if name not in ("agent_id", "node")}
    acts: dict[str, Callable[[], object]] = {
        "start_call": lambda: controls.start_call(agent_id, text(values.get("customer"))),
        "end_call": lambda: controls.end_call(call_id()),
        "hold_call": lambda: controls.hold_call(call_id(), held=True),
        "resume_call": lambda: controls.hold_call(call_id(), held=False),
        "sign_out": lambda: controls.sign_out(agent_id),
        "rotate": lambda: controls.rotate(agent_id),
        "set_agent": lambda: controls.set_agent(agent_id, **rest),
        "event": lambda: controls.inject(agent_id, values["event"]),
        "fault": lambda: controls.add_fault(values["fault"]),
        "clear_faults": controls.clear_faults,
        "fail_node": lambda: controls.fail_node(values["node"], **rest),
        "recover_node": lambda: controls.recover_node(values["node"]),
        "restart": lambda: controls.restart(**rest),
    }
    return acts[step.act]


def text(value: Any) -> str | None:
    """Return a value as text; None stays None."""
    return None if value is None else str(value)
