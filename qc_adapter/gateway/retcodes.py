"""What a return code of the gateway means and what to do about it."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

from qc_adapter.gateway.retcode_table import ROWS

if TYPE_CHECKING:
    from collections.abc import Mapping


class Category(StrEnum):
    """What kind of answer a code is; named like the statuses of gRPC."""

    OK = "ok"
    INVALID_ARGUMENT = "invalid_argument"
    UNAUTHENTICATED = "unauthenticated"
    PERMISSION_DENIED = "permission_denied"
    NOT_FOUND = "not_found"
    ALREADY_EXISTS = "already_exists"
    FAILED_PRECONDITION = "failed_precondition"
    RESOURCE_EXHAUSTED = "resource_exhausted"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Retcode:
    """One code; `listed` is false when the table does not have it and its group speaks for it."""

    code: str
    meaning: str
    category: Category
    advice: str
    source: str
    note: str = ""
    listed: bool = True


_ADVICE: Mapping[Category, str] = MappingProxyType(
    {
        Category.OK: "Nothing to do.",
        Category.INVALID_ARGUMENT: "Correct the parameters of the request. The same request will fail again.",
        Category.UNAUTHENTICATED: "Check the credentials and sign the inspector in again.",
        Category.PERMISSION_DENIED: "Have the right given to the agent at the gateway. Repeating does not help.",
        Category.NOT_FOUND: "Check that the call, agent or object still exists before you ask again.",
        Category.ALREADY_EXISTS: "Nothing to do if this is the state you wanted. Otherwise end it first.",
        Category.FAILED_PRECONDITION: "Bring the agent or call into the state that the operation needs first.",
        Category.RESOURCE_EXHAUSTED: "Wait until the resource is free again, then ask once more.",
        Category.UNAVAILABLE: "Wait and try again with growing pauses.",
        Category.INTERNAL: "Look into the gateway's own log. Tell its operators if it comes again.",
        Category.UNKNOWN: "Look the code up in the gateway's own documents, and check what the request did.",
    }
)

_GROUPS: Mapping[str, str] = MappingProxyType(
    {
        "000": "requests in general",
        "100": "sign-in, sign-out and agent states",
        "101": "conferences",
        "104": "recordings",
        "105": "disaster recovery",
        "106": "multimedia",
        "110": "accounts and passwords",
        "200": "calls",
        "300": "queries about agents",
        "400": "call data",
        "500": "playing and recording",
        "600": "skill queues and access codes",
        "700": "text chat",
        "800": "video",
        "900": "inspection",
        "999": "the gateway's own configuration",
    }
)

# Public clients know these refusals of a sign-in by their text only; no page names a code.
_FULL = re.compile(
    r"number of login agents has exceeded|number of video agents who log in .* reaches the upper limit",
    re.ASCII | re.IGNORECASE,
)
_SHAPE = re.compile(r"(\d{3})-\d{3,}", re.ASCII)


def _read_table() -> Mapping[str, Retcode]:
    table = {}
    for code, category_name, meaning, advice, source, note in ROWS:
        category = Category(category_name)
        table[code] = Retcode(code, meaning, category, advice or _ADVICE[category], source, note)
    return MappingProxyType(table)


RETCODES: Mapping[str, Retcode] = _read_table()


def _majorities() -> Mapping[str, Category]:
    """
    Return the category that more than half of a group's codes have.

    UNAVAILABLE is left out: it promises that trying again is safe, which a guess must not.
    """
    groups: dict[str, Counter[Category]] = {}
    for row in RETCODES.values():
        if match := _SHAPE.fullmatch(row.code):
            groups.setdefault(match[1], Counter())[row.category] += 1
    found = {}
    for group, counts in groups.items():
        category, count = counts.most_common(1)[0]
        if 2 * count > counts.total() and category is not Category.UNAVAILABLE:
            found[group] = category
    return MappingProxyType(found)


_MAJORITIES = _majorities()


def describe(code: str) -> Retcode:
    """Return what a code means; one that is not listed is described by its group."""
    if (listed := RETCODES.get(code)) is not None:
        return listed
    match = _SHAPE.fullmatch(code)
    group = match[1] if match else ""
    category = _MAJORITIES.get(group, Category.UNKNOWN)
    about = _GROUPS.get(group)
    meaning = "not in the documented tables"
    if about is not None:
        meaning += f"; codes of group {group} are about {about}"
    return Retcode(code, meaning, category, _ADVICE[category], source="none", listed=False)


def tells_full(text: str) -> bool:
    """Whether the text of a refusal says that no more agents may sign in, whatever its code."""
    return _FULL.search(text) is not None
