"""What a request asks for, as the policy judges it: the ids are read just as the checks of requests read them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from qc_adapter.model.inspector import gateway_of, number_of

if TYPE_CHECKING:
    from collections.abc import Sequence

#: The same as of `rpc.parse`: what is none of these no handler takes.
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Asked:
    """
    A method, and whom the request names.

    `targets` are agents at the inspector's gateway. With `unnamed` it is about a call, and nobody knows whose.
    """

    method: str
    gateway: str = ""
    number: int = 0
    targets: tuple[int, ...] = ()
    unnamed: bool = False


def place_of(agent_id: str) -> tuple[str, int] | None:
    """Return an inspector's gateway and number, None for a text that is no id."""
    number = number_of(agent_id)
    if not _NUMBER.fullmatch(number) or agent_id.startswith("/"):
        return None
    return gateway_of(agent_id), int(number)


def read_asked(method: str, agent_id: str, work_nos: Sequence[str] = (), *, unnamed: bool = False) -> Asked | None:
    """Return what is asked for, None if one of the ids is none."""
    place = place_of(agent_id)
    if place is None or not all(map(_NUMBER.fullmatch, work_nos)):
        return None
    return Asked(method, *place, tuple(map(int, work_nos)), unnamed)
