"""A server's certificate and its key as they lie on disk, read at once and held against each other before use."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from qc_adapter.watched import Unusable

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

#: What the gRPC library takes; with any other it would go on with the old certificate and say nothing.
_CURVES: Final = frozenset({"secp256r1", "secp384r1", "secp521r1"})


@dataclass(frozen=True, slots=True)
class CertificatePair:
    """
    The content of both files, which fit; `begins_at` and `ends_at` are those of the certificate, in Unix time.

    It is written anew from what was understood: no other reader can understand it in another way, or not at all.
    """

    certificate: bytes
    key: bytes
    begins_at: float
    ends_at: float

    def check_time(self) -> None:
        """Raise `Unusable` when nobody would trust the certificate now: any one in use is better, or no worse."""
        now = time.time()
        if self.ends_at <= now:
            raise Unusable("the certificate has ended: put a renewed one there")
        if self.begins_at > now:
            raise Unusable("the certificate is not valid yet: it is taken when it is, or the clock is wrong")


def read_pair(cert_file: str, key_file: str) -> CertificatePair:
    """Return what the files hold; raises `Unusable` when no server can show it, and `OSError`."""
    # Over 1 MiB, and without a certificate nobody needs it.
    from cryptography.hazmat.primitives import serialization as form  # noqa: PLC0415

    chain, content = _certificates(Path(cert_file).read_bytes()), Path(key_file).read_bytes()
    try:
        key = form.load_pem_private_key(content, password=None)
    except TypeError:
        raise Unusable("the key has a password: give one without") from None
    except Exception:  # noqa: BLE001 - the library has errors of many kinds for this, and some quote the file
        raise Unusable("the key is none in PEM form") from None
    first = chain[0]
    if key.public_key() != first.public_key():
        raise Unusable("certificate and key do not fit together: put both files of the same pair there")
    _check_kind(first)
    key_text = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    return CertificatePair(
        _text(chain), key_text, first.not_valid_before_utc.timestamp(), first.not_valid_after_utc.timestamp()
    )


def read_authorities(path: str, *, ended_too: bool = False) -> bytes:
    """Return the certificates that sign others; raises `Unusable` when nobody can be trusted by them, and `OSError`."""
    found = _certificates(Path(path).read_bytes())
    if not ended_too and all(one.not_valid_after_utc.timestamp() <= time.time() for one in found):
        raise Unusable("all authorities in the file have ended: nobody would be let in")
    return _text(found)


def _certificates(content: bytes) -> list[Certificate]:
    from cryptography import x509  # noqa: PLC0415

    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError:
        raise Unusable("the file holds no certificates in PEM form, or one that cannot be read") from None


def _text(certificates: list[Certificate]) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding  # noqa: PLC0415

    return b"".join(one.public_bytes(Encoding.PEM) for one in certificates)


def _check_kind(certificate: Certificate) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa  # noqa: PLC0415

    match certificate.public_key():
        case rsa.RSAPublicKey() | ed25519.Ed25519PublicKey():
            return
        case ec.EllipticCurvePublicKey() as key if key.curve.name in _CURVES:
            return
    raise Unusable("the key is of a kind that cannot be used here: take RSA, or ECDSA with P-256")
