"""How callers are named: by what their certificates and tokens prove."""

from __future__ import annotations

import re
from typing import Final

from qc_adapter.access.caller import ANONYMOUS

DNS: Final = "dns:"
_SPIFFE: Final = "spiffe:"
_JWT: Final = "jwt:"
_LONGEST_SPIFFE_ID: Final = 2048
_LONGEST_HOST: Final = 253
_STAR: Final = "*"
#: https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md: a trust domain, and a path without empty parts.
_SPIFFE_ID: Final = re.compile(r"spiffe://[a-z0-9._-]{1,255}(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._-]+)+")
_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_SUBJECT: Final = re.compile(r"[\x21-\x7e]{1,255}")


def is_spiffe_id(text: str) -> bool:
    """Whether the text is the SPIFFE id of a workload."""
    return len(text) <= _LONGEST_SPIFFE_ID and _SPIFFE_ID.fullmatch(text) is not None


def is_host(text: str) -> bool:
    """Whether the text is the name of one host, in lower case."""
    return len(text) <= _LONGEST_HOST and _HOST.fullmatch(text) is not None


def is_subject(text: str) -> bool:
    """Whether the text may be the subject of a token."""
    return _SUBJECT.fullmatch(text) is not None


#: What each kind begins with, how it is looked through, and what it must be.
_FORMS: Final = (
    (_SPIFFE, is_spiffe_id, "must be like spiffe://trust-domain/path, the trust domain in lower case"),
    (DNS, lambda identity: is_host(identity.removeprefix(DNS)), "must be like dns:desk.example"),
    (
        _JWT,
        lambda identity: is_subject(identity.removeprefix(_JWT)),
        "must be jwt: and the subject of the token: at most 255 printable characters without spaces",
    ),
)


def read_identity(text: str) -> str:
    """Return an identity as it is compared; raises `ValueError` with a phrase that says what it must be."""
    identity = lowered(text)
    if identity == ANONYMOUS.name:
        return identity
    for begin, fits, must in _FORMS:
        if identity.startswith(begin):
            if _STAR in identity and begin != _JWT:
                raise ValueError("has a *, and an identity is compared as a whole: name each one")
            if not fits(identity):
                raise ValueError(must)
            return identity
    raise ValueError("must begin with spiffe://, dns: or jwt:, or be anonymous")


def lowered(name: str) -> str:
    """Return a name as it is compared: those of hosts have no letter case, whoever wrote them into a certificate."""
    return name.lower() if name[: len(DNS)].lower() == DNS else name
