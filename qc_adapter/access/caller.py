"""Who calls: the names that a caller has proven."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

#: What clocks may differ, for the begin and the end of a proof.
LEEWAY_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Caller:
    """
    One caller.

    `names` are what it has proven, the one that logs show first: a SPIFFE id (`spiffe://trust/path`) or `dns:<name>` of
    its certificate, or `jwt:<subject>` of its token. `expires_at` is when the proof ends, in Unix time. `key` is what
    the token was verified with.
    """

    names: tuple[str, ...]
    expires_at: float = math.inf
    key: object = field(default=None, compare=False, repr=False)

    @property
    def name(self) -> str:
        """The name that logs and audit records show."""
        return self.names[0]


#: Whoever calls where nobody is asked who they are: on loopback, or where the settings allow it.
ANONYMOUS: Final = Caller(("anonymous",))
