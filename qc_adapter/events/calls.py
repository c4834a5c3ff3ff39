"""Which calls an inspector is in, by the events that came so far."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from qc_adapter.events import model

if TYPE_CHECKING:
    from collections.abc import Iterable

    from qc_adapter.events.model import AgentEvent

_LEFT_CALL: Final = frozenset({model.CALL_RELEASE, model.CUSTOMER_RELEASE})
_LEFT_ALL: Final = frozenset({model.PHONE_RELEASE, model.READY, model.WORK, model.SHUTDOWN})


class Calls:
    """The calls an inspector talks on, by their ids."""

    __slots__ = ("_talking",)

    def __init__(self, talking: Iterable[str] = ()) -> None:
        self._talking = set(talking)

    @property
    def talking(self) -> frozenset[str]:
        """The ids of the calls."""
        return frozenset(self._talking)

    def observe(self, event: AgentEvent) -> None:
        """Take an event into account."""
        if event.event_type == model.TALKING:
            if event.call_id:
                self._talking.add(event.call_id)
        elif event.event_type in _LEFT_CALL:
            self._talking.discard(event.call_id)
        elif event.event_type in _LEFT_ALL:
            self._talking.clear()
