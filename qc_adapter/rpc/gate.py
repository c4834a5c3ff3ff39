"""What a call passes before its handler sees it: who calls, whether there is room, whether it is allowed."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

from qc_adapter.access.caller import ANONYMOUS

if TYPE_CHECKING:
    from qc_adapter.access.caller import Caller
    from qc_adapter.rpc.calls import Call


class Callers(Protocol):
    """Finds out who calls."""

    async def identify(self, call: Call) -> Caller:
        """Return who it is by certificate or token; raises `CallerUnknown`."""
        ...


class Room(Protocol):
    """Keeps callers to their limits."""

    def admit(self, call: Call, size: int) -> AbstractContextManager[None]:
        """Return what the call holds while it runs; `size` is that of its request in bytes. Raises `LimitReached`."""
        ...


class Rights(Protocol):
    """Knows what each caller may do."""

    def name_of(self, caller: Caller) -> str:
        """Return the caller's name in the policy, empty if it has none."""
        ...

    def allow(self, call: Call, request: Any) -> None:
        """Raise `CallerNotAllowed` if the policy has no rule for it."""
        ...


class Anyone:
    """Asks nobody who he is."""

    async def identify(self, call: Call) -> Caller:  # noqa: ARG002
        """Return the caller without a name."""
        return ANONYMOUS


class Unlimited:
    """Has room for everybody."""

    def admit(self, call: Call, size: int) -> AbstractContextManager[None]:  # noqa: ARG002
        """Hold nothing."""
        return nullcontext()


class AllRights:
    """Allows everything: there is no policy."""

    def name_of(self, caller: Caller) -> str:  # noqa: ARG002
        """Know nobody by name."""
        return ""

    def allow(self, call: Call, request: Any) -> None:
        """Allow it."""


class Gate:
    """The three in their order: who it is, room for it, and when the request is read whether it is allowed."""

    def __init__(self, callers: Callers | None = None, room: Room | None = None, rights: Rights | None = None) -> None:
        self._callers = callers or Anyone()
        self._room = room or Unlimited()
        self._rights = rights or AllRights()

    async def enter(self, call: Call, size: int) -> AbstractContextManager[None]:
        """Note who calls, and return what the call holds of the limits; raises `CallerUnknown`, `LimitReached`."""
        call.caller = await self._callers.identify(call)
        call.caller_name = self._rights.name_of(call.caller)
        return self._room.admit(call, size)

    def allow(self, call: Call, request: Any) -> None:
        """Raise `CallerNotAllowed` if the caller may not do what it asks for."""
        self._rights.allow(call, request)
