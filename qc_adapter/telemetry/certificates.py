"""When the certificates that are in use end, for a metric: an alert must come before a port fails."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

from qc_adapter.telemetry.labels import OTHER

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.metrics_core import Metric

    from qc_adapter.telemetry.catalogue import MetricRow


@dataclass(frozen=True, slots=True)
class CertificateFile:
    """A file of the settings with certificates; `gateway` is `none` for our own ports."""

    gateway: str
    use: str
    path: str


def first_end(path: str) -> float:
    """Return when the first of the certificates in a PEM file ends, in Unix time; raises `OSError`, `ValueError`."""
    from cryptography import x509  # noqa: PLC0415 - over 1 MiB, and without a certificate nobody needs it

    found = x509.load_pem_x509_certificates(Path(path).read_bytes())
    return min(certificate.not_valid_after_utc.timestamp() for certificate in found)


class CertificateEnds(Collector):
    """
    One gauge for each file as it was when it was taken into use: what ports and connections show and trust.

    A file that was replaced by one that cannot be used does not silence the alert, for it is not in use. One that could
    not be read at the start has no gauge.
    """

    def __init__(self, row: MetricRow, gateways: frozenset[str], uses: frozenset[str]) -> None:
        self._row = row
        self._gateways = gateways
        self._uses = uses
        self._ends: dict[CertificateFile, float] = {}

    def loaded(self, files: Iterable[CertificateFile]) -> None:
        """Read these files, which were taken into use just now."""
        for file in files:
            with contextlib.suppress(OSError, ValueError):
                self._ends[file] = first_end(file.path)

    def collect(self) -> Iterable[Metric]:
        """Return the gauges."""
        family = GaugeMetricFamily(self._row.name, self._row.help, labels=self._row.labels)
        for file, end in self._ends.items():
            gateway = file.gateway if file.gateway in self._gateways else OTHER
            use = file.use if file.use in self._uses else OTHER
            family.add_metric((gateway, use), end)
        yield family
