"""Callers by their certificates. A stand-in until the real reader is here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qc_adapter.access.caller import Caller

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def caller_of_certificate(proofs: Mapping[str, Iterable[bytes]]) -> Caller | None:
    """Return whose certificate the connection has shown, None without one."""
    names = [f"dns:{name.decode('ascii', 'replace')}" for name in proofs.get("x509_subject_alternative_name", ())]
    return Caller(tuple(names)) if names else None
