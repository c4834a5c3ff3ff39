"""The measures of a chaos run: the long form keeps the real times of gateway and adapter, the short one a tenth."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final

FIRST_INSPECTOR: Final = 1000
#: The sign-out rule counts polls only: a command that keeps a sign-in alive would hide that nobody polls.
_GATEWAY: Final = {"only_polls_keep_alive": True, "phone_connected": True, "recorded_requests": 200_000}


@dataclass(frozen=True, slots=True)
class Form:
    """How big, how fast and how long."""

    inspectors: int = 200
    replicas: int = 3
    lease_seconds: float = 30.0
    hold_seconds: float = 10.0
    drain_seconds: float = 2.0
    bookmark_seconds: float = 2.0
    #: A watcher that hears nothing for that long goes to another replica.
    patience_seconds: float = 6.0
    #: Injected, all inspectors together; commands bring about as many again.
    events_a_second: float = 20.0
    workers: int = 6
    #: Between two cycles of commands of one worker.
    pace_seconds: float = 5.0
    #: One attempt of a command, and all of them.
    attempt_seconds: float = 8.0
    command_seconds: float = 30.0
    #: Load before the fault, and after it.
    before_seconds: float = 3.0
    after_seconds: float = 5.0
    #: How long an outage lasts, how long something is slow or unreliable, and how long random faults go on.
    away_seconds: float = 5.0
    trouble_seconds: float = 40.0
    storm_seconds: float = 60.0
    #: Whether an outage of the store may outlive a lease whose renewal was due.
    tight: bool = False
    #: After a fault everyone has caught up within that time.
    settle_seconds: float = 90.0
    gateway: dict[str, Any] = field(default_factory=dict)
    #: Whether the gateway pushes events; else the adapter polls.
    pushes: bool = False
    heartbeat_seconds: float = 30.0
    #: The gateway waits that long for the answer to a push, and after one that failed.
    push_answer_seconds: float = 5.0
    push_retry_seconds: float = 10.0

    @property
    def longer_than_lease_seconds(self) -> float:
        """Long enough for another replica to have taken over."""
        return self.lease_seconds * 1.2 + 0.5

    def patient(self) -> Form:
        """Return the form with the gateway's real times: sentinels take theirs, 8 s before a late master is demoted."""
        return replace(self, gateway={})

    def pushed(self) -> Form:
        """Return the form with pushed events."""
        return replace(self, pushes=True)

    def inspector_ids(self) -> list[str]:
        """Return who is signed in."""
        return [str(FIRST_INSPECTOR + number) for number in range(self.inspectors)]

    def simulator(self) -> dict[str, Any]:
        """Return the settings of the simulated gateway."""
        pushes = {"push_timeout_seconds": self.push_answer_seconds, "push_retry_seconds": self.push_retry_seconds}
        return {**_GATEWAY, "poll_hold_seconds": self.hold_seconds, **pushes, **self.gateway}

    def adapter(self) -> dict[str, str]:
        """Return the settings of each replica, but for addresses."""
        return {
            "QC_LEASE_SECONDS": f"{self.lease_seconds:g}",
            "QC_POLL_HOLD_SECONDS": f"{self.hold_seconds:g}",
            "QC_BOOKMARK_SECONDS": f"{self.bookmark_seconds:g}",
            "QC_DRAIN_SECONDS": f"{self.drain_seconds:g}",
            "QC_EVENT_SOURCE": "push" if self.pushes else "poll",
            "QC_HEARTBEAT_SECONDS": f"{self.heartbeat_seconds:g}",
            "QC_PUSH_RETRY_SECONDS": f"{self.push_retry_seconds:g}",
        }


LONG: Final = Form()
SHORT: Final = Form(
    inspectors=12,
    lease_seconds=2.5,
    hold_seconds=0.5,
    drain_seconds=0.2,
    bookmark_seconds=0.5,
    patience_seconds=2.0,
    workers=3,
    pace_seconds=0.5,
    attempt_seconds=2.0,
    command_seconds=5.0,
    before_seconds=0.5,
    after_seconds=0.5,
    away_seconds=1.0,
    trouble_seconds=2.0,
    storm_seconds=3.0,
    tight=True,
    settle_seconds=20.0,
    # More than a tenth: processes start as slowly as ever, and on a machine that is busy with other tests three of them
    # one after the other take longer than a GUID would live.
    gateway={
        "max_silence_seconds": 20.0,
        "guid_interval_seconds": 6.0,
        "guid_timeout_seconds": 24.0,
        "push_fail_seconds": 20.0,
    },
    heartbeat_seconds=2.0,
    push_answer_seconds=0.5,
    push_retry_seconds=1.0,
)
