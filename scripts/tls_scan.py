"""
Scan the TLS ports of a real adapter with sslyze, and judge what it found.

sslyze needs another version of a library than the adapter, so it has an environment of its own, below .tools/, made
from requirements-scan.txt. The adapter serves on loopback: once with an RSA certificate, once with one of an elliptic
curve and callers' certificates. Ends with 1 when something weak is offered.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import ipaddress
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).resolve().parent.parent
LOCK: Final = ROOT / "requirements-scan.txt"
PLACE: Final = ROOT / ".tools" / "scan"
START_SECONDS: Final = 30.0
SCAN_SECONDS: Final = 180
_TOKEN: Final = "scantoken0123456789"  # noqa: S105 - known to nobody but this run
_SERVE: Final = "import sys; from qc_adapter.cli import main; sys.argv[0] = 'qc-adapter'; sys.exit(main())"
_SCANS: Final = ("certinfo", "sslv2", "sslv3", "tlsv1", "tlsv1_1", "tlsv1_2", "tlsv1_3", "compression", "reneg",
                 "heartbleed", "robot", "openssl_ccs", "fallback", "elliptic_curves", "ems")  # fmt: skip
_FINE: Final = (
    "No problem: no SSL, no TLS 1.0 or 1.1, no compression, no insecure renegotiation, not open to Heartbleed, ROBOT "
    "and CCS injection, chains as given."
)
_OLD: Final = ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1")
_NEW: Final = ("tls_1_2", "tls_1_3")
#: What has to be so, as sslyze says it.
_WANTED: Final = (
    ("tls_compression", "supports_compression", False),
    ("session_renegotiation", "supports_secure_renegotiation", True),
    ("session_renegotiation", "is_vulnerable_to_client_renegotiation_dos", False),
    ("heartbleed", "is_vulnerable_to_heartbleed", False),
    ("openssl_ccs_injection", "is_vulnerable_to_ccs_injection", False),
    ("tls_fallback_scsv", "supports_fallback_scsv", True),
    ("tls_extended_master_secret", "supports_ems_extension", True),
)


class Authority:
    """Signs certificates as a strict reader wants them; they live for 90 days."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "scan authority")])
        usage = x509.KeyUsage(
            digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False,
            key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
            decipher_only=False,
        )  # fmt: skip
        extensions = [(x509.BasicConstraints(ca=True, path_length=None), True), (usage, True)]
        self.file = folder / "ca.pem"
        self.file.write_bytes(self._signed(self._name, self._key.public_key(), extensions))

    def issue(self, name: str, key: Any) -> tuple[Path, Path]:
        """Write a certificate for that name and loopback, and its key; return both files."""
        names = x509.SubjectAlternativeName([x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        uses = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        extensions = [(names, False), (uses, False), (x509.BasicConstraints(ca=False, path_length=None), True)]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate, private = self._folder / f"{name}-{id(key)}.pem", self._folder / f"{name}-{id(key)}.key"
        certificate.write_bytes(self._signed(subject, key.public_key(), extensions))
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return certificate, private

    def _signed(self, subject: x509.Name, public: Any, extensions: list[tuple[Any, bool]]) -> bytes:
        now = dt.datetime.now(dt.UTC)
        builder = x509.CertificateBuilder(self._name, subject, public, x509.random_serial_number())
        builder = builder.not_valid_before(now - dt.timedelta(hours=1))
        builder = builder.not_valid_after(now + dt.timedelta(days=90))
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        extensions = [*extensions, (identifier, False), (x509.SubjectKeyIdentifier.from_public_key(public), False)]
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical=critical)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def sslyze() -> list[str]:
    """Return how the scanner is called; makes its environment at first use and after a change of the lock."""
    mark, python = PLACE / "lock", PLACE / "bin" / "python"
    if not python.exists() or not mark.exists() or mark.read_bytes() != LOCK.read_bytes():
        venv.create(PLACE, with_pip=True, clear=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
        made = subprocess.run([*pip, "--requirement", str(LOCK)], check=False, capture_output=True, text=True)  # noqa: S603
        if made.returncode:
            raise RuntimeError(f"the scanner cannot be installed:\n{made.stderr}")
        mark.write_bytes(LOCK.read_bytes())
    # Its programs name the folder that they were installed in: a clone that was moved has them too.
    return [str(python), "-m", "sslyze"]


@contextlib.contextmanager
def serving(folder: Path, pair: tuple[Path, Path], client_ca: Path | None) -> Iterator[tuple[int, int]]:
    """Run the adapter with TLS on its gRPC and push ports; yields the ports. There is no gateway."""
    sys.path.insert(0, str(ROOT))
    from bench.ports import free_port  # noqa: PLC0415 - found by the line above

    push, (certificate, key) = free_port(), map(str, pair)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("QC_")}
    environment |= {
        "PYTHONPATH": str(ROOT),
        "QC_GATEWAY_URL": "http://127.0.0.1:1",
        "QC_LISTEN": "127.0.0.1:0",
        "QC_OPS_LISTEN": "127.0.0.1:0",
        "QC_TLS_CERT_FILE": certificate,
        "QC_TLS_KEY_FILE": key,
        "QC_TLS_CLIENT_CA_FILE": str(client_ca or ""),
        "QC_PUSH_LISTEN": f"127.0.0.1:{push}",
        "QC_PUSH_URL": f"https://localhost:{push}/events",
        "QC_PUSH_TOKEN": _TOKEN,
        "QC_PUSH_TLS_CERT_FILE": certificate,
        "QC_PUSH_TLS_KEY_FILE": key,
        "QC_DRAIN_SECONDS": "0",
    }
    log = folder / "adapter.log"
    with log.open("wb") as out, (folder / "adapter.err").open("wb") as errors:
        process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-c", _SERVE, "serve"], cwd=folder, env=environment, stdout=out, stderr=errors
        )
    try:
        yield _port(log, process), push
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _port(log: Path, process: subprocess.Popen[bytes]) -> int:
    ends = time.monotonic() + START_SECONDS
    while time.monotonic() < ends and process.poll() is None:
        for line in log.read_text(errors="replace").splitlines():
            if '"event":"started"' in line:
                return int(json.loads(line)["listen"].rpartition(":")[2])
        time.sleep(0.05)
    raise RuntimeError(f"the adapter does not start: {log.read_text(errors='replace')[-500:]}")


def scan(
    folder: Path, port: int, ca: Path, client: tuple[Path, Path] | None, scans: tuple[str, ...] = _SCANS
) -> dict[str, Any]:
    """Scan one port and return what sslyze says of it."""
    out = folder / f"{port}.json"
    command = [*sslyze(), *(f"--{one}" for one in scans), "--mozilla_config", "disable", "--quiet"]
    command += ["--certinfo_ca_file", str(ca), "--json_out", str(out), f"localhost:{port}"]
    if client is not None:
        command += ["--cert", str(client[0]), "--key", str(client[1])]
    subprocess.run(command, check=False, timeout=SCAN_SECONDS, capture_output=True)  # noqa: S603 - its lock is ours
    [result] = json.loads(out.read_text())["server_scan_results"]
    found: dict[str, Any] = result
    return found


def judge(result: dict[str, Any], given: Path) -> tuple[list[str], list[str]]:
    """Return what is offered, and what is wrong with it; `given` is the certificate that the port was given."""
    scanned = result["scan_result"]
    if scanned is None:
        return [], [f"it could not be scanned: {result['connectivity_status']}"]
    problems: list[str] = []

    def of(name: str) -> dict[str, Any]:
        found = scanned[name]
        if found["status"] != "COMPLETED":
            problems.append(f"{name} was not found out: {found['error_reason']}")
        return found["result"] or {}

    offered = []
    for version in (*_OLD, *_NEW):
        names = [
            one["cipher_suite"]["name"] for one in of(f"{version}_cipher_suites").get("accepted_cipher_suites", [])
        ]
        if names and version in _OLD:
            problems.append(f"{version} is offered")
        problems += [f"{name} is weak" for name in names if not _strong(name)]
        offered += [f"{name}" for name in names]
        if not names and version in _NEW:
            problems.append(f"{version} is not offered")
    problems += [f"{name}: {what} is not {want}" for name, what, want in _WANTED if of(name).get(what) is not want]
    robot = of("robot").get("robot_result", "")
    problems += [] if robot.startswith("NOT_VULNERABLE") else [f"ROBOT: {robot}"]
    return offered, problems + _chain(of("certificate_info"), given)


def _strong(name: str) -> bool:
    """Whether a suite encrypts and proves in one, with a key that nobody can find out later."""
    forward = name.startswith("TLS_ECDHE_") or "_WITH_" not in name
    return forward and ("_GCM_" in name or "CHACHA20_POLY1305" in name)


def _chain(found: dict[str, Any], given: Path) -> list[str]:
    problems = []
    own = x509.load_pem_x509_certificate(given.read_bytes())
    for deployment in found.get("certificate_deployments", []):
        chain = [
            x509.load_pem_x509_certificate(one["as_pem"].encode()) for one in deployment["received_certificate_chain"]
        ]
        if chain != [own]:
            problems.append("the chain is not the one that was given")
        trusted = [
            one for one in deployment["path_validation_results"] if one["trust_store"]["name"] == "Supplied CA file"
        ]
        if not all(one["was_validation_successful"] for one in trusted):
            problems.append(f"the chain is not trusted: {trusted[0]['validation_error']}")
    return problems


def _admission(result: dict[str, Any], *, shown: bool) -> list[str]:
    """Return what is wrong with how the port treats whoever shows no certificate."""
    asked = (result["connectivity_result"] or {}).get("client_auth_requirement", "REQUIRED")
    return [] if (asked == "REQUIRED") is shown else [f"callers' certificates: {asked.lower()}"]


def main() -> int:
    """Scan all of them, print a table, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, help="write the table into this page, between its marks")
    page = parser.parse_args().write
    rows, wrong = [], []
    with tempfile.TemporaryDirectory(prefix="qc-scan-") as place:
        folder = Path(place)
        authority = Authority(folder)
        rsa_pair = authority.issue("localhost", rsa.generate_private_key(65537, 2048))
        ec_pair = authority.issue("localhost", ec.generate_private_key(ec.SECP256R1()))
        client = authority.issue("caller", ec.generate_private_key(ec.SECP256R1()))
        for kind, pair, client_ca in (("RSA", rsa_pair, None), ("EC", ec_pair, authority.file)):
            with serving(folder, pair, client_ca) as (port, push):
                how = f"gRPC, {kind} certificate{', callers show theirs' if client_ca else ''}"
                targets = [(how, port, client if client_ca else None), (f"push, {kind} certificate", push, None)]
                for name, number, shown in targets:
                    result = scan(folder, number, authority.file, shown)
                    offered, problems = judge(result, pair[0])
                    problems += _admission(scan(folder, number, authority.file, None, ("certinfo",)), shown=bool(shown))
                    wrong += [f"{name}: {one}" for one in problems]
                    suites = "<br>".join(f"`{one}`" for one in offered)
                    rows.append(f"| {name} | {suites} | {'; '.join(problems) or 'nothing weak'} |")
    lines = ["| port | offered | found |", "| --- | --- | --- |", *rows, "", *(wrong or [_FINE])]
    print("\n".join(lines))
    if page:
        from bench.pages import put  # noqa: PLC0415 - found since `serving`

        put(page, "tls", "\n".join(lines))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
