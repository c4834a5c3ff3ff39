"""How callers are named: by what their certificates and tokens prove."""

from __future__ import annotations

import re
from typing import Final

from qc_adapter.access.caller import ANONYMOUS

DNS: Final = "dns:"
_LONGEST: Final = 2048
_STAR: Final = "*"
#: What each kind begins with, looks like, and must be.
_FORMS: Final = (
    (
        "spiffe:",
        re.compile(r"spiffe://[a-z0-9._-]+(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._-]+)+", re.ASCII),
        "must be like spiffe://trust-domain/path, the trust domain in lower case",
    ),
    (
        DNS,
        re.compile(r"dns:(?=.{1,253}\Z)[a-z0-9_-]+(?:\.[a-z0-9_-]+)*", re.ASCII),
        "must be like dns:desk.example",
    ),
    (
        "jwt:",
        re.compile(r"jwt:[\x21-\x7e]{1,255}"),
        "must be jwt: and the subject of the token: at most 255 printable characters without spaces",
    ),
)


def read_identity(text: str) -> str:
    """Return an identity as it is compared; raises `ValueError` with a phrase that says what it must be."""
    identity = lowered(text)
    if identity == ANONYMOUS.name:
        return identity
    for begin, form, must in _FORMS:
        if identity.startswith(begin):
            if _STAR in identity and begin != "jwt:":
                raise ValueError("has a *, and an identity is compared as a whole: name each one")
            if len(identity) > _LONGEST or not form.fullmatch(identity):
                raise ValueError(must)
            return identity
    raise ValueError("must begin with spiffe://, dns: or jwt:, or be anonymous")


def lowered(name: str) -> str:
    """Return a name as it is compared: those of hosts have no letter case, whoever wrote them into a certificate."""
    return name.lower() if name[: len(DNS)].lower() == DNS else name
