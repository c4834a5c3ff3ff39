"""The certificate of the port that gateways push to, which may be replaced while it serves."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Final

from qc_adapter.certificate_pair import read_pair

if TYPE_CHECKING:
    from qc_adapter.settings import ServerTls

#: What encrypts and proves in one, with keys that nobody can find out later; of TLS 1.3 all do.
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"


class PushCertificate:
    """
    The TLS context of a listener, and behind it the one that each new connection gets.

    To load another pair into the context in use is no single step: when certificate and key do not fit, it is left with
    neither. So each pair gets a context of its own, and a handshake is moved to the newest.
    """

    def __init__(self, tls: ServerTls) -> None:
        """Read the files; raises `OSError` when they cannot be used."""
        self._tls = tls
        self._newest = self.context = self._made()
        self.context.sni_callback = self._move

    def load(self) -> None:
        """Show what lies on disk now to whoever connects from now on; raises `Unusable` and `OSError`."""
        read_pair(self._tls.cert_file, self._tls.key_file).check_time()
        self._newest = self._made()

    def _made(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # the default one heeds SSLKEYLOGFILE
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(_CIPHERS)
        # Without a password of its own OpenSSL would ask for one at the terminal.
        context.load_cert_chain(self._tls.cert_file, self._tls.key_file, password=lambda: b"")
        return context

    def _move(self, connection: ssl.SSLSocket | ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._newest
