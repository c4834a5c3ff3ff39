"""Reads what the gateway tells when an agent has signed in."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qc_adapter.gateway.envelope import plain_text
from qc_adapter.model.inspector import number_of
from qc_adapter.model.session import EventSource, Secret, Session

if TYPE_CHECKING:
    from qc_adapter.gateway.envelope import Envelope
    from qc_adapter.gateway.requests import SignInForm


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A new session and what the gateway tells about the agent."""

    session: Session
    vdn_id: str
    work_no: str
    media_type: str
    login_time_ms: int | None
    must_change_password: bool
    server_name: str
    password_days_left: int | None


def signed_in_of(agent_id: str, form: SignInForm, guid: Secret, cookies: Secret, envelope: Envelope) -> SignedIn:
    """Read the reply's result; fields come as text or native, and an odd result leaves them empty."""
    result = envelope.result if isinstance(envelope.result, dict) else {}
    server_name = _text(result.get("serverName"))
    session = Session(
        agent_id,
        guid,
        EventSource.PUSH if form.pushed else EventSource.POLL,
        cookies,
        server_name,
        time.time(),
    )
    return SignedIn(
        session,
        vdn_id=_text(result.get("vdnid")),
        work_no=_text(result.get("workno")) or number_of(agent_id),
        media_type=_text(result.get("mediatype")),
        login_time_ms=_number(result.get("loginTime")),
        must_change_password=_text(result.get("isForceChange")).lower() == "true",
        server_name=server_name,
        password_days_left=_number(result.get("timeRemaining")),
    )


def _text(value: Any) -> str:
    """Return text, numbers and flags as one printable line."""
    return plain_text(str(value)) if isinstance(value, str | int) else ""


def _number(value: Any) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19 else None
