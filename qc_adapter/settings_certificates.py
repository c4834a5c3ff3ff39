"""Whether the certificate files that the settings name can be used: else a port or a connection would fail later."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Final

from qc_adapter import variables as at
from qc_adapter.certificate_pair import read_pair
from qc_adapter.telemetry.certificates import CertificateFile
from qc_adapter.telemetry.labels import NO_GATEWAY
from qc_adapter.variables import GatewayVariables
from qc_adapter.watched import Unusable

if TYPE_CHECKING:
    from qc_adapter.environment import Reading, Variable
    from qc_adapter.settings import Settings

_OF_PORTS: Final = (at.TLS_CERT_FILE, at.PUSH_TLS_CERT_FILE)
_MISMATCH: Final = "KEY_VALUES_MISMATCH"


def check_certificates(reading: Reading, settings: Settings) -> None:
    """Read each file that the settings name; whether a peer trusts it only a connection can tell."""
    for gateway in settings.gateways:
        variables = GatewayVariables(gateway.name)
        _check_pair(reading, variables.cert_file, variables.key_file)
        _check_authorities(reading, variables.ca_file)
    _check_pair(reading, at.TLS_CERT_FILE, at.TLS_KEY_FILE)
    _check_authorities(reading, at.TLS_CLIENT_CA_FILE)
    _check_pair(reading, at.PUSH_TLS_CERT_FILE, at.PUSH_TLS_KEY_FILE)


def certificate_files(settings: Settings) -> list[CertificateFile]:
    """Return the files with certificates that the settings name, each by its use."""
    found: list[tuple[str, str, str | None]] = []
    if settings.tls is not None:
        found.append((NO_GATEWAY, "server", settings.tls.cert_file))
        found.append((NO_GATEWAY, "client_ca", settings.tls.client_ca_file))
    if settings.push is not None and settings.push.tls is not None:
        found.append((NO_GATEWAY, "push", settings.push.tls.cert_file))
    for gateway in settings.gateways:
        found.append((gateway.name, "gateway_ca", gateway.ca_file))
        found.append((gateway.name, "gateway_client", gateway.cert_file))
    return [CertificateFile(gateway, use, path) for gateway, use, path in found if path]


def _check_pair(reading: Reading, cert: Variable[str | None], key: Variable[str | None]) -> None:
    cert_file, key_file = reading.value(cert), reading.value(key)
    if not (cert_file and key_file and reading.sound(cert, key)):
        return
    try:
        # Without a password of its own OpenSSL would ask for one at the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert_file, key_file, password=lambda: b"")
    except ssl.SSLError as error:
        if error.reason == _MISMATCH:
            reading.complain(key.name, key_file, f"is not the key of {cert.name}")
        else:
            what = f"must be a certificate in PEM form, and {key.name} its key, in PEM form and without a password"
            reading.complain(cert.name, cert_file, what)
        return
    if cert in _OF_PORTS:
        try:
            read_pair(cert_file, key_file)
        except (Unusable, OSError) as unusable:
            reading.complain(cert.name, cert_file, f"cannot be used: {unusable}")


def _check_authorities(reading: Reading, ca: Variable[str | None]) -> None:
    ca_file = reading.value(ca)
    if not (ca_file and reading.sound(ca)):
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(ca_file)
    except ssl.SSLError:
        reading.complain(ca.name, ca_file, "must be certificates in PEM form")
