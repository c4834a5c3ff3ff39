"""Beside the controls: a file that says who is there, who talks, and what happens when."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import orjson

from qc_adapter.simulator.calls import CallRefused
from qc_adapter.simulator.controls import ATTRIBUTES, Controls
from qc_adapter.simulator.scenario_steps import Step, action, members, read_fault, read_step, text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from qc_adapter.simulator.faults import Fault


_LOG: Final = logging.getLogger(__name__)


class ScenarioInvalid(ValueError):
    """The scenario cannot be used; `problems` lists everything that is wrong with it."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("the scenario cannot be used: " + "; ".join(problems))
        self.problems = problems


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
            controls.start_call(str(call["agent_id"]), text(call.get("customer")))
        for fault in self.faults:
            controls.add_fault(fault)
        for step in self.steps:
            controls.gateway.timetable.after(step.at_seconds, partial(_take, controls, step))


def _take(controls: Controls, step: Step) -> None:
    """Do a step. One that cannot be done by now is told, and the others go on."""
    try:
        action(controls, step)()
    except (CallRefused, ValueError) as error:
        _LOG.warning("scenario: %s at %g s was not done: %s", step.act, step.at_seconds, error)


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
        found += members(place, item, frozenset({"agent_id"}), frozenset({"customer"}))
        calls.append(item)
    faults = []
    for place, item in _items(value, "faults", found):
        fault = read_fault(place, item, found)
        if fault is not None:
            faults.append(fault)
    steps = [read_step(place, item, found) for place, item in _items(value, "steps", found)]
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


def _agent(place: str, item: dict[str, Any], found: list[str]) -> dict[str, dict[str, Any]]:
    found += members(place, item, frozenset({"agent_id"}), frozenset(ATTRIBUTES))
    attributes = {name: item[name] for name in ATTRIBUTES if name in item}
    return {str(item.get("agent_id")): attributes}
