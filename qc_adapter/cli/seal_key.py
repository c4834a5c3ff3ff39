"""Makes a key that seals kept credentials."""

from __future__ import annotations

from qc_adapter.store.seal import new_key


def seal_key() -> None:
    """Print a fresh key for QC_SEAL_KEYS. Every call makes another one; whoever has it can open what it sealed."""
    print(new_key().reveal())  # noqa: T201 - that is all there is to it
