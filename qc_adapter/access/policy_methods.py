"""What the policy can name: the methods of the contract, and whom a request of each names."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

QUALITY_CONTROL: Final = "QualityControl"
SESSIONS: Final = "InspectorSessions"
EVENTS: Final = "InspectorEvents"


class Names(StrEnum):
    """Whom a request names."""

    INSPECTOR = "the inspector"
    AGENT = "the inspector and one agent"
    AGENTS = "the inspector and several agents"
    CALL = "the inspector and a call"
    NOBODY = "nobody: it lists inspectors"


@dataclass(frozen=True, slots=True)
class Method:
    """One rpc."""

    service: str
    names: Names

    @property
    def has_targets(self) -> bool:
        """Whether it does something to others than the inspector."""
        return self.names in {Names.AGENT, Names.AGENTS, Names.CALL}


#: An rpc that is not in here nobody may call, whatever the policy says.
METHODS: Final = {
    **dict.fromkeys(
        ("Intercept", "Listen", "Insert", "StopInspecting", "Whisper", "StopWhispering", "SwitchMode",
         "ToggleListenInsert", "ForceBusy", "ForceIdle", "ForceSignOut", "ForceRest", "AdjustSkills"),
        Method(QUALITY_CONTROL, Names.AGENT),
    ),
    **dict.fromkeys(("Monitor", "StopMonitoring"), Method(QUALITY_CONTROL, Names.AGENTS)),
    "ForceDropCall": Method(QUALITY_CONTROL, Names.CALL),
    **dict.fromkeys(("SignIn", "SignOut", "Adopt", "UpdateGuid", "Get"), Method(SESSIONS, Names.INSPECTOR)),
    "List": Method(SESSIONS, Names.NOBODY),
    **dict.fromkeys(("Watch", "Feed"), Method(EVENTS, Names.INSPECTOR)),
}  # fmt: skip

#: What a service's name in the policy stands for.
SERVICES: Final = {
    service: frozenset(rpc for rpc, method in METHODS.items() if method.service == service)
    for service in (QUALITY_CONTROL, SESSIONS, EVENTS)
}
