"""What many streams tell at the same time is built once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from qc_adapter.rpc.convert import watch_message

if TYPE_CHECKING:
    from qc_adapter.events.model import Entry
    from qc_adapter.v1 import events_pb2 as pb

#: Streams that are told of an entry follow each other within milliseconds: more than these are not on their way then.
_MOST: Final = 32


class SharedMessages:
    """The messages of the entries that were told last."""

    def __init__(self) -> None:
        #: By the identity of the entry, which is held for as long; the oldest first.
        self._kept: dict[int, tuple[Entry, pb.WatchResponse]] = {}

    def of(self, entry: Entry, readers: int) -> pb.WatchResponse:
        """Return the message of an entry that so many streams read; none of them may change it."""
        if readers < 2:
            return watch_message(entry)
        kept = self._kept.get(id(entry))
        if kept is None:
            if len(self._kept) >= _MOST:
                del self._kept[next(iter(self._kept))]
            kept = self._kept[id(entry)] = entry, watch_message(entry)
        return kept[1]
