"""Which keys of a key set are used, and which sets are refused as a whole."""

from __future__ import annotations

import json

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from qc_adapter.access.keys import read_keys
from qc_adapter.watched import Unusable
from tests.support.tokens import ec_key, ed_key, jwk, key_set, rsa_key


@pytest.fixture(scope="module")
def rsa():
    return rsa_key()


def test_each_kind_of_key_has_its_own_algorithms(rsa):
    """What a key can verify follows from its kind; a set that names the algorithm narrows it to that one."""
    keys = read_keys(
        key_set(
            jwk(rsa, "rsa"),
            jwk(rsa, "pss", alg="PS384"),
            jwk(ec_key(), "p256"),
            jwk(ec_key(ec.SECP384R1()), "p384"),
            jwk(ec_key(ec.SECP521R1()), "p521"),
            jwk(ed_key(), "ed"),
        )
    )
    assert {kid: key.algorithms for kid, key in keys.items()} == {
        "rsa": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
        "pss": ("PS384",),
        "p256": ("ES256",),
        "p384": ("ES384",),
        "p521": ("ES512",),
        "ed": ("EdDSA",),
    }


@pytest.mark.parametrize(
    "more",
    [{"use": "enc"}, {"alg": "RS256"}, {"alg": "HS256"}, {"alg": "none"}, {"key_ops": ["sign"]}, {"crv": "P-999"},
     {"kty": "quantum"}, {"alg": ["ES256"]}, {"key_ops": "verify"}],
    ids=str,
)  # fmt: skip
def test_keys_for_something_else_are_left_out(more):
    """A key whose use, kind or algorithm does not fit verifies nothing, and the others stay usable."""
    keys = read_keys(key_set(jwk(ec_key(), "other", **more), jwk(ec_key(), "good")))
    assert list(keys) == ["good"]


def _private(key):
    return json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key)) | {"kid": "one"}


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"<html>", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[]", "no key set"),
        (b'{"keys": {}}', "no key set"),
        (b'{"keys": ["key"]}', "no key set"),
        (b'{"keys": []}', "no key that can verify"),
        (b" " * (256 * 1024 + 1), "larger"),
        (key_set(*[{"kty": "x"}] * 101), "101 keys"),
        (key_set({"kty": "oct", "k": "c2VjcmV0LWNhbmFyeQ", "kid": "one"}), "symmetric"),
        (key_set(jwk(ec_key()) | {"kid": ""}), "no kid"),
        (key_set(jwk(ec_key()) | {"kid": 7}), "no kid"),
        (key_set(jwk(ec_key()), jwk(ec_key())), "the kid of another"),
        (key_set(jwk(ec_key(), x="AAAA")), "cannot be read"),
        (key_set(jwk(ec_key(), use="enc")), "no key that can verify"),
        (key_set(_private(ec_key())), "private key"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_set_that_cannot_be_trusted_is_refused_as_a_whole(body, why):
    """The text says what is wrong, and repeats nothing of the set."""
    with pytest.raises(Unusable, match=why) as refused:
        read_keys(body)
    assert "canary" not in str(refused.value)
    assert "c2VjcmV0" not in str(refused.value)


def test_a_short_rsa_key_refuses_the_set():
    """Keys below 2048 bits break too easily."""
    with pytest.raises(Unusable, match="1024 bits"):
        read_keys(key_set(jwk(rsa_key(1024)), jwk(ec_key(), "good")))
