"""What TLS is for is not laid open by a variable of the environment."""

from __future__ import annotations

import ssl

import pytest
import trustme

from qc_adapter.access.keys_url import fetch_keys
from qc_adapter.gateway.settings import GatewaySettings
from qc_adapter.gateway.trust import trust_of
from qc_adapter.push_certificate import PushCertificate
from qc_adapter.settings import ServerTls, TokenSettings
from tests.support.tokens import KeyServer, ec_key, jwk, key_set


@pytest.fixture
def authority(tmp_path):
    made = trustme.CA()
    made.cert_pem.write_to_path(tmp_path / "ca.pem")
    pair = made.issue_cert("localhost")
    pair.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    pair.private_key_pem.write_to_path(tmp_path / "key.pem")
    return made


@pytest.fixture
def key_log(tmp_path, monkeypatch):
    path = tmp_path / "keys.log"
    monkeypatch.setenv("SSLKEYLOGFILE", str(path))
    return path


def test_no_port_and_no_gateway_writes_the_keys_of_its_sessions(authority, key_log, tmp_path):
    """A variable that is set for another program does not lay open what goes over our connections; and TLS is new."""
    pushed = PushCertificate(ServerTls(str(tmp_path / "cert.pem"), str(tmp_path / "key.pem"))).context
    gateway = trust_of(GatewaySettings("https://localhost:1", ca_file=str(tmp_path / "ca.pem")))
    for context in (pushed, gateway):
        assert (context.keylog_filename, context.minimum_version) == (None, ssl.TLSVersion.TLSv1_2)
    assert not key_log.exists()


async def test_what_is_asked_of_the_server_of_keys_is_not_laid_open(authority, key_log, tmp_path):
    """Our own token goes there."""
    served = KeyServer()
    served.body = key_set(jwk(ec_key(), "first"))
    await served.start(authority.issue_cert("localhost"))
    try:
        url = f"https://localhost:{served.port}/jwks"
        asked = TokenSettings("issuer", "audience", jwks_url=url, jwks_ca_file=str(tmp_path / "ca.pem"))
        assert set(await fetch_keys(asked)) == {"first"}
    finally:
        await served.stop()
    assert not key_log.exists()
