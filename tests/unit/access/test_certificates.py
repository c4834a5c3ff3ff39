"""Whom a certificate names, by what gRPC tells of a real connection that has shown it."""

from __future__ import annotations

import ipaddress

import grpc
import pytest
from cryptography import x509

from qc_adapter.access.certificates import caller_of_certificate
from qc_adapter.model.errors import CallerUnknown
from tests.support.certificates import Authority, as_caller

ROOT = Authority("callers")
OWN = ROOT.issue("localhost")


@pytest.fixture
async def proofs_of():
    """A function that connects with a certificate, and returns gRPC's proofs of the connection."""
    seen = []

    async def note(_request, context):
        seen.append(context.auth_context())
        return b""

    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    handler = grpc.method_handlers_generic_handler("tests", {"Note": grpc.unary_unary_rpc_method_handler(note)})
    server.add_generic_rpc_handlers((handler,))
    credentials = grpc.ssl_server_credentials([(OWN.key, OWN.certificate)], ROOT.pem, require_client_auth=True)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()

    async def connect(pair):
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.secure_channel(f"localhost:{port}", as_caller(ROOT, pair), options) as channel:
            await channel.unary_unary("/tests/Note")(b"", timeout=10)
        return seen.pop()

    yield connect
    await server.stop(None)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["spiffe://example/ns/desk/sa/desk"], ("spiffe://example/ns/desk/sa/desk",)),
        (["spiffe://a-b_c.d1/Path_1.x-y/..."], ("spiffe://a-b_c.d1/Path_1.x-y/...",)),
        (["desk.example", "spiffe://example/desk", "other.example"], ("spiffe://example/desk",)),
        (["desk.example"], ("dns:desk.example",)),
        (["Desk.EXAMPLE", "b.example", "desk.example", "desk"], ("dns:desk.example", "dns:b.example", "dns:desk")),
        (["*.example", "desk.example"], ("dns:desk.example",)),
        ([x509.DNSName("spiffe://example/desk"), "desk.example"], ("dns:desk.example",)),
        ([x509.IPAddress(ipaddress.ip_address("10.0.0.1")), "desk.example"], ("dns:desk.example",)),
    ],
    ids=lambda value: str(value[0])[:30],
)
async def test_names_that_are_proven(proofs_of, names, found):
    """A SPIFFE id stands alone; else all the host names count, in lower case, but none with a star."""
    pair = ROOT.issue(*names, common_name="spiffe://example/root")
    caller = caller_of_certificate(await proofs_of(pair))
    assert (caller.names, caller.expires_at) == (found, pair.ends_at)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ([], "no subject alternative name"),
        (["spiffe://example/desk", "spiffe://example/other"], "several URI names"),
        (["spiffe://example/desk", "https://example/desk"], "several URI names"),
        (["https://example/desk"], "no SPIFFE id"),
        (["https://example/desk", "desk.example"], "no SPIFFE id"),
        (["SPIFFE://example/desk"], "no SPIFFE id"),
        (["spiffe://Example/desk"], "no SPIFFE id"),
        (["spiffe://example"], "no SPIFFE id"),
        (["spiffe://example/"], "no SPIFFE id"),
        (["spiffe:///desk"], "no SPIFFE id"),
        (["spiffe://example/desk/"], "no SPIFFE id"),
        (["spiffe://example//desk"], "no SPIFFE id"),
        (["spiffe://example/ns/../desk"], "no SPIFFE id"),
        (["spiffe://example/."], "no SPIFFE id"),
        (["spiffe://example:443/desk"], "no SPIFFE id"),
        (["spiffe://user@example/desk"], "no SPIFFE id"),
        (["spiffe://example/desk?x=1"], "no SPIFFE id"),
        (["spiffe://example/desk#x"], "no SPIFFE id"),
        (["spiffe://example/de%73k"], "no SPIFFE id"),
        (["spiffe://example/desk\n"], "no SPIFFE id"),
        (["spiffe://example/" + "x" * 2048], "no SPIFFE id"),
        (["*.example"], "names nobody"),
        ([x509.DNSName("spiffe://example/desk")], "names nobody"),
        ([x509.DNSName("desk.example\n"), x509.DNSName("a,b"), x509.DNSName("")], "names nobody"),
        ([x509.RFC822Name("desk@example")], "names nobody"),
        ([x509.IPAddress(ipaddress.ip_address("10.0.0.1"))], "names nobody"),
    ],
    ids=lambda value: str(value[0])[:40] if value else "none",
)
async def test_what_names_nobody_is_refused(proofs_of, names, says):
    """A common name is never looked at, whatever it looks like; the caller is told what kind of certificate to get."""
    pair = ROOT.issue(*names, common_name="spiffe://example/desk")
    with pytest.raises(CallerUnknown, match=says) as refused:
        caller_of_certificate(await proofs_of(pair))
    assert "spiffe://example" not in str(refused.value)


async def test_an_authority_is_no_caller(proofs_of):
    """What may sign for others is not the certificate of a caller, whatever name it has."""
    pair = ROOT.issue("spiffe://example/desk", authority=True)
    with pytest.raises(CallerUnknown, match="is an authority's"):
        caller_of_certificate(await proofs_of(pair))


async def test_who_has_shown_no_certificate_is_nobody():
    """On a plain port, and with TLS alone, nothing is proven."""
    assert caller_of_certificate({}) is None
    assert caller_of_certificate({"transport_security_type": [b"ssl"]}) is None


@pytest.mark.parametrize("shown", [b"", b"none", OWN.certificate[:200]])
async def test_what_is_no_certificate_is_refused(shown):
    """No error of a library gets out, whatever is shown."""
    with pytest.raises(CallerUnknown, match="cannot be read"):
        caller_of_certificate({"x509_pem_cert": [shown]})
