"""What a gateway says in words, as it may be passed on: one short line that holds no secret of ours."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from qc_adapter.model.session import Secret

_HIDDEN: Final = "<hidden>"
_MAX_TEXT: Final = 200
#: What stands behind it is cut off anyway; longer ones would cost time.
_MOST_READ: Final = 4 * _MAX_TEXT
#: A shorter value of a cookie, as "1", stands in many a text by itself.
_SHORTEST: Final = 6
#: GUIDs in any node's name, and what is encoded: no word of a message is that long and has digits in it.
_TOKEN: Final = re.compile(r"[0-9A-Za-z_+=%-]{32,}(?:\.\w+)?")


def plain_text(text: str, secrets: Iterable[Secret] = ()) -> str:
    """Return a foreign text as one printable line without secrets, at most 200 characters long."""
    for secret in secrets:
        if secret:
            text = _without(text, secret.reveal())
    text = text[:_MOST_READ]
    if not text.isprintable():
        text = "".join(char if char.isprintable() else " " for char in text)
    text = _TOKEN.sub(_hidden, " ".join(text.split()))
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 3] + "..."


def _without(text: str, secret: str) -> str:
    """Cut a secret out, whole or in the pieces in which a gateway may quote it, in whatever letter case."""
    lower = text.lower()
    for piece in _pieces(secret, len(lower)):
        if piece.lower() in lower:
            text = re.sub(re.escape(piece), _HIDDEN, text, flags=re.IGNORECASE)
            lower = text.lower()
    return text


def _pieces(secret: str, longest: int) -> Iterator[str]:
    """Yield what of the secret may stand in a text of that length; most texts are too short for any of it."""
    if len(secret) <= longest:
        yield secret
        if (quoted := quote(secret, safe="")) != secret:
            yield quoted
    for cookie in secret.split(";") if longest >= _SHORTEST and "=" in secret else ():
        value = cookie.partition("=")[2].strip()
        if _SHORTEST <= len(value) <= longest:
            yield value


def _hidden(found: re.Match[str]) -> str:
    return _HIDDEN if any(char.isdigit() for char in found[0]) else found[0]
