"""The port to what is known of recoveries: whom to sign in again, how far that is, and who is at it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qc_adapter.model.session import Session
    from qc_adapter.sessions.orders import Kept, Stage


@dataclass(frozen=True, slots=True)
class Case:
    """
    One inspector to be recovered, for the replica that has the `claim`.

    `retcode` is what the gateway said when it had forgotten the session. `doubtful` means that an attempt of the last
    minutes may have signed in without anybody knowing its GUID.
    """

    agent_id: str
    stage: Stage
    sealed: str
    claim: str
    retcode: str = ""
    attempts: int = 0
    doubtful: bool = False
    #: How long ago we took the session over from another client; None if that was never.
    taken_ago_seconds: float | None = None
    monitored: tuple[str, ...] = ()


class RecoveryBook(Protocol):
    """
    Keeps recoveries for all replicas. Every method raises `StoreUnavailable`, and may then be repeated.

    What is said about a case counts only while its claim does: not after another replica has claimed it, and not after
    the inspector was signed in or out by somebody else. `False` says so.
    """

    async def due(self, most: int, claim_seconds: float, keys: Sequence[str]) -> Sequence[Case]:
        """
        Claim what is due; others may have it after that time.

        What was sealed with none of the named keys is left to a replica that has the key. If none has come for minutes,
        it is claimed all the same: somebody has to give it up.
        """
        ...

    async def put_off(self, case: Case, stage: Stage, detail: str, seconds: float, *, doubtful: bool) -> bool:
        """Let it be due again after that time."""
        ...

    async def signed_in(self, case: Case, session: Session, *, forced: bool) -> bool:
        """Store the new session in place of the lost one and have its events read, with a gap before them."""
        ...

    async def settle(self, case: Case, detail: str) -> bool:
        """End the recovery: all is as it was, or the detail says what is wanting."""
        ...

    async def give_up(self, case: Case, retcode: str, detail: str, *, conflict: bool) -> bool:
        """End the recovery: the session is lost, the orders are dropped, and the streams end."""
        ...


class KeptOrders(Protocol):
    """Tells what is kept for inspectors; raises `StoreUnavailable`."""

    async def kept(self, agent_ids: Sequence[str]) -> Mapping[str, Kept]:
        """Return what is kept for those for whom anything is."""
        ...
