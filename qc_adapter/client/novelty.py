"""What of a replayed command its reader has not seen yet: a joined run tells everything from its start."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qc_adapter.v1 import quality_control_pb2 as pb


class Novelty:
    """Remembers what was told of one command."""

    def __init__(self) -> None:
        self._receipts: set[int] = set()
        self.outcome: pb.CommandOutcome | None = None
        self.cursor = ""
        self._seen: set[str] = set()
        self._gaps: set[str] = set()

    @property
    def receipts(self) -> int:
        """How many receipts of the gateway were told."""
        return len(self._receipts)

    def admits(self, update: pb.CommandUpdate) -> bool:
        """Return whether the update is news, and remember it."""
        new = self._is_new(update)
        if new:
            self.cursor = update.cursor or self.cursor
        return new

    def _is_new(self, update: pb.CommandUpdate) -> bool:
        match update.WhichOneof("update"):
            case "accepted":
                # A command that goes out in batches has a receipt for each, all with another time.
                read_at = update.accepted.time.ToNanoseconds()
                new = read_at not in self._receipts
                self._receipts.add(read_at)
                self._seen.add(update.cursor)
            case "event":
                new = update.cursor not in self._seen
                self._seen.add(update.cursor)
            case "gap":
                # Up to a place that was seen nothing can be missing: the first stream told all before it.
                new = update.gap.to not in self._seen and update.cursor not in self._gaps
                self._gaps.add(update.cursor)
            case "outcome":
                new = self.outcome is None
                self.outcome = self.outcome or update.outcome
            case _:
                new = True
        return new
