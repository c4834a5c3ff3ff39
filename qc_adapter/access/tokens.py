"""Callers by their tokens (JWT): whose they are, whom they are for, until when, and signed with a key that we know."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

import jwt

from qc_adapter.access.caller import LEEWAY_SECONDS, Caller
from qc_adapter.access.identities import is_subject
from qc_adapter.access.keys import Key
from qc_adapter.model.errors import CallerUnknown

if TYPE_CHECKING:
    from collections.abc import Callable

    from qc_adapter.access.keys import Keys

#: gRPC takes 8 KiB of headers; above that it refuses a part of the calls, by chance. This leaves room for the others.
LONGEST_TOKEN: Final = 7 * 1024
#: Verified tokens that are known again; each costs about 300 bytes.
_MOST_KNOWN: Final = 4096
_CLAIMS: Final = ("exp", "iss", "aud", "sub")
#: What PyJWT finds wrong; the first that fits counts. Its own texts repeat what stands in the token.
_WHY: Final[tuple[tuple[type[Exception], str], ...]] = (
    (jwt.ExpiredSignatureError, "the token has expired: get a new one"),
    (jwt.ImmatureSignatureError, "the token is not valid yet: set the clocks of both machines"),
    (jwt.InvalidAudienceError, "the token is for another audience: have it issued for QC_JWT_AUDIENCE"),
    (jwt.InvalidIssuerError, "the token is of another issuer than QC_JWT_ISSUER"),
    (jwt.MissingRequiredClaimError, f"the token lacks one of {', '.join(_CLAIMS)}"),
    (jwt.InvalidAlgorithmError, "the token's algorithm is not one of its key: it must be RS, PS, ES or EdDSA"),
    (jwt.InvalidSignatureError, "the token's signature is wrong"),
)
_UNREADABLE: Final = "what the call shows is no token: send `authorization: Bearer <JWT>`, once"
_UNKNOWN_KEY: Final = "the token is signed with a key that is not in the key set: get a new token"


class Tokens:
    """Verifies tokens; one that was verified is known again until it ends or the keys change."""

    def __init__(self, issuer: str, audience: str, keys: Keys, *, clock: Callable[[], float] = time.time) -> None:
        self._issuer = issuer
        self._audience = audience
        self._keys = keys
        self._clock = clock
        self._known: OrderedDict[bytes, Caller] = OrderedDict()
        self._version = keys.version

    async def caller_of(self, authorization: str) -> Caller:
        """
        Return whose token an `authorization` header shows.

        Raises `CallerUnknown`, and `CallerUnverifiable` while there are no keys.
        """
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token or len(token) > LONGEST_TOKEN:
            raise CallerUnknown(_UNREADABLE)
        # A token itself is kept nowhere.
        name = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        if self._version is not self._keys.version:
            self._version = self._keys.version
            self._known.clear()
        known = self._known.get(name)
        if known is not None and known.expires_at + LEEWAY_SECONDS > self._clock():
            self._known.move_to_end(name)
            return known
        key = await self._key_of(token)
        # The keys may have changed while one was waited for; then what was found is not kept under the old ones.
        version = self._keys.version
        caller = self._verified(token, key)
        if version is self._version:
            self._known[name] = caller
            if len(self._known) > _MOST_KNOWN:
                self._known.popitem(last=False)
        return caller

    def trusts(self, caller: Caller) -> bool:
        """Whether the key of the caller's token, if it has shown one, was not withdrawn since."""
        return not isinstance(caller.key, Key) or self._keys.holds(caller.key)

    async def _key_of(self, token: str) -> Key:
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            raise CallerUnknown(_UNREADABLE) from None
        if "crit" in header:
            raise CallerUnknown("the token's header has `crit`: no extension is understood here")
        kid = header.get("kid")
        if not isinstance(kid, str) or not kid:
            raise CallerUnknown("the token names no key: its header needs a `kid`")
        # Only names of our own keys count: a key in the header, or an address of one, proves nothing.
        key = await self._keys.find(kid)
        if key is None:
            raise CallerUnknown(_UNKNOWN_KEY)
        return key

    def _verified(self, token: str, key: Key) -> Caller:
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key.public,
                algorithms=key.algorithms,
                issuer=self._issuer,
                audience=self._audience,
                leeway=LEEWAY_SECONDS,
                options={"require": list(_CLAIMS)},
            )
            expires_at = float(claims["exp"])
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as failure:
            why = next((why for kind, why in _WHY if isinstance(failure, kind)), _UNREADABLE)
            raise CallerUnknown(why) from None
        subject = claims["sub"]
        if not is_subject(subject):
            text = "the token's subject (sub) must be 1 to 255 printable characters of ASCII without spaces"
            raise CallerUnknown(text)
        return Caller((f"jwt:{subject}",), expires_at, key)
