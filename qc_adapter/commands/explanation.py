"""Why the gateway may have refused a command: what the inspector did, and what is missing for the command."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from qc_adapter.events.activity import InspectorState
from qc_adapter.gateway import operations
from qc_adapter.model.errors import GatewayRefused, Seen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qc_adapter.commands.model import Command
    from qc_adapter.events.activity import Activity
    from qc_adapter.gateway.operations import Operation

#: "Resource unavailable", "wrong state" and "not possible in this state".
_ABOUT_STATE: Final = frozenset({"900-003", "900-005", "100-009"})

_IDLE: Final = frozenset({InspectorState.IDLE})
_LISTENING_OR_INSERTED: Final = frozenset({InspectorState.LISTENING, InspectorState.INSERTED})
_WHISPERING: Final = frozenset({InspectorState.WHISPERING})
_INSPECTING: Final = _LISTENING_OR_INSERTED | _WHISPERING

#: In which states of the inspector the gateway takes a command (its contract: state machine of an inspector).
NEEDS: Final[Mapping[Operation, frozenset[InspectorState]]] = {
    operations.LISTEN: _IDLE,
    operations.INSERT: _IDLE,
    operations.WHISPER: _IDLE,
    operations.INTERCEPT: _INSPECTING,
    operations.INTERCEPT_CALL: _INSPECTING,
    operations.SWITCH_MODE: _INSPECTING,
    operations.TOGGLE_LISTEN_INSERT: _LISTENING_OR_INSERTED,
    operations.STOP_INSPECTING: _LISTENING_OR_INSERTED,
    operations.STOP_WHISPERING: _WHISPERING,
}

_DOES: Final[Mapping[InspectorState, str]] = {
    InspectorState.IDLE: "idle",
    InspectorState.SEIZED: "seized for an inspection{of}",
    InspectorState.LISTENING: "listening{to}",
    InspectorState.INSERTED: "in the call{of}",
    InspectorState.WHISPERING: "whispering{to}",
    InspectorState.INTERCEPTED: "talking with the customer{of}",
    InspectorState.SIGNED_OUT: "signed out",
    InspectorState.AWAY: "away (busy, resting, or on a call of its own)",
}
#: What leads from a state to one in which an inspector can begin.
_TO_IDLE: Final[Mapping[InspectorState, str]] = {
    InspectorState.SEIZED: "wait until its phone is picked up, then stop inspecting",
    InspectorState.LISTENING: "stop inspecting first",
    InspectorState.INSERTED: "stop inspecting first",
    InspectorState.WHISPERING: "stop whispering first",
    InspectorState.INTERCEPTED: "end its call first",
    InspectorState.SIGNED_OUT: "sign in first",
    InspectorState.AWAY: "make it idle first",
}
_TO_INSPECTING: Final[Mapping[InspectorState, str]] = {
    InspectorState.IDLE: "listen, insert or whisper first",
    InspectorState.SEIZED: "wait until its phone is picked up",
    InspectorState.INTERCEPTED: "it has taken the call over, no inspection is under way",
    InspectorState.SIGNED_OUT: "sign in, then listen, insert or whisper first",
    InspectorState.AWAY: "make it idle, then listen, insert or whisper first",
}


def explained(refusal: GatewayRefused, command: Command, seen: Activity) -> GatewayRefused:
    """Return the refusal; where the inspector's state may be the reason, with the state that the adapter saw."""
    needed = NEEDS.get(command.request.operation)
    if needed is not None and refusal.retcode in _ABOUT_STATE and seen.state is not InspectorState.UNKNOWN:
        hint = f"The adapter saw inspector {command.agent_id} {_does(seen)}: {_missing(command, needed, seen)}."
        refusal.seen = Seen(seen.state.value, seen.work_no, hint)
    return refusal


def _does(seen: Activity) -> str:
    who = seen.work_no
    text = _DOES[seen.state].format(of=f" of {who}" if who else "", to=f" to {who}" if who else "")
    doubt = " (events may have been lost since)" if seen.doubtful else ""
    return f"{text} since {_clock(seen.since)}{doubt}" if seen.since else text + doubt


def _missing(command: Command, needed: frozenset[InspectorState], seen: Activity) -> str:
    if seen.state in needed:
        if seen.work_no and seen.work_no != command.work_no:
            return f"name agent {seen.work_no}, or stop that inspection first"
        return f"that would do, so look at agent {command.work_no}: does it have a call?"
    if needed is _IDLE:
        return _TO_IDLE[seen.state]
    if seen.state is InspectorState.WHISPERING:
        return "stop whispering, or switch its mode first"
    if seen.state in _LISTENING_OR_INSERTED:
        return "stop inspecting instead"
    return _TO_INSPECTING[seen.state]


def _clock(seconds: float) -> str:
    """Return a time of day, with the date if it is not today's."""
    then, now = datetime.fromtimestamp(seconds, UTC), datetime.fromtimestamp(time.time(), UTC)
    return f"{then:%H:%M:%S} UTC" if then.date() == now.date() else f"{then:%Y-%m-%d %H:%M:%S} UTC"
