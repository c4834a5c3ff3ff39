"""Every event type that the gateway is known to tell: the closed set of the metrics, and the list in docs/events.md."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from qc_adapter.events.event_table import ROWS

if TYPE_CHECKING:
    from collections.abc import Mapping

_FIELD: Final = "field"
_BARE_CALL_ID: Final = "callid"


class Category(StrEnum):
    """What events are about, in the order of the documents."""

    INSPECTION = "inspection"
    STATE = "state"
    CALL = "call"
    RECORDING = "recording"
    PHONE = "phone"
    LINKED_PHONE = "linked phone"
    SESSION = "session"
    CONFERENCE = "conference"
    TEXT_AND_VIDEO = "text and video"
    OTHER = "other"


class Receiver(StrEnum):
    """Whose poll or push brings the event."""

    AGENT = "agent"
    INSPECTOR = "inspector"
    INSPECTED_AGENT = "inspected agent"


class JsonType(StrEnum):
    """What a field of the content is; MIXED is a text or a number, ADDRESS an object that holds one."""

    TEXT = "text"
    NUMBER = "number"
    MIXED = "mixed"
    ADDRESS = "address"


@dataclass(frozen=True, slots=True)
class ContentField:
    """A key of an event's content."""

    name: str
    kind: JsonType
    optional: bool = False


@dataclass(frozen=True, slots=True)
class EventType:
    """
    One type of event.

    The content is an object of `fields`, or the bare call id with `bare_call_id`, or null. `pages` are those of the API
    reference that describe it; without one it was only seen in the field.
    """

    name: str
    category: Category
    meaning: str
    receiver: Receiver
    fields: tuple[ContentField, ...]
    bare_call_id: bool
    pages: tuple[str, ...]

    @property
    def documented(self) -> bool:
        """Whether a page of the API reference describes it."""
        return bool(self.pages)


def _fields(content: str) -> tuple[ContentField, ...]:
    if content in ("", _BARE_CALL_ID):
        return ()
    named = (part.split() for part in content.split(","))
    return tuple(ContentField(name, JsonType(kind.removesuffix("?")), kind.endswith("?")) for name, kind in named)


def _read_table() -> Mapping[str, EventType]:
    return MappingProxyType(
        {
            name: EventType(
                name,
                Category(category),
                meaning,
                Receiver(receiver),
                _fields(content),
                content == _BARE_CALL_ID,
                () if source == _FIELD else tuple(source.split()),
            )
            for name, category, meaning, receiver, content, source in ROWS
        }
    )


EVENT_TYPES: Final[Mapping[str, EventType]] = _read_table()
