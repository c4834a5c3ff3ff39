"""When certificates end, as the metric tells it from the files of the settings."""

from __future__ import annotations

import os
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


class Watched:
    """Gauges of one file, and a clock."""

    def __init__(self, path, gateway="none", use="server"):
        self.now = 1000.0
        self.path = path
        self.ends = CertificateEnds(CERTIFICATE_EXPIRY, frozenset({"none", "north"}), USES, lambda: self.now)
        self.registry = CollectorRegistry()
        self.registry.register(self.ends)
        self.ends.watch([CertificateFile(gateway, use, str(path))])

    def shown(self):
        """The samples of a scrape."""
        lines = generate_latest(self.registry).decode().splitlines()
        return dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))

    def end(self):
        """The one value there is."""
        [value] = self.shown().values()
        return float(value)

    def replace(self, content):
        """Put another file in its place, and say that it is newer whatever the file system's clock says."""
        later = self.path.stat().st_mtime_ns + 1_000_000_000
        self.path.write_bytes(content)
        os.utime(self.path, ns=(later, later))


async def test_the_first_end_in_a_file_counts(tmp_path, pem):
    """A chain fails with its first certificate, wherever in the file that one stands."""
    path = tmp_path / "chain.pem"
    path.write_bytes(pem(LATER) + pem(SOON))
    watched = Watched(path, "north", "gateway_ca")
    [(name, value)] = watched.shown().items()
    assert name == 'qc_certificate_expiry_timestamp_seconds{gateway="north",use="gateway_ca"}'
    assert float(value) == SOON.timestamp()


async def test_a_renewed_file_is_read_after_a_minute(tmp_path, pem):
    """A scrape reads no file that was looked at just before, and a file that was replaced at the next look."""
    path = tmp_path / "server.pem"
    path.write_bytes(pem(SOON))
    watched = Watched(path)
    watched.replace(pem(LATER))
    watched.now += 59
    assert watched.end() == SOON.timestamp()
    watched.now += 1
    assert watched.end() == LATER.timestamp()


@pytest.mark.parametrize("how", ["removed", "spoilt", "empty"])
async def test_a_file_that_cannot_be_read_any_more_keeps_its_end(tmp_path, pem, how):
    """The certificate in use is still the one that was read; a good file is taken again."""
    path = tmp_path / "server.pem"
    path.write_bytes(pem(SOON))
    watched = Watched(path)
    if how == "removed":
        path.rename(tmp_path / "away.pem")
    else:
        watched.replace(b"none" if how == "spoilt" else b"")
    watched.now += 60
    assert watched.end() == SOON.timestamp()
    path.touch()
    watched.replace(pem(LATER))
    watched.now += 60
    assert watched.end() == LATER.timestamp()


async def test_a_file_that_could_never_be_read_has_no_end(tmp_path):
    """No value is better than a made-up one."""
    assert Watched(tmp_path / "none.pem").shown() == {}
