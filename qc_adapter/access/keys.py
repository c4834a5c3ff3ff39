"""The keys that callers' tokens are signed with: a key set (JWKS) read, and refused when it cannot be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from qc_adapter.watched import Unusable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jwt.algorithms import AllowedPublicKeys

#: Far more than any key set has: a hundred RSA keys fit.
LARGEST_KEY_SET: Final = 256 * 1024
_MOST_KEYS: Final = 100
_LONGEST_KID: Final = 256
_SMALLEST_RSA_BITS: Final = 2048
_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
#: What a key of each kind can sign with; HMAC and `none` are nowhere.
_ALGORITHMS: Final[Mapping[tuple[str, str], tuple[str, ...]]] = {
    ("RSA", ""): _RSA,
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
}
#: Members of a key that only its owner may have.
_PRIVATE: Final = ("d", "p", "q", "dp", "dq", "qi", "oth", "k")


@dataclass(frozen=True, slots=True)
class Key:
    """A key that verifies, its name in the set, and with which algorithms."""

    kid: str
    public: AllowedPublicKeys
    algorithms: tuple[str, ...]


KeySet = dict[str, Key]


class Keys(Protocol):
    """Where keys come from. `version` is another object after each change."""

    version: object

    async def find(self, kid: str) -> Key | None:
        """Return the key of that name; raises `CallerUnverifiable` while there are no keys at all."""
        ...

    def holds(self, key: Key) -> bool:
        """Whether that key is still in the set."""
        ...


def read_keys(text: bytes) -> KeySet:
    """
    Return the usable keys of a key set by name; raises `Unusable`, which says what is wrong with it.

    Keys for something else than signatures, and of kinds that are not known, are left out. What must not be in a set
    that others can read, or breaks easily, refuses the whole set: whoever made it has to know.
    """
    if len(text) > LARGEST_KEY_SET:
        raise Unusable(f"is larger than {LARGEST_KEY_SET} bytes: that is no key set")
    try:
        told = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise Unusable('is no JSON: it must be a key set (JWKS), {"keys": [...]}') from None
    rows = told.get("keys") if isinstance(told, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise Unusable('is no key set (JWKS): it must be {"keys": [...]}')
    if len(rows) > _MOST_KEYS:
        raise Unusable(f"has {len(rows)} keys: {_MOST_KEYS} are the most")
    keys: KeySet = {}
    for number, row in enumerate(rows, start=1):
        found = _key_of(row, f"key {number}")
        if found is None:
            continue
        kid = row.get("kid")
        if not isinstance(kid, str) or not 0 < len(kid) <= _LONGEST_KID:
            raise Unusable(f"key {number} has no kid: tokens name the key that signed them by it")
        if kid in keys:
            raise Unusable(f"key {number} has the kid of another one: each needs its own")
        keys[kid] = Key(kid, *found)
    if not keys:
        raise Unusable("has no key that can verify: it needs RSA, EC (P-256, P-384, P-521) or Ed25519 keys")
    return keys


def _key_of(row: Mapping[str, Any], where: str) -> tuple[AllowedPublicKeys, tuple[str, ...]] | None:
    """Return the key and its algorithms, None when it is for something else."""
    kind, curve, algorithm = row.get("kty"), row.get("crv", ""), row.get("alg")
    if kind == "oct":
        raise Unusable(f"{where} is a symmetric key: whoever can read it could sign tokens. Use RSA, EC or Ed25519")
    if any(name in row for name in _PRIVATE):
        raise Unusable(f"{where} is a private key: replace it, and publish only its public part")
    if row.get("use", "sig") != "sig" or "verify" not in _operations(row):
        return None
    able = _ALGORITHMS.get((str(kind), "" if kind == "RSA" else str(curve)))
    if able is None or (algorithm is not None and algorithm not in able):
        return None
    algorithms = able if algorithm is None else (algorithm,)
    try:
        public = jwt.PyJWK(dict(row), algorithms[0]).key
    except (jwt.PyJWTError, ValueError, TypeError):  # their texts repeat the key
        raise Unusable(f"{where} cannot be read: it is no {kind} key as RFC 7518 has it") from None
    if isinstance(public, RSAPublicKey) and public.key_size < _SMALLEST_RSA_BITS:
        raise Unusable(f"{where} has {public.key_size} bits: RSA keys need {_SMALLEST_RSA_BITS} or more")
    return public, algorithms


def _operations(row: Mapping[str, Any]) -> list[Any]:
    found = row.get("key_ops", ["verify"])
    return found if isinstance(found, list) else []
