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
    from qc_adapter.rpc.call import Call

_BY_JWT: Final = "jwt:"
_COMMANDS: Final = "QualityControl"


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
            self._check(caller)
        except CallerUnknown:
            self._counts.call_refused("", "unknown")
            raise
        if call.streaming and caller is not ANONYMOUS:
            # Of the call only its service: what refers to itself is left to the garbage collector.
            ends = partial(self._ended, caller, call.service)
            call.revocation.watch(ends, caller.expires_at + LEEWAY_SECONDS)
        return caller

    def _check(self, caller: Caller) -> None:
        if caller is not ANONYMOUS and (ended := self._ended(caller, "")) is not None:
            raise ended

    def _ended(self, caller: Caller, service: str) -> CallerUnknown | None:
        """Return why a stream of the caller ends, None while it may go on."""
        if caller.expires_at + LEEWAY_SECONDS <= self._clock():
            what = "token" if caller.name.startswith(_BY_JWT) else "certificate"
            why = f"the {what} has ended: call again with a new one"
        elif self._tokens is not None and not self._tokens.trusts(caller):
            why = "the key of the token was withdrawn: get a new token"
        else:
            return None
        # A command may have gone out: its caller finds out under the same request id.
        return CallerUnknown(why, "unknown" if service == _COMMANDS else "")

    async def _caller_of(self, call: Call) -> Caller:
        if self._tokens is not None and (shown := call.metadata.get("authorization")) is not None:
            return await self._tokens.caller_of(shown)
        if self._certificates:
            found = caller_of_certificate(call.proofs())
            if found is not None:
                return found
            raise CallerUnknown("its certificate names nobody: it needs a URI (SPIFFE) or DNS name")
        if self._tokens is not None:
            raise CallerUnknown("show a token: send `authorization: Bearer <JWT>`")
        return ANONYMOUS
