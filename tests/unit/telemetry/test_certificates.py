"""When certificates end, as the metric tells it from the files of the settings."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import trustme
from prometheus_client import CollectorRegistry, generate_latest

from qc_adapter.telemetry.catalogue import CERTIFICATE_EXPIRY
from qc_adapter.telemetry.certificates import CertificateEnds, CertificateFile
from qc_adapter.telemetry.labels import LabelSets

USES = LabelSets(frozenset(), frozenset(), frozenset(), frozenset()).certificate_uses
#: A certificate's time has whole seconds.
SOON, LATER = (datetime.now(UTC).replace(microsecond=0) + timedelta(days=days) for days in (10, 400))


@pytest.fixture(scope="module")
def authority():
    """A certificate authority that outlives what it signs."""
    return trustme.CA()


@pytest.fixture
def pem(authority):
    """A function that makes a certificate with that end."""
    return lambda end: authority.issue_cert("adapter.example", not_after=end).cert_chain_pems[0].bytes()


class Read:
    """Gauges of one file."""

    def __init__(self, path, gateway="none", use="server"):
        ends = CertificateEnds(CERTIFICATE_EXPIRY, frozenset({"none", "north"}), USES)
        self.registry = CollectorRegistry()
        self.registry.register(ends)
        self.ends = ends
        ends.loaded([CertificateFile(gateway, use, str(path))])

    def shown(self):
        """The samples of a scrape."""
        lines = generate_latest(self.registry).decode().splitlines()
        return dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))


async def test_the_first_end_in_a_file_counts(tmp_path, pem):
    """A chain fails with its first certificate, wherever in the file that one stands."""
    path = tmp_path / "chain.pem"
    path.write_bytes(pem(LATER) + pem(SOON))
    [(name, value)] = Read(path, "north", "gateway_ca").shown().items()
    assert name == 'qc_certificate_expiry_timestamp_seconds{gateway="north",use="gateway_ca"}'
    assert float(value) == SOON.timestamp()


async def test_a_file_that_was_replaced_keeps_its_end_until_it_is_in_use(tmp_path, pem):
    """The gauge tells of what is in use, not of what lies on disk."""
    path = tmp_path / "server.pem"
    path.write_bytes(pem(SOON))
    read = Read(path)
    path.write_bytes(pem(LATER))
    assert [float(value) for value in read.shown().values()] == [SOON.timestamp()]
    read.ends.loaded([CertificateFile("none", "server", str(path))])
    assert [float(value) for value in read.shown().values()] == [LATER.timestamp()]


async def test_a_file_that_is_gone_again_keeps_its_end(tmp_path, pem):
    """What is in use ends when it ends, whatever became of its file."""
    path = tmp_path / "server.pem"
    path.write_bytes(pem(SOON))
    read = Read(path)
    path.unlink()
    read.ends.loaded([CertificateFile("none", "server", str(path))])
    assert [float(value) for value in read.shown().values()] == [SOON.timestamp()]


@pytest.mark.parametrize("content", [None, b"", b"none"], ids=["missing", "empty", "spoilt"])
async def test_a_file_that_cannot_be_read_has_no_end(tmp_path, content):
    """No value is better than a made-up one."""
    path = tmp_path / "server.pem"
    if content is not None:
        path.write_bytes(content)
    assert Read(path).shown() == {}
