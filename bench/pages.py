"""Puts what a run measured into a page of the documentation, in the place of what stood there."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def put(page: Path, name: str, text: str) -> None:
    """Replace what stands between the marks of that name; raises ValueError when the page has none."""
    begin, end = f"<!-- measured {name} -->", f"<!-- end {name} -->"
    head, found, rest = page.read_text(encoding="utf-8").partition(begin)
    _, closed, tail = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{page} has no place for this table: {begin} and {end}")
    page.write_text(f"{head}{begin}\n{text}\n{end}{tail}", encoding="utf-8")
