"""Known secrets in all their spellings, and the places where none of them may be found."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

#: Shorter pieces of an encoded secret are found by chance.
_SHORTEST = 12


def spellings(secret):
    """A secret as bytes: plain, in capitals, quoted, in hex, and in Base64 wherever in a longer text it stands."""
    plain = secret.encode()
    found = {plain, plain.upper(), plain.lower(), quote(secret, safe="").encode(), plain.hex().encode()}
    found |= {plain.hex().upper().encode(), json.dumps(secret)[1:-1].encode()}
    for before in range(3):
        # What stands before and behind it changes the first and the last characters.
        text = base64.b64encode(b"\0" * before + plain)
        inner = text[-(-before * 4 // 3) + (before > 0) : len(plain) * 4 // 3 - 1]
        found |= {inner, inner.replace(b"+", b"-").replace(b"/", b"_")}
    return {one for one in found if len(one) >= _SHORTEST}


class Canaries:
    """The secrets that were planted, by what they are."""

    def __init__(self, **secrets):
        self._spellings = {}
        for what, secret in secrets.items():
            self.plant(what, secret)

    def plant(self, what, secret):
        """Look for this one too."""
        self._spellings.setdefault(what, set()).update(spellings(secret))

    def found_in(self, places):
        """Which secret stands in which place, and between what; a place is what was emitted there, as bytes."""
        return sorted(
            (place, what, emitted[max(0, emitted.index(one) - 60) : emitted.index(one) + 120])
            for place, emitted in places.items()
            for what, known in self._spellings.items()
            for one in known
            if one in emitted
        )
