"""What is to be done again when the gateway forgets a sign-in, and how it is kept: sealed, and readable to us only."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import orjson

from qc_adapter.gateway.requests import SignInForm, SkillReset
from qc_adapter.model.session import Secret
from qc_adapter.store.seal import Unsealable

if TYPE_CHECKING:
    from qc_adapter.store.seal import Seal

#: A sign-in that lived that long was a good one; of two that end earlier the second one is waited for.
QUIET_SECONDS: Final = 60.0
#: Between two attempts to sign in again.
LONGEST_PAUSE_SECONDS: Final = 15.0
#: A sign-in that the gateway said to be over may have been ended by an inspector, whose receipt is on its way then.
TOLD_PAUSE_SECONDS: Final = 1.0
#: What is said of a session that an inspector ended, after it was found to be gone.
FORCED_OUT: Final = "100-006"
SIGNED_OUT_BY_FORCE: Final = "an inspector has signed this one out by force"
#: The settings say where events are pushed to, not the caller; and the token is theirs.
_OF_THE_SETTINGS: Final = frozenset({"callback_uri", "service_token"})
_PLAIN: Final = tuple(one.name for one in fields(SignInForm) if one.name not in {*_OF_THE_SETTINGS, "password"})


class Stage(StrEnum):
    """How far a recovery has come."""

    SIGNING_IN = "signing_in"
    #: Another client has the session, and the caller wants it to be taken over.
    TAKING_OVER = "taking_over"
    #: Signed in: skills and monitoring are to be set anew.
    RESTORING = "restoring"
    #: Signed in, and the gateway refused skills or monitoring.
    WANTING = "wanting"


@dataclass(frozen=True, slots=True)
class Orders:
    """How to sign an inspector in again: with the same form, by force or not, and which skills to set then."""

    form: SignInForm
    force: bool = False
    skills: SkillReset | None = None


@dataclass(frozen=True, slots=True)
class SealedOrders:
    """Orders as a store keeps them; `forced` says that the sign-in took the session over just now."""

    sealed: str
    forced: bool = False


@dataclass(frozen=True, slots=True)
class Kept:
    """What is shown of what is kept for an inspector: whether there are orders, and how many agents are monitored."""

    again: bool = False
    monitored: int = 0


NOTHING_KEPT: Final = Kept()


def close(seal: Seal, agent_id: str, orders: Orders) -> str:
    """Return the orders sealed. They name their inspector: nobody else signs in with what was moved to its key."""
    content = {
        "agent_id": agent_id,
        "password": orders.form.password.reveal(),
        "form": {name: getattr(orders.form, name) for name in _PLAIN},
        "force": orders.force,
        "skills": None if orders.skills is None else asdict(orders.skills),
    }
    return seal.close(orjson.dumps(content))


def unseal(seal: Seal, agent_id: str, sealed: str) -> Orders:
    """Return what was sealed for that inspector; raises `Unsealable`."""
    content = orjson.loads(seal.open(sealed))
    if content["agent_id"] != agent_id:
        raise Unsealable
    skills = content["skills"]
    return Orders(
        SignInForm(password=Secret(content["password"]), **content["form"]),
        force=content["force"],
        skills=skills and SkillReset(skills["automatic"], tuple(skills["skill_ids"]), skills["phone_linkage"]),
    )
