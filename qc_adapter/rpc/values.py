"""Checks the values that single commands have beside their ids; what is wrong is named all at once."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeVar

from qc_adapter.gateway.requests import Mode
from qc_adapter.model.errors import InvalidRequest
from qc_adapter.v1 import quality_control_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from google.protobuf.duration_pb2 import Duration

    from qc_adapter.model.errors import InvalidReason

T = TypeVar("T")

LONGEST_REST_SECONDS: Final = 86_399
HIGHEST_CAUSE: Final = 255
MOST_SKILLS: Final = 1000
HIGHEST_SKILL: Final = 2**31 - 1
#: A status has to fit into the trailer of a reply.
_MOST_NAMED: Final = 10
# A path segment that no proxy on the way can take for anything else.
_CALL_ID = re.compile(r"[0-9A-Za-z_-]{1,64}", re.ASCII)
_MODES: Final[dict[int, Mode]] = {
    pb.MODE_LISTEN: Mode.LISTEN,
    pb.MODE_INSERT: Mode.INSERT,
    pb.MODE_WHISPER: Mode.WHISPER,
}


class Problems:
    """Collects what is wrong with a request, so that its caller hears of all of it at once."""

    def __init__(self) -> None:
        self._found: dict[str, str] = {}
        self._reason: InvalidReason = "INVALID_ARGUMENT"

    def of(self, check: Callable[[], T]) -> T | None:
        """Return what a check returns, or None and keep what it found."""
        try:
            return check()
        except InvalidRequest as bad:
            if not self._found:
                self._reason = bad.reason
            for field, what in bad.violations:
                self._found.setdefault(field, what)
            return None

    def error(self) -> InvalidRequest:
        """Return all that was found; the reason is that of the first."""
        return InvalidRequest(list(self._found.items()), self._reason)


def call_id(text: str) -> str:
    """Return the id of a call; raises `InvalidRequest`."""
    if not _CALL_ID.fullmatch(text):
        raise InvalidRequest([("call_id", "must be 1 to 64 letters, digits, - or _, like 1456401416-3")])
    return text


def mode(value: int) -> Mode:
    """Return how an inspector wants to take part; raises `InvalidRequest`."""
    found = _MODES.get(value)
    if found is None:
        raise InvalidRequest([("mode", f"must be MODE_LISTEN, MODE_INSERT or MODE_WHISPER, got {value}")])
    return found


def rest(duration: Duration, cause: int) -> tuple[int, int]:
    """Return the seconds and the cause of a rest; raises `InvalidRequest`."""
    problems = []
    if duration.nanos or not 1 <= duration.seconds <= LONGEST_REST_SECONDS:
        problems.append(("duration", f"must be whole seconds from 1 to {LONGEST_REST_SECONDS}"))
    if not 1 <= cause <= HIGHEST_CAUSE:
        problems.append(("cause", f"must be 1 to {HIGHEST_CAUSE}, got {cause}"))
    if problems:
        raise InvalidRequest(problems)
    return duration.seconds, cause


def skill_ids(ids: Sequence[int]) -> Sequence[int]:
    """Return the ids of skill queues; raises `InvalidRequest`."""
    if problems := skill_problems("skill_ids", ids, fewest=1):
        raise InvalidRequest(problems)
    return ids


def skill_problems(field: str, ids: Sequence[int], *, fewest: int) -> list[tuple[str, str]]:
    """Return what is wrong with the ids of skill queues in that field."""
    if not fewest <= len(ids) <= MOST_SKILLS:
        return [(field, f"must be {fewest} to {MOST_SKILLS} ids, got {len(ids)}")]
    known: set[int] = set()
    problems = []
    for place, skill in enumerate(ids):
        if not 1 <= skill <= HIGHEST_SKILL:
            problems.append((f"{field}[{place}]", f"must be 1 to {HIGHEST_SKILL}, got {skill}"))
        elif skill in known:
            problems.append((f"{field}[{place}]", f"repeats {skill}"))
        known.add(skill)
    return first_of(field, problems)


def first_of(field: str, problems: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return as many problems of a list's members as can be told."""
    if len(problems) <= _MOST_NAMED:
        return problems
    return [*problems[:_MOST_NAMED], (field, f"has {len(problems) - _MOST_NAMED} more like these")]
