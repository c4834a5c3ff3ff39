"""From the body of a sign-in to what it asks for; whatever type its members have."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qc_adapter.simulator.agents import Posture

PASSWORD_LENGTH: Final = 32
CALLBACK_LENGTH: Final = 200
TOKEN_LENGTH: Final = 50
_STATUSES: Final[dict[str, Posture]] = {"3": "busy", "4": "idle", "5": "work"}
# The reference says "no special characters"; these are what identifiers are made of.
_TOKEN: Final = re.compile(r"[A-Za-z0-9._-]+")
_CALLBACK: Final = re.compile(r"https?://[A-Za-z0-9.:\[\]_-]+(/[^\s\"<>\\^`{|}]*)?")


@dataclass(frozen=True, slots=True)
class SignInForm:
    """What one sign-in asks for."""

    password: str = field(repr=False)
    phone_number: str
    posture: Posture
    auto_enter_idle: bool
    listen_status: bool
    # Both or none: one alone means polling.
    callback: str = ""
    token: str = field(default="", repr=False)

    @property
    def pushes(self) -> bool:
        """Whether events are to be pushed."""
        return bool(self.callback and self.token)


def read(fields: Mapping[str, Any] | None) -> SignInForm | str:
    """Return the form, or the retcode that refuses it."""
    if not fields:
        return "100-001"
    callback, token = text(fields.get("callBackUri")), text(fields.get("serviceToken"))
    if not is_callback(callback) or not is_token(token):
        return "100-001"
    posture = _STATUSES.get(text(fields.get("status"), "4"))
    password = text(fields.get("password"))
    if posture is None or len(password) > PASSWORD_LENGTH:
        return "100-011"
    return SignInForm(
        password=password,
        phone_number=text(fields.get("phonenum")),
        posture=posture,
        auto_enter_idle=_flag(fields.get("autoenteridle"), default=True),
        listen_status=_flag(fields.get("listenStatus"), default=False),
        callback=callback,
        token=token,
    )


def is_token(token: str) -> bool:
    """Tell whether a service token is one that the gateway takes; none is fine."""
    return not token or (len(token) <= TOKEN_LENGTH and _TOKEN.fullmatch(token) is not None)


def is_callback(address: str) -> bool:
    """Tell whether a callback address is one that the gateway takes; none is fine."""
    return not address or (len(address) <= CALLBACK_LENGTH and _CALLBACK.fullmatch(address) is not None)


def text(value: Any, default: str = "") -> str:
    """Read a text that may come as a number."""
    return default if value is None else str(value)


def _flag(value: Any, *, default: bool) -> bool:
    """Read a flag that may come as text, number or bool."""
    if value is None:
        return default
    return str(value).lower() in ("true", "1")
