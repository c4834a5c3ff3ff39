"""Tokens of callers and the key sets that they are signed by."""
# ruff: noqa: PT017 - an error of the reader is one of its answers, and has rules too

from __future__ import annotations

import base64
import json
from functools import cache

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import strategies as st

from qc_adapter.access.keys import Key, read_keys
from qc_adapter.access.tokens import Tokens
from qc_adapter.model.errors import CallerUnknown
from qc_adapter.watched import Unusable
from tests.fuzz.target import CANARY, Target, run

_NOW = 1_700_000_000.0
_LATER = 4_000_000_000
_KID = "k1"


class _Keys:
    """One key, which does not change."""

    version = object()

    def __init__(self, key: Key) -> None:
        self._key = key

    async def find(self, kid: str) -> Key | None:
        return self._key if kid == _KID else None

    def holds(self, key: Key) -> bool:
        return key is self._key


@cache
def _private() -> Ed25519PrivateKey:
    # The same each time, so that a token which is kept as a seed stays a good one.
    return Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


def good_token() -> str:
    """Return a token that is taken."""
    claims = {"iss": "i", "aud": "a", "sub": "desk", "exp": _LATER, "nonce": CANARY}
    return jwt.encode(claims, _private(), algorithm="EdDSA", headers={"kid": _KID})


def check_token(data: bytes) -> None:
    """
    A header is a caller's only if it is a good token as it was signed; all else is `CallerUnknown`.

    No reason repeats what the header says.
    """
    run(_judge(data.decode("utf-8", "surrogateescape")))


async def _judge(header: str) -> None:
    keys = _Keys(Key(_KID, _private().public_key(), ("EdDSA",)))
    tokens = Tokens("i", "a", keys, clock=lambda: _NOW)
    try:
        caller = await tokens.caller_of(header)
    except CallerUnknown as unknown:
        assert CANARY not in unknown.message
        assert unknown.message.isascii()
        assert len(unknown.message) < 300
        return
    assert caller.name == "jwt:desk"
    # What was signed is what counts: only its wrapping may differ.
    assert _signed(header) == _signed(good_token())


def _signed(header: str) -> tuple[bytes, ...]:
    parts = header.rpartition(" ")[2].strip().split(".")
    return tuple(base64.urlsafe_b64decode(part.rstrip("=") + "=" * (-len(part.rstrip("=")) % 4)) for part in parts)


def check_keys(data: bytes) -> None:
    """A key set has keys that verify with what their kind can, or it is `Unusable` in words that repeat no key."""
    try:
        keys = read_keys(data)
    except Unusable as unusable:
        assert len(str(unusable)) < 400
        assert CANARY not in str(unusable)
        return
    assert keys
    for kid, key in keys.items():
        assert key.kid == kid
        assert key.algorithms
        assert not {"none", "HS256", "HS384", "HS512"} & set(key.algorithms)


def _tokens() -> st.SearchStrategy[bytes]:
    claims = st.fixed_dictionaries(
        {},
        optional={
            "iss": st.sampled_from(["i", "j", 1, None]),
            "aud": st.sampled_from(["a", ["a"], ["b"], {}, 1]),
            "sub": st.text(max_size=4) | st.integers() | st.just("desk"),
            "exp": st.sampled_from([_LATER, 1, -1, 1e400, "x", None, [1]]),
            "nbf": st.sampled_from([_LATER, 1, "x"]),
            "nonce": st.just(CANARY),
        },
    )
    heads = st.fixed_dictionaries(
        {"alg": st.sampled_from(["EdDSA", "none", "HS256", "RS256", 1, None])},
        optional={"kid": st.sampled_from([_KID, "k2", 1]), "crit": st.just(["x"]), "jwk": st.just({"kty": "oct"})},
    )

    def forged(head: dict[str, object], claim: dict[str, object], mark: bytes) -> str:
        parts = (json.dumps(head).encode(), json.dumps(claim).encode(), mark)
        return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)

    made = st.builds(forged, heads, claims, st.binary(max_size=64)) | st.builds(good_token)
    schemes = st.sampled_from(["Bearer ", "bearer ", "Basic ", "", "Bearer  "])
    return st.builds(lambda scheme, token: (scheme + token).encode(), schemes, made | st.text(max_size=20))


def _key_sets() -> st.SearchStrategy[bytes]:
    public = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(_private().public_key()))
    texts = st.text(max_size=6) | st.sampled_from([CANARY, "AQAB", public["x"], "sig", "enc", "verify"])
    values = texts | st.none() | st.integers() | st.lists(texts, max_size=2)
    names = ["kty", "crv", "x", "y", "n", "e", "d", "k", "kid", "use", "alg", "key_ops"]
    row = st.dictionaries(st.sampled_from(names), values, max_size=5)
    good = row.map(lambda more: {**public, "kid": _KID, **more})
    kinds = st.sampled_from(["RSA", "EC", "OKP", "oct"])
    other = st.builds(lambda more, kind: {**more, "kty": kind, "kid": "k"}, row, kinds)
    return st.lists(good | other | row, max_size=3).map(lambda rows: json.dumps({"keys": rows}).encode())


TARGETS = (Target("token", check_token, _tokens), Target("keys", check_keys, _key_sets))
