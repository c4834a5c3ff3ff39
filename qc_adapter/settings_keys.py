"""Whether the key set that the settings name can be used: else every token would be refused later."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qc_adapter import variables as at
from qc_adapter.watched import Unusable

if TYPE_CHECKING:
    from qc_adapter.environment import Reading


def check_keys(reading: Reading) -> None:
    """Read the file, if there is one."""
    path = reading.value(at.JWT_JWKS_FILE)
    if not path or not reading.sound(at.JWT_JWKS_FILE):
        return
    from qc_adapter.access.keys_file import read_key_file  # noqa: PLC0415 - only who takes tokens needs it

    try:
        read_key_file(path)
    except Unusable as unusable:
        reading.complain(at.JWT_JWKS_FILE.name, path, str(unusable))
    except OSError as failure:
        reading.complain(at.JWT_JWKS_FILE.name, path, f"cannot be read: {failure.strerror}")
