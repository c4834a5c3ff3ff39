"""A whole adapter before a gateway that goes, and before one whose certificates change."""

from __future__ import annotations

import ssl

import trustme
from grpc import StatusCode

from tests.support.watching import until


def context_of(certificate):
    """The TLS context of a gateway with that certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


async def test_a_gateway_that_is_away_fails_fast_and_comes_back(site):
    """After five requests in vain commands fail at once; the first poll that is answered lets them through again."""
    await site.wire.refuse()
    for _ in range(5):
        assert (await site.ending(site.command())).reason == "GATEWAY_UNAVAILABLE"
    await until(lambda: site.logged("circuit_opened"), "an open circuit")
    assert await site.sample("qc_gateway_circuit_open", gateway="default") == 1
    ended = await site.ending(site.command())
    assert (ended.code, ended.reason, ended.retry) == (StatusCode.UNAVAILABLE, "GATEWAY_UNAVAILABLE", True)
    assert "not sent" in ended.message
    assert "outcome" not in ended.metadata
    await site.wire.accept()
    await until(lambda: site.logged("circuit_closed"), "a closed circuit")
    assert await site.sample("qc_gateway_circuit_open", gateway="default") == 0
    assert (await site.ending(site.command())).kinds == ["accepted", "outcome"]
    assert len(site.gateway.requests("intercept")) == 1
    assert len(site.logged("circuit_opened")) == 1
    assert site.logged("circuit_opened")[0]["level"] == "warning"
    assert site.gateway.commands == ["login", "intercept"]  # nobody was signed out or in


async def test_one_inspector_with_too_many_commands_is_told(site):
    """The seventeenth command under way is refused with its limit; what is under way goes on."""
    site.gateway.answer("intercept", *[site.gateway.STALL] * 16)
    hanging = [site.command() for _ in range(16)]
    await until(lambda: len(site.gateway.requests("intercept")) == 16, "sixteen commands")
    ended = await site.ending(site.command())
    assert (ended.code, ended.reason, ended.retry) == (StatusCode.RESOURCE_EXHAUSTED, "LIMIT_REACHED", True)
    assert ended.metadata["limit"] == "commands_per_inspector"
    site.gateway.resume()
    for call in hanging:
        assert (await site.ending(call)).reason == "OUTCOME_UNKNOWN"
    assert len(site.gateway.requests("intercept")) == 16


async def test_the_gateways_authority_changes_while_it_is_served(open_wire, tmp_path):
    """A CA file that is replaced is in use a look later; one of no use is refused, told, and changes nothing."""
    old, new = trustme.CA(), trustme.CA()
    ca_file = tmp_path / "ca.pem"
    old.cert_pem.write_to_path(ca_file)
    context = context_of(old.issue_cert("127.0.0.1"))
    site = await open_wire(tls=context, QC_GATEWAY_CA_FILE=str(ca_file))
    site.secrets |= set(site.gateway.guids.values())
    new.issue_cert("127.0.0.1").configure_cert(context)
    site.wire.cut()
    ended = await site.ending(site.command())
    assert ended.code is not StatusCode.OK
    ca_file.write_text("nothing that could be read")
    site.adapter.watched.look()
    assert await site.sample("qc_reload_refused", what="gateway") == 1
    [refused] = site.logged("reload_refused")
    assert "PEM" in refused["detail"]
    new.cert_pem.write_to_path(ca_file)
    site.adapter.watched.look()
    assert await site.sample("qc_reload_refused", what="gateway") == 0
    assert len(site.logged("reloaded")) == 1
    await site.in_state("ACTIVE")
    assert (await site.ending(site.command())).kinds == ["accepted", "outcome"]
    assert await site.sample("qc_certificate_expiry_timestamp_seconds", use="gateway_ca") > 0
