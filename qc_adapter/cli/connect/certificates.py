"""Certificates that are looked at: how long they last, whose names they hold, who signed them."""

from __future__ import annotations

import contextlib
import ipaddress
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.x509.oid import NameOID

from qc_adapter import variables as at
from qc_adapter.certificate_pair import read_authorities
from qc_adapter.settings_certificates import certificate_files
from qc_adapter.telemetry.certificates import first_end
from qc_adapter.variables import GatewayVariables
from qc_adapter.watched import Unusable

if TYPE_CHECKING:
    from qc_adapter.cli.connect.findings import Findings
    from qc_adapter.settings import ServerTls, Settings

#: With less than that left somebody has to be told.
SHORT_DAYS: Final = 21
_DAY_SECONDS: Final = 86_400.0
_MOST_NAMES: Final = 5
_OWN: Final = {"server": at.TLS_CERT_FILE, "client_ca": at.TLS_CLIENT_CA_FILE, "push": at.PUSH_TLS_CERT_FILE}


async def look_at_certificates(settings: Settings, findings: Findings) -> None:
    """Say which of our own files end soon; of authorities there may be others in the file."""
    for file in certificate_files(settings):
        of = GatewayVariables(file.gateway)
        variable = _OWN.get(file.use) or (of.ca_file if file.use == "gateway_ca" else of.cert_file)
        authorities = file.use in {"client_ca", "gateway_ca"}
        findings.begin(f"{variable.name} ({file.path})", "give a file that can be read")
        try:
            end = first_end(file.path)
        except (OSError, ValueError):
            findings.problem(f"{findings.doing}: no certificate can be read in it", "give a file of PEM certificates")
            continue
        say_how_long(
            findings, findings.doing, end, "put a renewed one there; no restart is needed", fatal=not authorities
        )
    if settings.tls is not None:
        _say_for_whom(settings.tls, findings)


def _say_for_whom(tls: ServerTls, findings: Findings) -> None:
    """Say by what names callers may reach the gRPC port, and how callers are known."""
    with contextlib.suppress(OSError, ValueError):  # of such files it is told above
        names = names_in(own_certificate(tls.cert_file))
        what = f"{at.TLS_CERT_FILE.name} is for {told(names)}"
        if names:
            findings.good(what)
        else:
            change = "have one made with the DNS names that callers use; the common name is not looked at"
            findings.warning(f"{what}: every caller refuses it", change)
    if not tls.client_ca_file:
        return
    with contextlib.suppress(OSError):
        try:
            read_authorities(tls.client_ca_file)
        except Unusable as unusable:
            findings.problem(f"{at.TLS_CLIENT_CA_FILE.name}: {unusable}", "put one there that signs callers now")
            return
        findings.good(f"callers have to show a certificate that {at.TLS_CLIENT_CA_FILE.name} signs (mutual TLS)")


def say_how_long(findings: Findings, what: str, end: float, change: str, *, fatal: bool = True) -> None:
    """Add how long a certificate lasts; one that is over is a problem, or a warning where there may be others."""
    days = (end - time.time()) / _DAY_SECONDS
    if days >= SHORT_DAYS:
        findings.good(f"{what} ends in {days:.0f} days")
    elif days > 0:
        findings.warning(f"{what} ends in {days:.0f} days", change)
    else:
        (findings.problem if fatal else findings.warning)(f"{what} ended {-days:.0f} days ago", change)


def own_certificate(path: str) -> x509.Certificate:
    """Return the certificate that a server shows of a file, the first; raises `OSError` and `ValueError`."""
    return x509.load_pem_x509_certificates(Path(path).read_bytes())[0]


def names_in(certificate: x509.Certificate) -> list[str]:
    """Return the hosts that it is for."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    return [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]


def told(names: list[str]) -> str:
    """Return the names as a text that stays short."""
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return (", ".join(names[:_MOST_NAMES]) + more) or "no host at all"


def issuer_of(certificate: x509.Certificate) -> str:
    """Return who signed it, as people call it."""
    for oid in (NameOID.COMMON_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME, NameOID.ORGANIZATION_NAME):
        if found := certificate.issuer.get_attributes_for_oid(oid):
            return str(found[0].value)
    return "an authority without a name"


def fits(host: str, names: list[str]) -> bool:
    """Whether a certificate with those names is one for the host; a star stands for the first label."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        host = host.lower().rstrip(".")
        wild = f"*.{host.partition('.')[2]}"
        return any(name.lower() in {host, wild} for name in names)
    return str(address) in names
