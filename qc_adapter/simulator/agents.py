"""Who an agent is to the gateway, and what one sign-in of his consists of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from qc_adapter.simulator.guids import GuidRing
    from qc_adapter.simulator.mailbox import Mailbox
    from qc_adapter.simulator.push import PushLine

Posture = Literal["idle", "busy", "work", "rest"]
SignOutReason = Literal[
    "own",
    "forced_own",
    "by_inspector",
    "taken_over",
    "silence",
    "control",
    "push_failed",
    "node_failed",
    "restart",
]
_GATEWAY_STATES: Final[dict[Posture, int]] = {"busy": 3, "idle": 4, "work": 5, "rest": 8}


@dataclass(slots=True)
class SignIn:
    """One signed-in client of an agent."""

    ring: GuidRing
    mailbox: Mailbox
    login_ms: int
    last_seen: float
    node: int
    # The node has failed, and another one is taking over.
    moving: bool = False
    auto_enter_idle: bool = True
    push: PushLine | None = None


@dataclass(slots=True)
class Agent:
    """Everything the gateway knows of one agent id."""

    agent_id: str
    exists: bool = True
    inspector: bool = True
    whisper: bool = True
    password: str | None = field(default=None, repr=False)
    wrong_passwords: int = 0
    locked: bool = False
    force_password_change: bool = False
    # Days until the password ends; None is never.
    password_days: int | None = None
    on_duty: bool = False
    phone_connected: bool = False
    phone_answered: bool = True
    posture: Posture = "idle"
    # A posture asked for during a call: it is taken when the call ends.
    next_posture: Posture | None = None
    posture_reason: str = "0"
    skills: tuple[int, ...] = ()
    call_id: str | None = None
    sign_in: SignIn | None = field(default=None, repr=False)

    @property
    def reachable(self) -> bool:
        """Whether the call floor has data on this agent."""
        return self.exists and (self.sign_in is not None or self.on_duty)

    @property
    def password_expired(self) -> bool:
        """Whether the password is beyond its days."""
        return self.password_days is not None and self.password_days < 0

    @property
    def gateway_state(self) -> int:
        """The agent's state in the gateway's numbers."""
        if not self.reachable:
            return 2
        return 7 if self.call_id is not None else _GATEWAY_STATES[self.posture]
