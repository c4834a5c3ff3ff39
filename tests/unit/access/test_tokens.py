"""Which tokens are taken for whom, and which are refused with what advice."""

from __future__ import annotations

import time

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from qc_adapter.access.caller import Caller
from qc_adapter.access.keys_file import KeysInFile
from qc_adapter.access.tokens import Tokens
from qc_adapter.model.errors import CallerUnknown
from tests.support.tokens import (
    AUDIENCE,
    DESK,
    ISSUER,
    claims,
    ec_key,
    ed_key,
    forged,
    jwk,
    key_set,
    part,
    rsa_key,
    token,
)

KEY = ec_key()


@pytest.fixture(scope="module")
def rsa():
    return rsa_key()


@pytest.fixture
def opened(tmp_path):
    """A function that reads tokens by the keys of a set, which the test may replace."""
    path = tmp_path / "jwks.json"

    def begin(*rows, **options):
        path.write_bytes(key_set(*rows or [jwk(KEY)]))
        keys = KeysInFile(str(path))
        tokens = Tokens(ISSUER, AUDIENCE, keys, **options)
        tokens.path, tokens.keys = path, keys
        return tokens

    return begin


async def refused(tokens, shown):
    """Why a header is refused; never in its own words."""
    with pytest.raises(CallerUnknown) as unknown:
        await tokens.caller_of(shown)
    assert unknown.value.__cause__ is None
    for piece in shown.replace(",", " ").split():
        assert piece == "Bearer" or piece not in unknown.value.message
    return unknown.value.message


async def test_a_good_token_names_its_subject_until_it_ends(opened):
    """The caller is `jwt:` and the subject, known until `exp`."""
    ends = int(time.time()) + 600
    assert await opened().caller_of(f"Bearer {token(KEY, exp=ends)}") == Caller((f"jwt:{DESK}",), ends)
    assert (await opened().caller_of(f"bearer {token(KEY, aud=AUDIENCE)}")).name == f"jwt:{DESK}"


async def test_every_kind_of_key_can_sign(opened, rsa):
    """RSA with both paddings, EC on three curves and Ed25519, each token by the key that it names."""
    signers = {"RS256": rsa, "RS512": rsa, "PS384": rsa, "ES256": KEY, "EdDSA": ed_key()}
    signers |= {"ES384": ec_key(ec.SECP384R1()), "ES512": ec_key(ec.SECP521R1())}
    tokens = opened(*(jwk(key, name) for name, key in signers.items()))
    for name, key in signers.items():
        assert (await tokens.caller_of(f"Bearer {token(key, name, name)}")).name == f"jwt:{DESK}"


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"seconds": -31}, "expired"),
        ({"exp": None}, "lacks one of"),
        ({"exp": "soon"}, "no token"),
        ({"exp": float("inf")}, "no token"),
        pytest.param({"nbf": int(time.time()) + 600}, "not valid yet", id="nbf"),
        pytest.param({"iat": int(time.time()) + 600}, "not valid yet", id="iat"),
        ({"aud": ["another"]}, "another audience"),
        ({"aud": None}, "lacks one of"),
        ({"aud": {AUDIENCE: 1}}, "another audience"),
        ({"iss": f"{ISSUER}/"}, "another issuer"),
        ({"iss": None}, "lacks one of"),
        ({"iss": [ISSUER]}, "another issuer"),
        ({"sub": None}, "lacks one of"),
        ({"sub": ["desk"]}, "no token"),
        ({"sub": ""}, "subject"),
        ({"sub": "two words"}, "subject"),
        ({"sub": "line\nend"}, "subject"),
        ({"sub": "\u202eright to left"}, "subject"),
        ({"sub": "x" * 256}, "subject"),
        ({"sub": "caf\u00e9"}, "subject"),
        ({"headers": {"crit": ["exp"]}}, "no token|crit"),
        ({"headers": {"crit": ["b64"], "b64": True}}, "no token|crit"),
        ({"kid": ""}, "names no key"),
        ({"kid": "two"}, "not in the key set"),
    ],
    ids=str,
)
async def test_a_token_that_does_not_fit_is_refused_with_advice(opened, wrong, why):
    """Each claim is checked, and the answer says what to change."""
    tokens = opened()
    with pytest.raises(CallerUnknown, match=why):
        await tokens.caller_of(f"Bearer {token(KEY, **wrong)}")


async def test_clocks_may_differ_by_half_a_minute(opened):
    """A token that has ended just now, or begins in a moment, is still or already good."""
    tokens = opened()
    await tokens.caller_of(f"Bearer {token(KEY, seconds=-25)}")
    await tokens.caller_of(f"Bearer {token(KEY, nbf=int(time.time()) + 25)}")


async def test_a_token_without_a_signature_is_refused(opened):
    """Algorithm `none`, in whatever spelling, is nobody's."""
    for name in ("none", "None", "NONE", "", None, ["ES256"], {"ES256": 1}, 0):
        await refused(opened(), f"Bearer {forged({'alg': name, 'kid': 'one'}, claims())}")


async def test_a_public_key_is_no_secret_to_sign_with(opened, rsa):
    """A token that is signed by HMAC with the public key as the secret is refused: anybody has that key."""
    public = rsa.public_key()
    for form in (serialization.PublicFormat.SubjectPublicKeyInfo, serialization.PublicFormat.PKCS1):
        pem = public.public_bytes(serialization.Encoding.PEM, form)
        signing = f"{part({'alg': 'HS256', 'kid': 'one'})}.{part(claims())}"
        signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(signing.encode(), pem)
        assert "algorithm" in await refused(opened(jwk(rsa)), f"Bearer {signing}.{part(signature)}")


async def test_only_keys_of_the_set_count(opened, rsa):
    """A key that the token brings along, or says where to find, proves nothing, nor does another's algorithm."""
    mine = ec_key()
    own = {"jwk": jwk(mine), "jku": "https://attacker.example/jwks", "x5u": "https://attacker.example/x", "x5c": ["AA"]}
    assert "signature is wrong" in await refused(opened(), f"Bearer {token(mine, headers=own)}")
    assert "algorithm" in await refused(opened(), f"Bearer {token(rsa, algorithm='RS256')}")
    assert "algorithm" in await refused(opened(jwk(rsa, alg="RS256")), f"Bearer {token(rsa, algorithm='RS512')}")
    good = token(KEY)
    assert "signature is wrong" in await refused(opened(), f"Bearer {good[:-8]}AAAAAAAA")


@pytest.mark.parametrize(
    "shown",
    ["", "Bearer", "Bearer ", "Basic dXNlcjpwdw==", "Bearer a.b", "Bearer a.b.c", "Bearer  ..", "Token x.y.z",
     "Bearer " + "x" * 7169, "Bearer \x00.\x00.\x00", "Bearer é.é.é", "Bearer \udc80",
     "Bearer " + forged(b"[" * 3000, b""), "Bearer " + forged({"kid": 5}, {}), "Bearer " + forged(b"7", b""),
     "Bearer " + forged({"alg": "ES256", "kid": "one", "b64": False}, b"")],
    ids=lambda shown: shown[:20],
)  # fmt: skip
async def test_what_is_no_token_is_refused_before_anything_is_verified(opened, shown):
    """Whatever stands in the header, the answer is that of an unknown caller, and repeats nothing of it."""
    with pytest.raises(CallerUnknown):
        await opened().caller_of(shown)


async def test_a_token_has_a_length(opened):
    """Longer ones, which gRPC would refuse by chance, are refused always; those of up to 7 KiB are taken."""
    tokens = opened()
    await tokens.caller_of(f"Bearer {token(KEY, pad='x' * 5000)}")
    assert "no token" in await refused(tokens, f"Bearer {token(KEY, pad='x' * 5300)}")


async def test_two_headers_are_no_token(opened):
    """A caller that shows two is refused, whichever of them is good."""
    assert "once" in await refused(opened(), f"Bearer {token(KEY)}, Bearer {token(KEY, sub='other')}")


@given(st.text(max_size=60) | st.builds(lambda one, two, three: f"{part(one)}.{part(two)}.{part(three)}",
    st.binary(max_size=40) | st.dictionaries(st.sampled_from(["alg", "kid", "crit", "b64", "typ"]), st.none() |
    st.booleans() | st.integers() | st.sampled_from(["ES256", "none", "one", "HS256"]) | st.lists(st.text(max_size=3))),
    st.binary(max_size=20), st.binary(max_size=70)))  # fmt: skip
async def test_no_header_is_a_defect(shown):
    """Anything that a stranger sends ends as an unknown caller."""

    class Keys:
        version = object()

        async def find(self, kid):
            return KEYS.get(kid)

        def holds(self, key):
            return key in KEYS.values()

    with pytest.raises(CallerUnknown):
        await Tokens(ISSUER, AUDIENCE, Keys()).caller_of(f"Bearer {shown}")


KEYS = {}


@pytest.fixture(autouse=True, scope="module")
def keys_of_the_module(tmp_path_factory):
    path = tmp_path_factory.mktemp("keys") / "jwks.json"
    path.write_bytes(key_set(jwk(KEY)))
    KEYS.update(KeysInFile(str(path))._keys)


async def test_a_verified_token_is_known_again_until_it_ends(opened, monkeypatch):
    """The second call verifies nothing; after the end of the token it is refused."""
    now = time.time()
    tokens = opened(clock=lambda: now)
    shown = f"Bearer {token(KEY, exp=int(now) + 5)}"
    first = await tokens.caller_of(shown)
    verified = []
    monkeypatch.setattr(tokens, "_verified", lambda *what: verified.append(what) or first)
    assert await tokens.caller_of(shown) is first
    assert verified == []
    now += 36
    await tokens.caller_of(shown)
    assert len(verified) == 1


async def test_a_key_that_is_withdrawn_takes_its_tokens_along(opened):
    """Also those that were verified before; a broken file withdraws nothing."""
    tokens, next_key = opened(), ec_key()
    shown = f"Bearer {token(KEY)}"
    caller = await tokens.caller_of(shown)
    tokens.path.write_bytes(b"broken")
    with pytest.raises(Exception, match="no JSON"):
        tokens.keys.load()
    await tokens.caller_of(shown)
    tokens.path.write_bytes(key_set(jwk(KEY), jwk(next_key, "two")))
    tokens.keys.load()
    assert tokens.trusts(caller)
    tokens.path.write_bytes(key_set(jwk(next_key, "two")))
    tokens.keys.load()
    assert not tokens.trusts(caller)
    assert "not in the key set" in await refused(tokens, shown)
    await tokens.caller_of(f"Bearer {token(next_key, 'two')}")


async def test_few_tokens_are_kept(opened, monkeypatch):
    """What is known again is bounded, and holds no token itself."""
    monkeypatch.setattr("qc_adapter.access.tokens._MOST_KNOWN", 3)
    tokens = opened()
    shown = [token(KEY, sub=f"desk-{number}") for number in range(5)]
    for one in shown:
        await tokens.caller_of(f"Bearer {one}")
    assert len(tokens._known) == 3
    assert not any(one in repr(tokens._known) for one in shown)
