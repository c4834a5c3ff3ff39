"""Certificates as tests need them: any names, any time, in files that are replaced as people and Kubernetes do it."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)
_PEM = serialization.Encoding.PEM


def _named(name):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _signed(subject, public_key, *, by, extensions, begins, ends):
    issuer, key = by
    builder = (
        x509.CertificateBuilder(issuer, subject, public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(key, hashes.SHA256())


class Pair:
    """A certificate and its key, in PEM form."""

    def __init__(self, certificate, key):
        self.certificate = certificate.public_bytes(_PEM)
        self.der = certificate.public_bytes(serialization.Encoding.DER)
        self.key = key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        self.ends_at = certificate.not_valid_after_utc.timestamp()


class Authority:
    """Signs certificates with any subject alternative names; trustme checks names, and knows no URIs."""

    def __init__(self, name="tests' CA"):
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        now = datetime.now(UTC)
        extensions = [x509.BasicConstraints(ca=True, path_length=None)]
        own = {"by": (self._name, self._key), "extensions": extensions, "begins": now - 30 * DAY}
        self.pem, self.ended_pem = (
            _signed(self._name, self._key.public_key(), **own, ends=ends).public_bytes(_PEM)
            for ends in (now + 30 * DAY, now - DAY)
        )

    def issue(self, *names, common_name="nobody", begins=-DAY, ends=DAY, authority=False, key=None):
        """Return a pair for those names; a text with a colon is a URI, any other one a DNS name."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        kinds = [_general(name) if isinstance(name, str) else name for name in names]
        extensions = [x509.SubjectAlternativeName(kinds)] if kinds else []
        extensions.append(x509.BasicConstraints(ca=authority, path_length=None))
        now = datetime.now(UTC)
        certificate = _signed(
            _named(common_name),
            key.public_key(),
            by=(self._name, self._key),
            extensions=extensions,
            begins=now + begins,
            ends=now + ends,
        )
        return Pair(certificate, key)


def _general(name):
    return x509.UniformResourceIdentifier(name) if ":" in name else x509.DNSName(name)


def as_caller(authority, pair=None):
    """The credentials of a channel that trusts this authority and shows that pair."""
    return grpc.ssl_channel_credentials(authority.pem, pair and pair.key, pair and pair.certificate)


def trusting(authority, **more):
    """A client's TLS context that trusts this authority, without a look at names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=authority.pem.decode())
    for name, value in more.items():
        setattr(context, name, value)
    return context


class Mounted:
    """A directory that Kubernetes fills with a secret: files are links, and all change when one link is turned."""

    def __init__(self, directory):
        self._directory = directory
        self._turns = 0

    def turn(self, **files):
        """Replace all files at once, as the kubelet does."""
        self._turns += 1
        new = self._directory / f"..{self._turns}"
        new.mkdir()
        for name, content in files.items():
            (new / name).write_bytes(content)
            if not (link := self._directory / name).is_symlink():
                link.symlink_to(f"..data/{name}")
        turned = self._directory / "..data_tmp"
        turned.symlink_to(new.name)
        turned.rename(self._directory / "..data")

    def path(self, name):
        """Where the settings say that a file lies."""
        return str(self._directory / name)
