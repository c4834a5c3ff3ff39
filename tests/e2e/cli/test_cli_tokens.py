"""The commands of a caller with a token, and what `check --connect` says about the keys."""

from __future__ import annotations

import pytest

from qc_adapter.cli.connect.findings import Level, bounded
from qc_adapter.cli.connect.keys import look_at_keys
from qc_adapter.settings import TokenSettings
from tests.support.tokens import AUDIENCE, ISSUER, KeyServer, ec_key, jwk, key_set, token

KEY = ec_key()


@pytest.fixture
def files(tmp_path):
    """A key set and a file for a token."""
    keys, shown = tmp_path / "jwks.json", tmp_path / "token"
    keys.write_bytes(key_set(jwk(KEY)))
    return keys, shown


async def test_commands_show_the_token_of_the_file(simulator, make_adapter, qc, files):
    """With a good one they run; with another, or none, they are refused with what to do, and print no token."""
    keys, shown = files
    tokens = {"QC_JWT_ISSUER": ISSUER, "QC_JWT_AUDIENCE": AUDIENCE, "QC_JWT_JWKS_FILE": str(keys)}
    async with make_adapter(simulator, **tokens) as adapter:
        target = {"QC_TARGET": f"127.0.0.1:{adapter.port}"}
        shown.write_text(f"{token(KEY)}\n")
        good = await qc("sessions", QC_TOKEN_FILE=str(shown), **target)
        assert (good.code, good.err) == (0, "")
        shown.write_text(token(KEY, aud="another"))
        for command in (("watch", "101"), ("intercept", "101", "292")):
            bad = await qc(*command, "--token-file", str(shown), **target)
            assert bad.code == 3
            assert "another audience" in bad.err
            assert "--token-file" in bad.err
            assert shown.read_text() not in bad.err
        shown.unlink()
        gone = await qc("sessions", "--token-file", str(shown), **target)
        assert gone.code == 3
        assert f"{shown} cannot be read" in gone.err


async def test_a_token_is_not_sent_over_the_network_unencrypted(qc, files):
    """Nothing is sent, and the advice says what to do."""
    _, shown = files
    shown.write_text(token(KEY))
    ended = await qc("sessions", "--target", "192.0.2.1:50051", "--token-file", str(shown))
    assert ended.code == 2
    assert "--ca-file" in ended.err
    assert shown.read_text() not in ended.err


async def test_check_says_how_many_keys_there_are(files):
    """By the server's host or by the variable of the file; what is wrong there is a problem with what to change."""
    keys, _ = files
    server = KeyServer()
    await server.start()
    served = TokenSettings(ISSUER, AUDIENCE, jwks_url=f"http://127.0.0.1:{server.port}/jwks")
    try:
        server.body = key_set(jwk(KEY), jwk(ec_key(), "two"))
        [found] = await bounded("keys", lambda findings: look_at_keys(served, findings))
        assert (found.level, found.text.split(" that")[0]) == (Level.GOOD, "127.0.0.1 serves 2 keys")
        server.status = 403
        [found] = await bounded("keys", lambda findings: look_at_keys(served, findings))
        assert found.level is Level.PROBLEM
        assert "HTTP 403" in found.text
        assert "QC_JWT_JWKS_TOKEN_FILE" in found.change
    finally:
        await server.stop()
    kept = TokenSettings(ISSUER, AUDIENCE, jwks_file=str(keys))
    [found] = await bounded("keys", lambda findings: look_at_keys(kept, findings))
    assert (found.level, found.text.split(" that")[0]) == (Level.GOOD, "QC_JWT_JWKS_FILE has 1 key")
