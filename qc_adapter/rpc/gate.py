"""What a call passes before its handler sees it: who calls, is there room, can it be recorded, is it allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, Self

from qc_adapter.access.caller import ANONYMOUS
from qc_adapter.model.inspector import gateway_of, inspector_id, number_of

if TYPE_CHECKING:
    from types import TracebackType

    from qc_adapter.access.caller import Caller
    from qc_adapter.rpc.call import Call


class Callers(Protocol):
    """Finds out who calls."""

    async def identify(self, call: Call) -> Caller:
        """Return who it is by certificate or token; raises `CallerUnknown`."""
        ...


class Place(Protocol):
    """What a call holds of the limits, until it leaves or its `with` ends."""

    def fit(self, size: int) -> None:
        """Raise `LimitReached` if a request of so many bytes is too long."""
        ...

    def follow(self, agent_id: str) -> None:
        """Hold one of the inspector's streams too; raises `LimitReached`."""
        ...

    def answered(self) -> None:
        """Note that the first message went out: from now on the call is no more than an open stream."""
        ...

    def leave(self) -> None:
        """Give everything back: the call has ended."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Room(Protocol):
    """Keeps callers to their limits."""

    def admit(self, call: Call) -> Place:
        """Return what the call holds while it runs; raises `LimitReached`."""
        ...


class Rights(Protocol):
    """Knows what each caller may do."""

    def name_of(self, caller: Caller) -> str:
        """Return the caller's name in the policy, empty if it has none."""
        ...

    def allow(self, call: Call, request: Any) -> None:
        """Raise `CallerNotAllowed` if the policy has no rule for it."""
        ...


class Records(Protocol):
    """Puts on record what is done."""

    def open(self, call: Call, request: Any) -> None:
        """Note what the call asks for; raises `AuditUnavailable` if it has to be recorded and cannot be."""
        ...


class Anyone:
    """Asks nobody who he is."""

    async def identify(self, call: Call) -> Caller:  # noqa: ARG002
        """Return the caller without a name."""
        return ANONYMOUS


class Nothing:
    """A place where there is room for everybody."""

    def fit(self, size: int) -> None:
        """Take any."""

    def follow(self, agent_id: str) -> None:
        """Hold nothing."""

    def answered(self) -> None:
        """Hold nothing."""

    def leave(self) -> None:
        """Hold nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Unlimited:
    """Has room for everybody."""

    def admit(self, call: Call) -> Place:  # noqa: ARG002
        """Hold nothing."""
        return Nothing()


class AllRights:
    """Allows everything: there is no policy."""

    def name_of(self, caller: Caller) -> str:  # noqa: ARG002
        """Know nobody by name."""
        return ""

    def allow(self, call: Call, request: Any) -> None:
        """Allow it."""


class NoRecords:
    """Records nothing."""

    def open(self, call: Call, request: Any) -> None:
        """Let it pass."""


class Gate:
    """All in their order: who it is, room for it, and when the request is read the record of it and its right."""

    def __init__(
        self,
        callers: Callers | None = None,
        room: Room | None = None,
        rights: Rights | None = None,
        records: Records | None = None,
    ) -> None:
        self._callers = callers or Anyone()
        self._room = room or Unlimited()
        self._rights = rights or AllRights()
        self._records = records or NoRecords()

    async def enter(self, call: Call) -> Place:
        """Note who calls, and return what the call holds of the limits; raises `CallerUnknown`, `LimitReached`."""
        call.caller = await self._callers.identify(call)
        call.caller_name = self._rights.name_of(call.caller)
        return self._room.admit(call)

    def allow(self, call: Call, request: Any, place: Place) -> None:
        """
        Raise `CallerNotAllowed` if the caller may not do what it asks for, `AuditUnavailable` if nobody may now.

        A stream is one of its inspector's from here on; raises `LimitReached` if that has too many.
        """
        self._records.open(call, request)
        self._rights.allow(call, request)
        if call.streaming and (agent_id := getattr(request, "agent_id", "")):
            place.follow(inspector_id(gateway_of(agent_id), number_of(agent_id)))
        call.passed = True
