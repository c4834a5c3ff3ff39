"""
How session records are written and read: GUID and cookies sealed, or in plain text.

Other systems write `guid` and `cookies`. We write `sealed_guid`, `sealed_cookies` and, for the scripts to compare, the
`mark` of the GUID. What stands there plain beside them was written later, by another system, and counts. What is sealed
says whose it is and what: moved to another inspector's record or another field it opens for nobody.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final

import structlog

from qc_adapter.model.errors import SessionUnreadable
from qc_adapter.model.session import Secret, Session
from qc_adapter.sessions.record import UnreadableRecord, key_of, mark_of, read_record, storable, to_fields
from qc_adapter.sessions.script import ASKS, NO, YES
from qc_adapter.store.seal import NAME_ENDS, Unsealable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from qc_adapter.model.session import Renewal
    from qc_adapter.store.seal import Seal

#: How a record may lie there, beside the names of keys.
PLAIN: Final = "plain"
_VALUES: Final = ("guid", "cookies")
_SEALED: Final = "sealed_"
_MARK: Final = "mark"
#: How a sealed text begins; scripts look for the same.
_KEY = re.compile(f"([0-9A-Fa-f]{{8}}){NAME_ENDS}")
#: So many values are not opened again while they stay the same; one replica reads for 20,000 inspectors.
_MOST_KNOWN: Final = 65_536


_WAITS: Final = (
    "sessions are stored in plain text: a replica is there, or was in the last hour, whose release reads nothing else"
)


class Records:
    """
    Writes records in one form and reads all. With `plain` a seal only opens.

    They are sealed with the first key that all replicas have. Beside replicas of a release that reads plain records
    only a seal waits, unless it is to be used `at_once`. Once it is in use it stays so, whoever comes.
    """

    def __init__(self, seal: Seal | None = None, *, plain: bool = False, at_once: bool = False) -> None:
        self._seal = seal
        self._key = "" if seal is None or plain else seal.names[0]
        #: Whether records are sealed: as the scripts take it.
        self.seals = NO if not self._key else YES if at_once else ASKS
        #: Whether nothing is known of the other replicas yet.
        self.unknown = bool(self._key)
        self._log = structlog.get_logger()
        #: What each value looked like sealed when it was last opened or closed: most reads find it unchanged.
        self._known: dict[tuple[str, str], tuple[str, str]] = {}

    @property
    def keys(self) -> tuple[str, ...]:
        """The names of the keys that records are opened with here."""
        return () if self._seal is None else self._seal.names

    @property
    def key(self) -> str:
        """The name of the key that records are sealed with; empty where they are written in plain text."""
        return self._key

    def answered(self, key: str) -> None:
        """Take the name of the key to seal with, empty while nothing may be sealed."""
        if self.seals == NO:
            return
        if not key and self.unknown:
            self._log.warning("sealing_waits", detail=_WAITS)
        elif key and not self._key:
            self._log.info("sealing_begins", detail="every replica can read sealed sessions")
        self.seals = YES if key else ASKS
        self._key, self.unknown = key, False

    def to_fields(self, session: Session) -> tuple[str, ...]:
        """Return the whole record as names and values in turn."""
        values = self._written(session.agent_id, "guid", session.guid.reveal())
        return to_fields(session) + values + self._written(session.agent_id, "cookies", session.cookies.reveal())

    def to_changes(self, agent_id: str, renewal: Renewal) -> tuple[str, ...]:
        """Return the fields that a renewal changes, as names and values in turn."""
        checked = storable(Session("", Secret("-")).renewed(renewal))
        fields: tuple[str, ...] = ()
        if renewal.guid is not None:
            fields += self._written(agent_id, "guid", checked.guid.reveal())
        if renewal.cookies is not None:
            fields += self._written(agent_id, "cookies", checked.cookies.reveal())
        return fields

    def read(self, agent_id: str, stored: Sequence[bytes]) -> Session | None:
        """Return the session from names and values in turn, None for an empty record; raises `SessionUnreadable`."""
        if not stored:
            return None
        try:
            fields = _decoded(stored)
            guid = self._value(agent_id, fields, "guid")
            if "guid" not in fields and guid and mark_of(guid) != fields.get(_MARK):
                raise UnreadableRecord("its mark is not that of its guid")  # noqa: TRY301 - said like the others
            return read_record(agent_id, fields, guid, self._value(agent_id, fields, "cookies"))
        except UnreadableRecord as error:
            raise SessionUnreadable(agent_id, f"the record {key_of(agent_id)}: {error}", error.key) from None

    def to_recast(self, agent_id: str, stored: Sequence[bytes]) -> tuple[str | int, ...]:
        """
        Return what the script RECAST needs to put a record into the form of this replica; nothing if it is in it.

        That seals what others wrote, and lets a key go out of use. Raises `SessionUnreadable`.
        """
        try:
            fields = _decoded(stored)
        except UnreadableRecord:
            return ()
        stale = [name for name in _VALUES if not self._in_form(fields, name)]
        session = self.read(agent_id, stored) if stale else None
        if session is None:
            return ()
        values = {"guid": session.guid.reveal(), "cookies": session.cookies.reveal()}
        guards = [(name, _digest(fields.get(name))) for one in stale for name in (one, _SEALED + one)]
        changes = [part for name in stale for part in self._written(agent_id, name, values[name])]
        return (agent_id, len(guards), *(part for guard in guards for part in guard), *changes)

    def _in_form(self, fields: Mapping[str, str], name: str) -> bool:
        plain, sealed = fields.get(name), fields.get(_SEALED + name)
        if not self.key:
            return plain is not None or sealed is None
        return not plain and (sealed is None or _key_of(sealed) == self.key)

    def _written(self, agent_id: str, name: str, value: str) -> tuple[str, ...]:
        """Return a value as fields; an empty one hides nothing."""
        if self._seal is None or not self._key or not value:
            return (name, value)
        sealed = self._seal.close(f"{name} {agent_id}\n{value}".encode(), self._key)
        self._keep(agent_id, name, sealed, value)
        fields = (_SEALED + name, sealed)
        return (*fields, _MARK, mark_of(value)) if name == "guid" else fields

    def _value(self, agent_id: str, fields: Mapping[str, str], name: str) -> str:
        plain, sealed = fields.get(name), fields.get(_SEALED + name)
        if plain is not None or sealed is None:
            return plain or ""
        known = self._known.get((agent_id, name))
        if known is not None and known[0] == sealed:
            return known[1]
        value = self._opened(agent_id, name, sealed)
        self._keep(agent_id, name, sealed, value)
        return value

    def _opened(self, agent_id: str, name: str, sealed: str) -> str:
        key = _key_of(sealed)
        if not key:
            raise UnreadableRecord(f"its {_SEALED}{name} is no sealed text")
        if key not in self.keys:
            raise UnreadableRecord(
                f"it is sealed with key {key}, which QC_SEAL_KEYS of this replica does not hold", key
            )
        if self._seal is None:
            raise TypeError("without a seal there are no keys")
        try:
            whose, _, value = self._seal.open(sealed).decode().partition("\n")
        except (Unsealable, UnicodeDecodeError):
            raise UnreadableRecord(f"its {_SEALED}{name} was changed after it was sealed") from None
        if whose != f"{name} {agent_id}":
            raise UnreadableRecord(f"its {_SEALED}{name} was sealed as something else")
        return value

    def _keep(self, agent_id: str, name: str, sealed: str, value: str) -> None:
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[agent_id, name] = sealed, value


def forms_of(stored: Sequence[bytes]) -> set[str]:
    """Return the names of the keys that a record is sealed with, and `PLAIN` for what lies there in plain text."""
    try:
        return set(_forms(_decoded(stored)))
    except UnreadableRecord:
        return set()


def _forms(fields: Mapping[str, str]) -> Iterator[str]:
    for name in _VALUES:
        plain, sealed = fields.get(name), fields.get(_SEALED + name)
        if plain:
            yield PLAIN
        if sealed and (key := _key_of(sealed)):
            yield key


def _decoded(stored: Sequence[bytes]) -> dict[str, str]:
    try:
        parts = [part.decode() for part in stored]
    except UnicodeDecodeError:
        raise UnreadableRecord("it is not UTF-8") from None
    return dict(zip(parts[::2], parts[1::2], strict=True))


def _key_of(sealed: str) -> str:
    """Return the name of the key, empty for what is no sealed text at all."""
    found = _KEY.match(sealed)
    return found[1] if found else ""


def _digest(value: str | None) -> str:
    """Return what the script compares a value with; empty for one that must not be there."""
    return "" if value is None else hashlib.sha1(value.encode(), usedforsecurity=False).hexdigest()
