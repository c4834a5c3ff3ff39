"""What a session record in Redis says, and which values may be stored at all; `records` knows how it is written."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from qc_adapter.model.errors import InvalidRequest
from qc_adapter.model.inspector import DEFAULT_GATEWAY, gateway_of, is_inspector_id, number_of
from qc_adapter.model.session import EventSource, Secret, Session, bare_guid
from qc_adapter.store import keys

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY_PREFIX = keys.SESSION
# Other systems write these records too. A reader refuses a higher major version than it knows.
RECORD_VERSION = 1

# At least as long as what the gateway package takes from a reply: a renewal that cannot be stored ends a sign-in.
_GUID = re.compile(r"[!-~]{1,4096}")
_COOKIES = re.compile(r"[ -~]{0,8192}")


class UnreadableRecord(Exception):
    """
    A stored record is not a session of the inspector it was looked up for. The text holds no stored value.

    With `key` it may well be one: it is sealed with the key of that name, which this replica does not have.
    """

    def __init__(self, why: str, key: str = "") -> None:
        super().__init__(why)
        self.key = key


def key_of(agent_id: str) -> str:
    """Return the key of the inspector's record."""
    return KEY_PREFIX + agent_id


def agent_id_of(key: bytes) -> str | None:
    """Return whose record the key names, or None if it names none."""
    agent_id = key.decode(errors="replace").removeprefix(KEY_PREFIX)
    return agent_id if is_inspector_id(agent_id) else None


def storable(session: Session) -> Session:
    """Return the session as it may be stored; its values go into HTTP headers later."""
    guid = bare_guid(session.guid.reveal())  # sign-in services copy the Set-GUID header as it came
    if not _GUID.fullmatch(guid):
        raise InvalidRequest([("guid", "must be 1 to 4096 printable ASCII characters without spaces")])
    if not _COOKIES.fullmatch(session.cookies.reveal()):
        raise InvalidRequest([("cookies", "must be at most 8192 printable ASCII characters")])
    return session if guid == session.guid.reveal() else replace(session, guid=Secret(guid))


def to_fields(session: Session) -> tuple[str, ...]:
    """Return what no one has to hide of a record, as names and values in turn."""
    return (
        "version", str(RECORD_VERSION),
        "agent_id", number_of(session.agent_id),
        "gateway", session.gateway,
        "event_source", session.event_source.value,
        "server_name", session.server_name,
        "signed_in_at", repr(session.signed_in_at),
    )  # fmt: skip


def read_record(agent_id: str, fields: Mapping[str, str], guid: str, cookies: str) -> Session:
    """Return the session that the record holds for this inspector, or raise `UnreadableRecord`."""
    _check_version(fields.get("version", ""))
    if fields.get("agent_id") != number_of(agent_id):
        # Either the record was written wrong, or the reply belongs to another request: both are another one's GUID.
        raise UnreadableRecord("its agent_id is not the one of its key")
    if (fields.get("gateway", "").strip() or DEFAULT_GATEWAY) != gateway_of(agent_id):
        raise UnreadableRecord("its gateway is not the one of its key: qc:session:<gateway>/<agent_id>")
    try:
        source = EventSource(fields.get("event_source", "").strip().lower() or EventSource.POLL)
    except ValueError:
        raise UnreadableRecord("its event_source is none of poll, push, none") from None
    if not guid:
        raise UnreadableRecord("it has no guid")
    session = Session(
        agent_id=agent_id,
        guid=Secret(guid),
        event_source=source,
        cookies=Secret(cookies),
        server_name=fields.get("server_name", ""),
        signed_in_at=_seconds(fields.get("signed_in_at", "")),
        # Not if another system has put another GUID in the place of the one that was forgotten.
        recovering="recovering" in fields and fields["recovering"] == mark_of(guid),
    )
    try:
        return storable(session)
    except InvalidRequest as error:
        # Without a colon after the name: what follows one is taken for a secret and hidden in the log.
        raise UnreadableRecord("; ".join(f"its {field} {what}" for field, what in error.violations)) from None


def mark_of(guid: str) -> str:
    """
    Return what names a GUID to scripts without telling it.

    A gateway's GUID has 122 random bits or more (cec_07_0005), so none is found from its mark by trying; one that could
    be, could as well be tried at the gateway.
    """
    return hashlib.sha1(bare_guid(guid).encode(), usedforsecurity=False).hexdigest()


def _check_version(text: str) -> None:
    """Accept a missing version, 1 and 1.x."""
    major = text.partition(".")[0] or str(RECORD_VERSION)
    if major != str(RECORD_VERSION):
        raise UnreadableRecord(f"its version is not {RECORD_VERSION}, which is all that this release reads")


def _seconds(text: str) -> float:
    """Return the time, or 0 as for a sign-in by another system: nothing but displays depends on it."""
    try:
        return float(text)
    except ValueError:
        return 0.0
