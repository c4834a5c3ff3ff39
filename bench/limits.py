"""What a process of a load run may hold open: one descriptor for each connection, and some to spare."""

from __future__ import annotations

import contextlib
import resource
from typing import Final

#: For 20,000 polls and as many callers, at both ends of them.
WANTED: Final = 65_536


def raise_descriptors(wanted: int = WANTED) -> int:
    """Raise the limit of open files to that many, or as far as the system lets us; return the limit."""
    _, highest = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Only a privileged process may go beyond the hard limit.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, highest)))
    soft, highest = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < min(wanted, highest):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, highest), highest))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
