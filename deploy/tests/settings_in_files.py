"""Puts files in place of those that pods find mounted, so that the adapter can read its settings here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trustme
from cryptography.fernet import Fernet

from deploy.tests.manifests import FOLDER

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

STORE_URL = "redis+sentinel://:stub@redis-0.redis:26379,redis-1.redis:26379,redis-2.redis:26379/qc/0"


def with_files(
    environment: Mapping[str, str], folder: Path, given: Mapping[str, bytes] | None = None
) -> dict[str, str]:
    """Return the environment with each mounted file replaced by one that holds what its name promises, or `given`."""
    ca = trustme.CA()
    server = ca.issue_cert("qc-adapter.qc-adapter")
    contents = {
        "store-url": STORE_URL.encode(),
        "seal-keys": Fernet.generate_key(),
        "push-token": b"0123456789abcdef",
        "audit-key": b"0123456789abcdef0123456789abcdef",
        "token": b"a token of the cluster",
        "pod-token": b"a token of the pod",
        "policy.yaml": (FOLDER / "components" / "policy" / "policy.yaml").read_bytes(),
        "ca.crt": ca.cert_pem.bytes(),
        "tls.crt": server.cert_chain_pems[0].bytes(),
        "tls.key": server.private_key_pem.bytes(),
    } | dict(given or {})
    made = dict(environment)
    for name, value in environment.items():
        if value.startswith(("/run/secrets/", "/etc/qc-adapter/")):
            path = folder / value.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(contents[path.name])
            made[name] = str(path)
    return made
