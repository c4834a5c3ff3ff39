"""The right to poll for inspectors: what a reader asks of it, whatever keeps it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from qc_adapter.events.activity import NOTHING_KNOWN, Activity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qc_adapter.events.model import Item
    from qc_adapter.model.session import Renewal, Session


class PollState(Enum):
    """What the reader of a session knows of it."""

    STARTING = "starting"
    ACTIVE = "active"
    DEGRADED = "degraded"
    LOST = "lost"
    RECOVERING = "recovering"


def poll_state(text: str) -> PollState | None:
    """Return the state of that name; None for none, and for one that a newer release knows."""
    return PollState(text) if text in {state.value for state in PollState} else None


def label_of(state: PollState, activity: Activity) -> str:
    """Return the one state that a session is counted under."""
    return activity.state.value if state is PollState.ACTIVE else state.value


@dataclass(frozen=True, slots=True)
class PollStatus:
    """
    How polling goes, and what the inspector does by the events and receipts.

    `answered_time` is seconds since the epoch, 0 before the first answer.
    """

    state: PollState
    answered_time: float = 0.0
    detail: str = ""
    activity: Activity = NOTHING_KNOWN


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """What one poll changes. `used` is the session that it was sent with; the same step may be stored twice."""

    used: Session
    renewal: Renewal | None
    items: tuple[Item, ...]
    state: PollState
    detail: str = ""


class Taken(Enum):
    """Whether a lease is taken away from its holder, and what that means for a poll that it cuts off."""

    NOT = ""
    #: The gateway may hold that poll on.
    REVOKED = "revoked"
    #: It belongs to an older sign-in, and ends with it.
    REPLACED = "replaced"


class LeaseLost(Exception):
    """Somebody else polls for the inspector by now, or is about to."""


class SessionGone(LeaseLost):
    """The session ended because somebody wanted it to: signed out, or signed in anew."""


class Lease(Protocol):
    """
    The right to poll for one inspector.

    Methods raise `StoreUnavailable` when nothing is known of what they did: then they may be repeated; `LeaseLost` when
    the right is gone, `SessionGone` with the session; `SessionUnreadable`.
    """

    @property
    def agent_id(self) -> str:
        """The inspector."""
        ...

    @property
    def holder(self) -> str:
        """What tells this lease from earlier and later ones of the inspector."""
        ...

    @property
    def activity(self) -> Activity:
        """What the inspector does, by what the last step found."""
        ...

    @property
    def remaining_seconds(self) -> float:
        """How long nobody else will poll, by our own clock; never more than it is."""
        ...

    async def session(self, seconds: float) -> Session | None:
        """Return the session to poll with, None if it is gone; extends the lease if it ends before that time."""
        ...

    async def keep(self, step: Step) -> Session | None:
        """Log the events, store the GUID and cookies and renew the lease, all or nothing; return what is stored."""
        ...

    async def end(self, used: Session, retcode: str, detail: str) -> PollState | None:
        """
        Give the lease up because the gateway ended the session.

        Says whether it is lost or recovering; None if another GUID is stored by now. Raises `SessionGone` if that was
        wanted.
        """
        ...

    async def park(self, unreadable: str = "") -> None:
        """Give the lease up until the session's record changes: it is not to be polled, or says why it cannot be."""
        ...

    async def release(self) -> None:
        """Hand the lease back, between two polls."""
        ...

    async def abandon(self) -> None:
        """Give the lease up although a poll may have been cut off."""
        ...


@dataclass(frozen=True, slots=True)
class Claim:
    """
    A lease that was just won; `forced` if it was taken from a reader that did not hand it back.

    `cut_off` if that reader's last poll may have been cut off just now, so that the gateway may still hold it.
    """

    lease: Lease
    forced: bool = False
    cut_off: bool = False
    #: How long ago the gateway answered the last poll for the inspector; None if that is not known.
    polled_ago_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Beat:
    """The leases that were won, how many this replica should have at most, and whose lease is gone."""

    claims: Sequence[Claim]
    share: int
    lost: frozenset[str] = frozenset()


class Rota(Protocol):
    """
    Who polls for whom. Every method raises `StoreUnavailable`.

    `shared` says whether other replicas would take over what is handed back.
    """

    @property
    def shared(self) -> bool: ...

    async def beat(self, held: Sequence[Lease], *, claiming: bool) -> Beat:
        """Show that this replica lives, renew what runs out, and claim what is free."""
        ...

    async def scan(self) -> Mapping[str, int]:
        """
        Notice sessions that came, changed or went without us, if it is our turn to look.

        Returns how many sessions of each gateway should have a reader and had none at this look and the one before: a
        lease that changes hands is none for a moment. Nothing if it is another replica's turn.
        """
        ...

    async def enlist(self, agent_id: str, taken: Taken = Taken.NOT) -> None:
        """Have somebody poll for a session at once."""
        ...

    async def leaving(self, agent_id: str) -> None:
        """Expect the end of a session that is being signed out; `retire` or `enlist` follows."""
        ...

    async def retire(self, agent_id: str) -> None:
        """End the polling and the streams of an inspector whose session is gone."""
        ...

    async def statuses(self, agent_ids: Sequence[str]) -> dict[str, PollStatus]:
        """Return how polling goes for those of them whose reader has said so."""
        ...
