"""What the headers of a reply change in a session: the next GUID, the balancer's cookies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from qc_adapter.gateway.wire import carriable
from qc_adapter.model.session import NO_SECRET, Renewal, Secret, bare_guid

if TYPE_CHECKING:
    from qc_adapter.gateway.wire import ReplyHeaders

_MAX_CHARS = 4096


@dataclass(frozen=True, slots=True)
class RenewalReading:
    """The renewal, if any, and whether a value was refused because no header may carry it."""

    renewal: Renewal | None = None
    refused: bool = False


NOTHING_READ: Final = RenewalReading()


def read_renewal(headers: ReplyHeaders, guid: Secret = NO_SECRET, cookies: Secret = NO_SECRET) -> RenewalReading:
    """
    Read `Set-GUID` and `Set-Cookie` of any reply, in any letter case.

    What the session has already is no renewal. A value with control characters, or too long, is refused
    and the present one stays: it would break out of the header it is sent back in.
    """
    guid_lines, cookie_lines = headers.all("set-guid"), headers.all("set-cookie")
    if not guid_lines and not cookie_lines:
        return NOTHING_READ
    new_guid, refused = _new_guid(guid_lines, guid)
    new_cookies, refused_cookie = _new_cookies(cookie_lines, cookies)
    refused = refused or refused_cookie
    if new_guid is None and new_cookies is None:
        return RenewalReading(refused=True) if refused else NOTHING_READ
    return RenewalReading(Renewal(new_guid, new_cookies), refused)


def read_guid(text: str) -> Secret | None:
    """Return a GUID as it is sent, None if there is none or no header may carry it."""
    guid = bare_guid(bare_guid(text).partition(";")[0].strip())
    if not guid or " " in guid or len(guid) > _MAX_CHARS or not carriable(guid):
        return None
    return Secret(guid)


def _new_guid(lines: list[str], present: Secret) -> tuple[Secret | None, bool]:
    refused = False
    found: Secret | None = None
    for value in lines:
        if not bare_guid(value).partition(";")[0].strip():
            continue
        guid = read_guid(value)
        refused = refused or guid is None
        found = guid or found
    return (None if found == present else found), refused


def _new_cookies(lines: list[str], present: Secret) -> tuple[Secret | None, bool]:
    if not lines:
        return None, False
    refused = False
    jar = dict(_pairs(present.reveal()))
    for line in lines:
        pair, _, attributes = line.partition(";")
        name, separator, value = (part.strip() for part in pair.partition("="))
        if not (name and separator) or " " in name or not carriable(pair):
            refused = True
        elif _ends(attributes):
            jar.pop(name, None)
        else:
            jar[name] = value
    merged = "; ".join(f"{name}={value}" for name, value in jar.items())
    if len(merged) > _MAX_CHARS:
        return None, True
    return (None if merged == present.reveal() else Secret(merged)), refused


def _pairs(cookies: str) -> list[tuple[str, str]]:
    found = []
    for pair in cookies.split(";"):
        name, separator, value = pair.strip().partition("=")
        if name and separator:
            found.append((name, value))
    return found


def _ends(attributes: str) -> bool:
    """Whether the balancer takes the cookie back."""
    for attribute in attributes.split(";"):
        name, _, value = attribute.strip().partition("=")
        if name.lower() == "max-age":
            return value.strip().startswith("-") or value.strip() == "0"
    return False
