"""
An inspector's id inside the adapter: "101" at the default gateway, "north/101" at the gateway named "north".

Callers, keys of the store and all parts in between use this text; the gateway itself knows the number alone.
"""

from __future__ import annotations

import re
from typing import Final

DEFAULT_GATEWAY: Final = "default"
#: What a gateway may be called: it stands in keys, labels, addresses and names of variables.
GATEWAY_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,30}", re.ASCII)
_ID: Final = re.compile(r"(?:([a-z][a-z0-9-]{0,30})/)?([1-9][0-9]{0,8})", re.ASCII)


def gateway_of(agent_id: str) -> str:
    """Return the name of the gateway at which the inspector signs in."""
    return agent_id.rpartition("/")[0] or DEFAULT_GATEWAY


def number_of(agent_id: str) -> str:
    """Return the id as the gateway knows it."""
    return agent_id.rpartition("/")[2]


def inspector_id(gateway: str, number: str) -> str:
    """Return the id of the inspector with that number at that gateway."""
    return number if gateway in {"", DEFAULT_GATEWAY} else f"{gateway}/{number}"


def is_inspector_id(text: str) -> bool:
    """Whether the text has the form that the adapter gives to ids."""
    match = _ID.fullmatch(text)
    return match is not None and match[1] != DEFAULT_GATEWAY


def rank_of(agent_id: str) -> tuple[str, int]:
    """Return what orders inspectors: those of the default gateway first, then by gateway, then by number."""
    gateway, _, number = agent_id.rpartition("/")
    return gateway, int(number)
