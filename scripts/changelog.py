"""What scripts/release.py has to know of CHANGELOG.md: its newest part, and whether that may be released."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

OPEN: Final = "not released yet"
_HEADING: Final = re.compile(r"^## (?P<version>[^,\n]+), (?P<state>.+)$", re.MULTILINE)
_VERSION: Final = re.compile(r"\d+\.\d+\.\d+(rc\d+)?")


class Refused(Exception):
    """This tree cannot be released; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Entry:
    """The newest part of the changelog."""

    version: str
    released: date | None
    lines: int


def newest_entry(changelog: str) -> Entry:
    """Return the first part of the changelog."""
    found = list(_HEADING.finditer(changelog))
    if not found:
        raise Refused('CHANGELOG.md has no heading "## VERSION, DATE"')
    first, end = found[0], found[1].start() if found[1:] else len(changelog)
    state = first["state"].strip()
    try:
        released = None if state == OPEN else date.fromisoformat(state)
    except ValueError:
        raise Refused(f'CHANGELOG.md: "{state}" is neither a date as 2026-01-31 nor "{OPEN}"') from None
    lines = sum(line.startswith("* ") for line in changelog[first.end() : end].splitlines())
    return Entry(first["version"].strip(), released, lines)


def check_changelog(entry: Entry, version: str, tags: Iterable[str], *, release: bool) -> str:
    """Say how the changelog stands, or refuse it."""
    if not _VERSION.fullmatch(version):
        raise Refused(f"version {version} in pyproject.toml is not as 1.2.3 or 1.2.3rc1")
    if entry.version != version:
        raise Refused(f"pyproject.toml says {version}, and CHANGELOG.md begins with {entry.version}")
    if entry.lines == 0:
        raise Refused(f"CHANGELOG.md says nothing about {version}")
    if not release:
        return f"{entry.version}, {entry.released or OPEN}, {entry.lines} lines"
    if entry.released is None:
        raise Refused(f'CHANGELOG.md says "{OPEN}": put the date there')
    if entry.released > date.today():  # noqa: DTZ011 - the day where the release is made
        raise Refused(f"CHANGELOG.md dates {version} to the future")
    if f"v{version}" in tags:
        raise Refused(f"there is a tag v{version} already: a version is released once")
    return f"{entry.version}, {entry.released}, {entry.lines} lines"
