"""Beside the controls: a file that says who is there, who talks, and what happens when."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import orjson

from qc_adapter.simulator.calls import CallRefused
from qc_adapter.simulator.controls import ATTRIBUTES, Controls
from qc_adapter.simulator.faults import Fault, parse_fault

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

# What a timed step can do, and the members that it needs and may have.
STEPS: Final[Mapping[str, tuple[frozenset[str], frozenset[str]]]] = {
    "start_call": (frozenset({"agent_id"}), frozenset({"customer"})),
    "end_call": (frozenset({"agent_id"}), frozenset()),
    "hold_call": (frozenset({"agent_id"}), frozenset()),
    "resume_call": (frozenset({"agent_id"}), frozenset()),
    "sign_out": (frozenset({"agent_id"}), frozenset()),
    "rotate": (frozenset({"agent_id"}), frozenset()),
    "event": (frozenset({"agent_id", "event"}), frozenset()),
    "fault": (frozenset({"fault"}), frozenset()),
    "clear_faults": (frozenset(), frozenset()),
}


class ScenarioInvalid(ValueError):
    """The scenario cannot be used; `problems` lists everything that is wrong with it."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("the scenario cannot be used: " + "; ".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happens some seconds after the start."""

    at_seconds: float
    act: str
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Scenario:
    """What the simulator begins with, and what happens later."""

    agents: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    calls: tuple[Mapping[str, Any], ...] = ()
    faults: tuple[Fault, ...] = ()
    steps: tuple[Step, ...] = ()

    def apply(self, controls: Controls) -> None:
        """Set the scene, and note the steps in the timetable."""
        for agent_id, attributes in self.agents.items():
            controls.set_agent(agent_id, **attributes)
        for call in self.calls:
            controls.start_call(str(call["agent_id"]), _text(call.get("customer")))
        for fault in self.faults:
            controls.add_fault(fault)
        for step in self.steps:
            controls.gateway.timetable.after(step.at_seconds, _action(controls, step))


def read(path: Path) -> Scenario:
    """Read a scenario file."""
    try:
        value = orjson.loads(path.read_bytes())
    except OSError as error:
        raise ScenarioInvalid([f"{path} cannot be read: {error.strerror}"]) from error
    except orjson.JSONDecodeError as error:
        raise ScenarioInvalid([f"{path} is not JSON: {error}"]) from error
    return parse(value)


def parse(value: Any) -> Scenario:
    """Make a scenario of JSON; raises ScenarioInvalid with all that is wrong."""
    if not isinstance(value, dict):
        raise ScenarioInvalid(["the scenario must be an object"])
    found = [
        f"{name} is not known (known: agents, calls, faults, steps)"
        for name in value
        if name not in {"agents", "calls", "faults", "steps"}
    ]
    agents: dict[str, dict[str, Any]] = {}
    for place, item in _items(value, "agents", found):
        agents |= _agent(place, item, found)
    calls = []
    for place, item in _items(value, "calls", found):
        found += _members(place, item, frozenset({"agent_id"}), frozenset({"customer"}))
        calls.append(item)
    faults = []
    for place, item in _items(value, "faults", found):
        fault = _fault(place, item, found)
        if fault is not None:
            faults.append(fault)
    steps = [_step(place, item, found) for place, item in _items(value, "steps", found)]
    if found:
        raise ScenarioInvalid(found)
    return Scenario(agents, tuple(calls), tuple(faults), tuple(step for step in steps if step is not None))


def _items(value: dict[str, Any], name: str, found: list[str]) -> list[tuple[str, dict[str, Any]]]:
    items = value.get(name, [])
    if not isinstance(items, list):
        found.append(f"{name} must be a list")
        return []
    found += [f"{name}[{i}] must be an object" for i, item in enumerate(items) if not isinstance(item, dict)]
    return [(f"{name}[{i}]", item) for i, item in enumerate(items) if isinstance(item, dict)]


def _members(place: str, item: Mapping[str, Any], needed: frozenset[str], optional: frozenset[str]) -> list[str]:
    found = [f"{place}: {name} is missing" for name in sorted(needed - set(item))]
    found += [f"{place}: {name} is not known" for name in item if name not in needed | optional]
    agent_id = item.get("agent_id", "101")
    if not str(agent_id).isdecimal():
        found.append(f"{place}: agent_id must be digits, not {agent_id!r}")
    return found


def _agent(place: str, item: dict[str, Any], found: list[str]) -> dict[str, dict[str, Any]]:
    found += _members(place, item, frozenset({"agent_id"}), frozenset(ATTRIBUTES))
    attributes = {name: item[name] for name in ATTRIBUTES if name in item}
    found += [
        f"{place}: {name} must be of type {ATTRIBUTES[name].__name__}"
        for name, attribute in attributes.items()
        if not isinstance(attribute, ATTRIBUTES[name])
    ]
    return {str(item.get("agent_id")): attributes}


def _fault(place: str, item: Any, found: list[str]) -> Fault | None:
    fault, wrong = parse_fault(item)
    found += [f"{place}: {text}" for text in wrong]
    return fault


def _step(place: str, item: dict[str, Any], found: list[str]) -> Step | None:
    act, at_seconds = str(item.get("do")), item.get("at_seconds")
    if isinstance(at_seconds, bool) or not isinstance(at_seconds, int | float) or at_seconds < 0:
        found.append(f"{place}: at_seconds must be a number from 0 on")
        return None
    if act not in STEPS:
        found.append(f"{place}: do must be one of {', '.join(STEPS)}")
        return None
    needed, optional = STEPS[act]
    values = {name: entry for name, entry in item.items() if name not in ("do", "at_seconds")}
    found += _members(place, values, needed, optional)
    if act == "fault" and "fault" in values:
        values["fault"] = _fault(f"{place}.fault", values["fault"], found)
    return Step(float(at_seconds), act, values)


def _action(controls: Controls, step: Step) -> Callable[[], object]:
    values = step.values
    agent_id = str(values.get("agent_id", ""))

    def call_id() -> str:
        call = controls.gateway.switchboard.call_of(agent_id)
        if call is None:
            raise CallRefused(f"agent {agent_id} has no call")
        return call.call_id

    acts: dict[str, Callable[[], object]] = {
        "start_call": lambda: controls.start_call(agent_id, _text(values.get("customer"))),
        "end_call": lambda: controls.end_call(call_id()),
        "hold_call": lambda: controls.hold_call(call_id(), held=True),
        "resume_call": lambda: controls.hold_call(call_id(), held=False),
        "sign_out": lambda: controls.sign_out(agent_id),
        "rotate": lambda: controls.rotate(agent_id),
        "event": lambda: controls.inject(agent_id, values["event"]),
        "fault": lambda: controls.add_fault(values["fault"]),
        "clear_faults": controls.clear_faults,
    }
    return acts[step.act]


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
