"""Seals what is kept in the store and must not be read there, with a ring of keys that can be rotated."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from qc_adapter.model.session import Secret

if TYPE_CHECKING:
    from collections.abc import Sequence


#: Base64 is read leniently elsewhere: of two keys with a line's end between only the first would be taken.
_KEY: Final = re.compile(r"[A-Za-z0-9_+/-]{43}=")
#: Between the name of the key and the sealed text.
NAME_ENDS: Final = ":"


class Unsealable(Exception):
    """The text was sealed with none of the keys, or it was changed."""


class Seal:
    """Seals with the first key and opens with any. The text begins with the name of its key, which opens nothing."""

    def __init__(self, keys: Sequence[Secret]) -> None:
        """Take Fernet keys; raises ValueError for one that is none."""
        one_each = [Fernet(key.reveal().encode()) for key in keys]
        self._ring = MultiFernet(one_each)
        #: Of the keys it opens with, the one it seals with first.
        self.names = tuple(hashlib.sha256(key.reveal().encode()).hexdigest()[:8] for key in keys)
        self._named = dict(zip(self.names, one_each, strict=True))

    @classmethod
    def of_this_process(cls) -> Seal:
        """Return a seal that nobody else can open: for a store that ends with the process."""
        return cls([new_key()])

    def close(self, text: bytes, name: str = "") -> str:
        """Return the text sealed with the key of that name, or with the first."""
        name = name or self.names[0]
        return f"{name}{NAME_ENDS}{self._named[name].encrypt(text).decode()}"

    def open(self, sealed: str) -> bytes:
        """Return what was sealed; raises `Unsealable`."""
        try:
            return self._ring.decrypt(sealed.rpartition(NAME_ENDS)[2].encode())
        except (InvalidToken, UnicodeError):
            raise Unsealable from None


def new_key() -> Secret:
    """Return a key for a ring."""
    return Secret(Fernet.generate_key().decode())


def parse_keys(text: str) -> tuple[Secret, ...]:
    """Return the keys of a list with commas; raises ValueError that does not repeat them."""
    keys = tuple(Secret(one.strip()) for one in text.split(",")) if text else ()
    try:
        if not all(_KEY.fullmatch(key.reveal()) for key in keys):
            raise ValueError  # noqa: TRY301 - said like the other one
        if keys:
            Seal(keys)
    except ValueError:
        raise ValueError(
            "must be Fernet keys with commas between, each of 44 characters: qc-adapter seal-key makes one"
        ) from None
    return keys
