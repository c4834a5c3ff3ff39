"""Who calls: by the token of the call, else by the certificate of its connection; ends streams when the proof ends."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from qc_adapter.access.caller import ANONYMOUS, LEEWAY_SECONDS
from qc_adapter.access.certificates import caller_of_certificate
from qc_adapter.model.errors import CallerUnknown

if TYPE_CHECKING:
    from collections.abc import Callable

    from qc_adapter.access.caller import Caller
    from qc_adapter.access.tokens import Tokens
    from qc_adapter.rpc.calls import Call

_BY_JWT: Final = "jwt:"


class Counts(Protocol):
    """What is counted of callers."""

    def call_refused(self, caller: str, why: str) -> None: ...


class KnownCallers:
    """
    The `Callers` of the gate.

    A call that shows a token is judged by it alone: a bad one is refused behind a good certificate too, or its caller
    would take what the certificate may do for what the token may. Without tokens configured none is looked at.
    """

    def __init__(
        self,
        tokens: Tokens | None,
        counts: Counts,
        *,
        certificates: bool,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Take who reads tokens, if any are taken, and whether callers have to show certificates."""
        self._tokens = tokens
        self._counts = counts
        self._certificates = certificates
        self._clock = clock

    async def identify(self, call: Call) -> Caller:
        """Return who it is; raises `CallerUnknown`, and `CallerUnverifiable` while there are no keys."""
        try:
            caller = await self._caller_of(call)
            if caller.expires_at + LEEWAY_SECONDS <= self._clock():
                raise _ended(caller.name, "")
        except CallerUnknown:
            self._counts.call_refused("", "unknown")
            raise
        if call.streaming:
            call.revocation.due(caller.expires_at + LEEWAY_SECONDS, partial(_ended, caller.name, call.service))
        return caller

    async def _caller_of(self, call: Call) -> Caller:
        if self._tokens is not None and (shown := call.metadata.get("authorization")) is not None:
            return await self._tokens.caller_of(shown)
        if self._certificates:
            found = caller_of_certificate(call.proofs)
            if found is not None:
                return found
            raise CallerUnknown("its certificate names nobody: it needs a URI (SPIFFE) or DNS name")
        if self._tokens is not None:
            raise CallerUnknown("show a token: send `authorization: Bearer <JWT>`")
        return ANONYMOUS


def _ended(name: str, service: str) -> CallerUnknown:
    what = "token" if name.startswith(_BY_JWT) else "certificate"
    # A command may have gone out: its caller finds out under the same request id.
    return CallerUnknown(
        f"the {what} has ended: call again with a new one", "unknown" if service == "QualityControl" else ""
    )
