"""The commands that the demo gives to try, ready to be copied."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass

from qc_adapter.cli.story import AGENT, INSPECTOR


@dataclass(frozen=True, slots=True)
class Places:
    """Where the parts of the demo listen."""

    target: str
    simulator_url: str
    ops_url: str


def sign_ins(places: Places) -> dict[str, str]:
    """Return how inspector and agent sign in."""
    return {
        f"Sign {who} in": f"{_program()} sign-in {who} --no-password --phone 40{who} --target {places.target}"
        for who in (INSPECTOR, AGENT)
    }


def commands(places: Places) -> dict[str, str]:
    """Return how a call begins and is taken over."""
    body = f'{{"agent_id": "{AGENT}"}}'
    fault = '{"match": {"operation": "intercept"}, "action": "reset_after"}'
    control = f"curl -s -X POST {places.simulator_url}/simulator"
    program = _program()
    at = f"{INSPECTOR} {AGENT} --target {places.target}"
    return {
        "A customer calls": f"{control}/calls -d '{body}'",
        "Listen to the call, and take it over": f"{program} listen {at} && {program} intercept {at}",
        "Before that: the reply to the next intercept shall get lost": f"{control}/faults -d '{fault}'",
    }


def looks(places: Places) -> dict[str, str]:
    """Return how to see what is going on."""
    return {
        "What is going on at the gateway": f"curl -s {places.simulator_url}/simulator/state",
        "The inspector's events, as they come": f"{_program()} watch {INSPECTOR} --target {places.target}",
        "Metrics and health": f"curl -s {places.ops_url}/metrics; curl -s {places.ops_url}/readyz",
    }


def _program() -> str:
    """Return what to type: in a checkout the command is not on the path."""
    return "qc-adapter" if shutil.which("qc-adapter") else os.path.relpath(sys.argv[0])
