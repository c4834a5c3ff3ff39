"""Who calls, by the certificate of its connection: a SPIFFE id, or DNS names. The common name proves nothing."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from qc_adapter.access.caller import Caller
from qc_adapter.access.identities import DNS, is_host, is_spiffe_id
from qc_adapter.model.errors import CallerUnknown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cryptography.x509 import Certificate

#: gRPC's name for the certificate that the TLS handshake has proven.
_CERTIFICATE: Final = "x509_pem_cert"
#: A connection shows the same certificate with each call.
_MOST_KEPT: Final = 1024


def caller_of_certificate(proofs: Mapping[str, Iterable[bytes]]) -> Caller | None:
    """
    Return whom the certificate names, None when the connection has shown none; raises `CallerUnknown`.

    `proofs` are gRPC's of the connection. The certificate was trusted when the connection began; whether it still lasts
    is for who asks to see (`expires_at`).
    """
    shown = next(iter(proofs.get(_CERTIFICATE, ())), None)
    if shown is None:
        return None
    found = _read(shown)
    if isinstance(found, str):
        raise CallerUnknown(found)
    return found


@lru_cache(maxsize=_MOST_KEPT)
def _read(pem: bytes) -> Caller | str:
    """Return the caller that a certificate names, or what is wrong with it."""
    from cryptography import x509  # noqa: PLC0415 - over 1 MiB, and without certificates nobody needs it

    try:
        certificate = x509.load_pem_x509_certificate(pem)
        names = _names(certificate)
    except (ValueError, x509.DuplicateExtension, x509.InvalidVersion, x509.UnsupportedGeneralNameType):
        return "its certificate cannot be read"
    return names if isinstance(names, str) else Caller(names, certificate.not_valid_after_utc.timestamp())


def _names(certificate: Certificate) -> tuple[str, ...] | str:
    from cryptography import x509  # noqa: PLC0415

    if _is_authority(certificate):
        return "its certificate is an authority's: have one issued for the caller alone"
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return "its certificate has no subject alternative name: have one issued with a SPIFFE id or a DNS name"
    uris = alternatives.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) > 1:
        return "its certificate has several URI names: have one issued with a single SPIFFE id"
    if uris:
        return _name_of(uris[0])
    hosts = (name.lower() for name in alternatives.get_values_for_type(x509.DNSName))
    # A name with a star stands for many hosts, so it tells nobody apart.
    found = tuple(dict.fromkeys(f"{DNS}{host}" for host in hosts if is_host(host)))
    return found or "its certificate names nobody: have one issued with a SPIFFE id, or a DNS name without a star"


def _name_of(uri: str) -> tuple[str] | str:
    """Return the name that a URI is, or what is wrong with it."""
    if is_spiffe_id(uri):
        return (uri,)
    return "the URI name of its certificate is no SPIFFE id: have one issued with spiffe://trust-domain/path"


def _is_authority(certificate: Certificate) -> bool:
    from cryptography import x509  # noqa: PLC0415

    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False
