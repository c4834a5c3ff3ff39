"""How many connections and files the process may have, and whether that is enough for all that it lets in."""

from __future__ import annotations

import contextlib
import resource
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from qc_adapter.settings import Settings

#: The connections that the ports let in (docs/limits.md), those of commands to a gateway, Redis, files.
_OTHERS: Final = 10_400 + 356


def take_all_descriptors() -> None:
    """Allow as many descriptors as there may be: the usual soft limit of 1024 is less than the ports' connections."""
    hard = most_descriptors()
    with contextlib.suppress(OSError, ValueError):  # systems that name no number
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def most_descriptors() -> int:
    """Return the hard limit."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def shortage(settings: Settings, hard: int) -> str:
    """Say for how many inspectors that limit is enough, if it is not for all polls and connections at once."""
    polls = sum(gateway.poll_slots for gateway in settings.gateways)
    if hard == resource.RLIM_INFINITY or hard >= polls + _OTHERS:
        return ""
    enough = max(0, hard - _OTHERS)
    return (
        f"the process may have {hard} descriptors, enough to poll for {enough} inspectors beside {_OTHERS} connections "
        f"of others: for {polls} the hard limit (ulimit -Hn) is to be {polls + _OTHERS}"
    )
