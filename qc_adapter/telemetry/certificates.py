"""When the certificates in the files of the settings end, for a metric: an alert must come before a port fails."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography import x509
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

from qc_adapter.telemetry.labels import OTHER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client.metrics_core import Metric

    from qc_adapter.telemetry.catalogue import MetricRow

#: A scrape looks at a file that was looked at just before no more.
_LOOK_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class CertificateFile:
    """A file of the settings with certificates; `gateway` is `none` for our own ports."""

    gateway: str
    use: str
    path: str


def first_end(path: str) -> float:
    """Return when the first of the certificates in a PEM file ends, in Unix time; raises `OSError`, `ValueError`."""
    found = x509.load_pem_x509_certificates(Path(path).read_bytes())
    return min(certificate.not_valid_after_utc.timestamp() for certificate in found)


class CertificateEnds(Collector):
    """
    One gauge for each file, read anew when the file has changed.

    A file that cannot be read keeps what was read before: the certificate in use is still that one. One that could
    never be read has no gauge.
    """

    def __init__(
        self,
        row: MetricRow,
        gateways: frozenset[str],
        uses: frozenset[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._row = row
        self._gateways = gateways
        self._uses = uses
        self._clock = clock
        self._files: tuple[CertificateFile, ...] = ()
        self._ends: dict[CertificateFile, float] = {}
        self._changed_at: dict[CertificateFile, int] = {}
        self._looked_at = 0.0

    def watch(self, files: Iterable[CertificateFile]) -> None:
        """Read these files now, and from now on."""
        self._files = tuple(files)
        self._look()

    def collect(self) -> Iterable[Metric]:
        """Return the gauges; looks whether files have changed if the last look was some time ago."""
        if self._clock() - self._looked_at >= _LOOK_SECONDS:
            self._look()
        family = GaugeMetricFamily(self._row.name, self._row.help, labels=self._row.labels)
        for file, end in self._ends.items():
            gateway = file.gateway if file.gateway in self._gateways else OTHER
            use = file.use if file.use in self._uses else OTHER
            family.add_metric((gateway, use), end)
        yield family

    def _look(self) -> None:
        self._looked_at = self._clock()
        for file in self._files:
            try:
                changed_at = Path(file.path).stat().st_mtime_ns
                if changed_at != self._changed_at.get(file):
                    self._ends[file] = first_end(file.path)
                    self._changed_at[file] = changed_at
            except (OSError, ValueError):
                continue  # it may be half-way through being replaced: the next look tries again
