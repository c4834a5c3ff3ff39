"""Which receipts change what an inspector does, and who takes note of them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import parse_qs

from qc_adapter.events.inspection import Acceptance, Act, Mode
from qc_adapter.gateway import operations, requests

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qc_adapter.commands.run import CommandRun
    from qc_adapter.gateway.operations import Operation
    from qc_adapter.gateway.requests import GatewayRequest

_ACTS: Final[Mapping[Operation, tuple[Act, Mode | None]]] = {
    operations.LISTEN: (Act.BEGIN, Mode.LISTENING),
    operations.INSERT: (Act.BEGIN, Mode.INSERTED),
    operations.WHISPER: (Act.BEGIN, Mode.WHISPERING),
    operations.SWITCH_MODE: (Act.SWITCH, None),
    operations.TOGGLE_LISTEN_INSERT: (Act.TOGGLE, None),
    operations.INTERCEPT: (Act.INTERCEPT, None),
    operations.INTERCEPT_CALL: (Act.INTERCEPT, None),
    # That an inspection was stopped, its events say.
}
_MODES: Final = {
    requests.Mode.LISTEN: Mode.LISTENING,
    requests.Mode.INSERT: Mode.INSERTED,
    requests.Mode.WHISPER: Mode.WHISPERING,
}


class Receipts(Protocol):
    """Takes note of what the gateway accepted."""

    def note(self, agent_id: str, acceptance: Acceptance) -> None:
        """Take note, for other replicas too; never fails, never waits."""
        ...


def acceptance_of(run: CommandRun) -> Acceptance | None:
    """Return what the receipt of a command says of the inspection, None for commands that change none."""
    command = run.command
    act, mode = _ACTS.get(command.request.operation, (None, None))
    if act is None:
        return None
    if act is Act.SWITCH:
        mode = _mode_in(command.request)
    # Without a receipt its events have proven the command just now.
    accepted_at = time.time() if run.accepted is None else run.accepted.received_at
    return Acceptance(act, command.work_no, run.standing, run.sent_at, accepted_at, mode)


def doubt_of(run: CommandRun) -> Acceptance | None:
    """Return what a command leaves in doubt of which nobody knows whether it was done: the mode, if it changes that."""
    command = run.command
    act, _ = _ACTS.get(command.request.operation, (None, None))
    if act not in {Act.SWITCH, Act.TOGGLE} or not run.standing.taken:
        return None
    return Acceptance(Act.SWITCH, command.work_no, run.standing, run.sent_at, time.time())


def _mode_in(request: GatewayRequest) -> Mode:
    [number] = parse_qs(request.query)["switchtype"]
    return _MODES[requests.Mode(int(number))]
