"""TLS towards the gateway: whom the adapter trusts, and how a refusal reads."""

from __future__ import annotations

import asyncio
import socket
import ssl

import pytest
import trustme

from qc_adapter.gateway import requests
from qc_adapter.model.deadline import Deadline
from qc_adapter.model.errors import GatewayMisconfigured, GatewayUnavailable
from tests.support.handshakes import serve_one_handshake

LISTEN = requests.listen("117", "291")


@pytest.fixture(scope="module")
def authority():
    """A certificate authority that lives as long as these tests."""
    return trustme.CA()


@pytest.fixture
def ca_file(authority, tmp_path):
    """The authority's certificate as a file."""
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


def server_context(authority, name, *, clients=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    if clients is not None:
        clients.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


@pytest.fixture
async def tls_gateway(gateway):
    """Start scripted gateways with TLS."""
    made = []

    async def start(context):
        server = type(gateway)(tls=context)
        await server.start()
        made.append(server)
        return server

    yield start
    for server in made:
        await server.stop()


async def test_a_trusted_gateway_is_spoken_to(tls_gateway, bench, session, authority, ca_file):
    """With its authority configured and the right name, commands and polls go through."""
    server = await tls_gateway(server_context(authority, "127.0.0.1"))
    client = bench.client(server.url, ca_file=ca_file)
    await client.send(session, LISTEN, Deadline.after(20))
    await client.poll(session, hold_seconds=10)
    assert len(server.heard) == 2


@pytest.mark.parametrize(
    ("name", "configured", "words"),
    [("wrong.example", True, "127.0.0.1"), ("127.0.0.1", False, "not trusted")],
    ids=["other name", "unknown authority"],
)
async def test_an_untrusted_gateway_is_refused(
    tls_gateway, bench, session, *, authority, ca_file, name, configured, words
):
    """A32: a wrong name or unknown authority is a configuration error with its reason, and nothing is sent."""
    server = await tls_gateway(server_context(authority, name))
    client = bench.client(server.url, ca_file=ca_file if configured else None)
    sent = []
    with pytest.raises(GatewayMisconfigured, match="certificate") as raised:
        await client.send(session, LISTEN, Deadline.after(20), lambda: sent.append(True))
    assert words in raised.value.message
    with pytest.raises(GatewayMisconfigured):
        await client.poll(session, hold_seconds=10)
    assert (server.heard, sent) == ([], [])


async def test_a_client_certificate_is_shown(tls_gateway, bench, session, *, authority, ca_file, tmp_path):
    """A gateway that asks for a certificate gets the configured one."""
    server = await tls_gateway(server_context(authority, "127.0.0.1", clients=authority))
    own = authority.issue_cert("adapter.example")
    files = {"cert_file": str(tmp_path / "own.pem"), "key_file": str(tmp_path / "own.key")}
    own.cert_chain_pems[0].write_to_path(files["cert_file"])
    own.private_key_pem.write_to_path(files["key_file"])
    client = bench.client(server.url, ca_file=ca_file, **files)
    await client.send(session, LISTEN, Deadline.after(20))
    assert len(server.heard) == 1


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["TLS 1.2", "TLS 1.3"])
@pytest.mark.parametrize("shown", ["none", "another authority's"])
async def test_a_refused_client_certificate_is_a_configuration_error(
    bench, session, *, authority, ca_file, version, shown, tmp_path
):
    """The other side's refusal is told as one, although TLS 1.3 tells it only after we began to write."""
    context = server_context(authority, "127.0.0.1", clients=authority)
    context.minimum_version = context.maximum_version = version
    files = {}
    if shown != "none":
        own = trustme.CA().issue_cert("adapter.example")
        files = {"cert_file": str(tmp_path / "own.pem"), "key_file": str(tmp_path / "own.key")}
        own.cert_chain_pems[0].write_to_path(files["cert_file"])
        own.private_key_pem.write_to_path(files["key_file"])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = asyncio.create_task(asyncio.to_thread(serve_one_handshake, listener, context))
        client = bench.client(f"https://127.0.0.1:{listener.getsockname()[1]}", ca_file=ca_file, **files)
        with pytest.raises(GatewayMisconfigured, match="client certificate"):
            await client.send(session, LISTEN, Deadline.after(20))
        await server


async def test_a_plain_port_is_a_configuration_error(bench, session):
    """TLS towards a port without it says so."""

    async def refuse(reader, writer):
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    client = bench.client(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    with pytest.raises(GatewayMisconfigured, match="TLS"):
        await client.send(session, LISTEN, Deadline.after(20))
    server.close()
    await server.wait_closed()


async def test_a_restart_during_the_handshake_is_no_misconfiguration(gateway, bench, session):
    """A connection that ends within the handshake was not sent on, and may be tried again."""
    gateway.reset_new_connections = True
    client = bench.client(gateway.url.replace("http:", "https:"))
    with pytest.raises(GatewayUnavailable):
        await client.send(session, LISTEN, Deadline.after(20))
