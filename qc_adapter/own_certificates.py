"""The certificates of our own ports: read anew when their files change, and told of by what is in use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from qc_adapter.settings_certificates import certificate_files

if TYPE_CHECKING:
    from collections.abc import Iterable

    from qc_adapter.settings import ServerTls, Settings
    from qc_adapter.telemetry.certificates import CertificateFile
    from qc_adapter.watched import WatchedFiles


class Port(Protocol):
    """A port that can show another certificate."""

    def load(self) -> None:
        """Take into use what lies on disk; raises `Unusable` and `OSError`."""
        ...


class Counts(Protocol):
    """What is told of certificates."""

    def certificates_loaded(self, files: Iterable[CertificateFile]) -> None: ...


def watch_own_certificates(
    settings: Settings, watched: WatchedFiles, counts: Counts, grpc_port: Port | None, push_port: Port | None
) -> None:
    """Watch the files before the ports read them for the first time, so that no change is missed."""
    files = certificate_files(settings)
    counts.certificates_loaded(files)

    def watch(what: str, port: Port | None, tls: ServerTls | None, *uses: str) -> None:
        if port is None or tls is None:
            return
        of_port = [file for file in files if file.use in uses]

        def load() -> None:
            port.load()
            counts.certificates_loaded(of_port)

        watched.add(what, (tls.cert_file, tls.key_file, tls.client_ca_file), load)

    watch("server", grpc_port, settings.tls, "server", "client_ca")
    watch("push", push_port, settings.push.tls if settings.push else None, "push")
