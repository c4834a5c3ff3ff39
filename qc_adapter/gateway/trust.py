"""What makes a gateway trusted: an authority and its name, or a pinned certificate; its files are read anew."""

from __future__ import annotations

import hashlib
import hmac
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from qc_adapter.gateway.settings import GatewaySettings

_MISMATCH: Final = "KEY_VALUES_MISMATCH"


class Trust:
    """
    The TLS context of new connections to one gateway; `None` for a plain address.

    Connections that are open stay as they are: whoever asks for the context anew gets new ones.
    """

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._files = tuple(path for path in (settings.ca_file, settings.cert_file, settings.key_file) if path)
        self._read = self._digest()
        self.context = trust_of(settings)

    def reload(self) -> None:
        """
        Read the files anew, and take them into use if something else stands in them.

        Raises `ValueError` or `OSError` when they cannot be used; then all stays as it was.
        """
        read = self._digest()
        # A new context is a new pool of connections: not for a file that was only touched.
        if read != self._read:
            self.context = trust_of(self._settings)
            self._read = read

    def _digest(self) -> bytes:
        found = hashlib.sha256()
        for path in self._files:
            found.update(hashlib.sha256(Path(path).read_bytes()).digest())
        return found.digest()


def trust_of(settings: GatewaySettings) -> ssl.SSLContext | None:
    """
    Return a TLS context for connections; `None` for a plain address.

    Raises `OSError`, or `ValueError` that says which file cannot be used.
    """
    if not settings.base_url.startswith("https:"):
        return None
    # Not ssl.create_default_context: that writes the keys of sessions to a file if SSLKEYLOGFILE says so.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.pins:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.sslobject_class = _pinned(settings.pins)
        context.options |= ssl.OP_NO_RENEGOTIATION  # a second handshake might show another certificate
    else:
        _load_authorities(context, settings.ca_file)
    if settings.cert_file:
        _load_own(context, settings.cert_file, settings.key_file)
    return context


def fingerprint_of(certificate: bytes) -> str:
    """Return the SHA-256 of a certificate in DER form, as hex: what a pin is compared with."""
    return hashlib.sha256(certificate).hexdigest()


def refusal_of(error: Exception) -> str | None:
    """Say which side does not trust the other, if that is what the error of a connection means."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the gateway's certificate is not trusted: {error.verify_message.strip('. ')}"
    if not isinstance(error, ssl.SSLError) or error.reason is None:
        return None
    if "ALERT" in error.reason and ("CERT" in error.reason or "UNKNOWN_CA" in error.reason):
        return "the gateway does not accept this adapter's client certificate"
    if "HANDSHAKE_FAILURE" in error.reason:
        return "the gateway declines the TLS handshake: it may want a client certificate, or other ciphers"
    if "VERSION" in error.reason or "PROTOCOL" in error.reason:
        return "the gateway does not speak TLS 1.2 or newer on this port"
    return None


def _load_authorities(context: ssl.SSLContext, ca_file: str | None) -> None:
    if ca_file is None:
        context.load_default_certs()
        return
    try:
        context.load_verify_locations(ca_file)
    except ssl.SSLError:
        raise ValueError(f"{ca_file} must be certificates in PEM form") from None


def _load_own(context: ssl.SSLContext, cert_file: str, key_file: str | None) -> None:
    try:
        # Without a password of its own OpenSSL would ask for one at the terminal.
        context.load_cert_chain(cert_file, key_file, password=lambda: b"")
    except ssl.SSLError as error:
        if error.reason == _MISMATCH:
            raise ValueError(f"{key_file} is not the key of {cert_file}") from None
        raise ValueError(f"{cert_file} and {key_file} must be in PEM form, the key without a password") from None


def _pinned(pins: Iterable[str]) -> type[ssl.SSLObject]:
    """Return the kind of TLS connection that ends its handshake with an error unless one of the pins fits."""
    wanted = tuple(pins)

    class Pinned(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            # Nothing of a request has gone out, nor our own certificate: that waits in the buffer for this to return.
            shown = self.getpeercert(binary_form=True)
            seen = fingerprint_of(shown) if shown else "none"
            if not any(hmac.compare_digest(seen, pin) for pin in wanted):
                error = ssl.SSLCertVerificationError("not one of the pinned certificates")
                error.verify_code = 0
                error.verify_message = f"it is none of the pinned ones, its SHA-256 is {seen}"
                raise error

    return Pinned
