"""What protects the gRPC port: its certificate, and the CAs that sign callers, for each handshake as read last."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import grpc

from qc_adapter.certificate_pair import read_authorities, read_pair

if TYPE_CHECKING:
    from qc_adapter.settings import ServerTls


class PortCertificates:
    """
    The credentials of a port whose files may be replaced while it serves.

    gRPC asks at each handshake, in a thread of its own, whether there is something new; what stands is left alone. A
    new configuration is handed out once: gRPC keeps it, and builds a TLS context of each that it is given. TLS 1.2 and
    1.3 with ephemeral keys and AEAD ciphers are all that the library speaks.
    """

    def __init__(self, tls: ServerTls) -> None:
        self._tls = tls
        self._new: deque[grpc.ServerCertificateConfiguration] = deque(maxlen=1)

    def credentials(self) -> grpc.ServerCredentials:
        """Read the files and return the credentials; raises `Unusable` and `OSError`."""
        return grpc.dynamic_ssl_server_credentials(
            self._read(at_start=True),
            self._newest,  # type: ignore[arg-type]  # its documentation allows None: nothing is new
            # Without a client CA there is nothing to hold a certificate against.
            require_client_authentication=self._tls.client_ca_file is not None,
        )

    def load(self) -> None:
        """Show what lies on disk now to whoever connects from now on; raises `Unusable` and `OSError`."""
        self._new.append(self._read())

    def _read(self, *, at_start: bool = False) -> grpc.ServerCertificateConfiguration:
        tls = self._tls
        pair = read_pair(tls.cert_file, tls.key_file)
        if not at_start:  # then there is no better one to keep
            pair.check_time()
        authorities = read_authorities(tls.client_ca_file, ended_too=at_start) if tls.client_ca_file else None
        return grpc.ssl_server_certificate_configuration([(pair.key, pair.certificate)], authorities)

    def _newest(self) -> grpc.ServerCertificateConfiguration | None:
        try:
            return self._new.pop()  # a single step: no other thread comes between
        except IndexError:
            return None
