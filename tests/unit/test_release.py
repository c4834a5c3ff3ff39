"""What decides whether a version may be released."""

from __future__ import annotations

import subprocess
import tomllib
from datetime import date, timedelta
from pathlib import Path

import pytest

from qc_adapter.model.version import version
from scripts import audit
from scripts.changelog import Refused, check_changelog, newest_entry
from scripts.release import tags_of, unexpected

ROOT = Path(__file__).parents[2]
LOG = "# Changelog\n\n## 1.2.0, {state}\n\n* Something new.\n* And more.\n\n## 1.1.0, 2025-01-31\n\n* Old.\n"
YESTERDAY = date.today() - timedelta(days=1)  # noqa: DTZ011 - as the script does
TOMORROW = date.today() + timedelta(days=1)  # noqa: DTZ011


def verdict_of(changelog, *, version="1.2.0", tags=(), release=True):
    """What the script says of a changelog."""
    return check_changelog(newest_entry(changelog), version, tags, release=release)


def test_the_newest_part_of_the_changelog_is_dated_and_counted():
    """Only what stands between the first heading and the next one belongs to the version."""
    entry = newest_entry(LOG.format(state="2026-03-04"))
    assert (entry.version, entry.released, entry.lines) == ("1.2.0", date(2026, 3, 4), 2)


def test_the_last_release_is_newer_than_its_candidates(tmp_path):
    """The contract is compared with the release that callers have, and not with a try before it."""
    begin = ("commit", "--quiet", "--allow-empty", "--message=Begin")
    tags = (("tag", name) for name in ("v0.10.0", "v0.9.0", "v1.0.0", "v1.0.0rc1", "other"))
    for command in (("init", "--quiet"), begin, *tags):
        who = ["-c", "user.name=Test", "-c", "user.email=test@example.com"]
        subprocess.run(["git", *who, *command], cwd=tmp_path, check=True)  # noqa: S603, S607 - fixed commands
    assert tags_of(tmp_path) == ["v1.0.0", "v1.0.0rc1", "v0.10.0", "v0.9.0"]


@pytest.mark.parametrize("state", ["soon", "2026-13-01", "04.03.2026"])
def test_a_heading_without_a_date_is_refused(state):
    """A heading says a date or that it is open, and nothing else."""
    with pytest.raises(Refused, match="neither a date"):
        newest_entry(LOG.format(state=state))


def test_an_open_version_passes_the_check_and_no_release():
    """`not released yet` is fine on any day but the day of the release."""
    text = LOG.format(state="not released yet")
    assert "not released yet" in verdict_of(text, release=False)
    with pytest.raises(Refused, match="put the date there"):
        verdict_of(text)


def test_a_dated_version_can_be_released_once():
    """A day that has come is taken, unless the tag is there."""
    text = LOG.format(state=YESTERDAY)
    assert verdict_of(text, tags=("v1.1.0",)).startswith("1.2.0")
    with pytest.raises(Refused, match="released once"):
        verdict_of(text, tags=("v1.2.0", "v1.1.0"))


@pytest.mark.parametrize(
    ("text", "version", "why"),
    [
        (LOG.format(state=YESTERDAY), "1.3.0", "begins with 1.2.0"),
        (LOG.format(state=YESTERDAY), "1.2", "not as 1.2.3"),
        (LOG.format(state=TOMORROW), "1.2.0", "future"),
        ("## 1.2.0, 2025-01-31\n\n## 1.1.0, 2025-01-01\n\n* Old.\n", "1.2.0", "says nothing"),
        ("# Changelog\n", "1.2.0", "no heading"),
    ],
)
def test_what_does_not_fit_is_refused(text, version, why):
    """Version and changelog name the same, and the changelog says something about it."""
    with pytest.raises(Refused, match=why):
        verdict_of(text, version=version)


def test_the_version_is_what_pyproject_says():
    """The one place is pyproject.toml, and CHANGELOG.md follows it."""
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert version() == stated
    assert newest_entry((ROOT / "CHANGELOG.md").read_text()).version == stated


def test_an_archive_is_told_what_it_has_too_much_and_what_it_wants():
    """Both are named; a fitting one has nothing to say."""
    assert unexpected(["a", "b"], ["b", "a"]) == ""
    assert unexpected(["a", "junk"], ["a", "b"]) == "b is missing; junk is too much"


def package(name, *problems):
    """A package that was answered for."""
    return {"name": name, "version": "1", "vulns": list(problems)}


PROBLEM = {"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["2"]}


def test_no_answer_is_not_taken_for_no_finding():
    """A package that the service does not know, or did not get to, is said and has an exit code of its own."""
    skipped = {"dependencies": [package("a"), {"name": "b", "skip_reason": "not found"}]}
    for report, told in ((None, "any package (3 of 3)"), (skipped, "b, c (2 of 3)")):
        code, lines = audit.verdict(report, ["a", "b", "c"])
        assert (code, lines) == (audit.NOT_ASKED, [f"NOT CHECKED: no answer about {told}"])


def test_a_finding_outweighs_a_missing_answer():
    """What is found fails the audit, with the version that mends it."""
    report = {"dependencies": [package("a", PROBLEM)]}
    code, lines = audit.verdict(report, ["a", "b"])
    assert code == audit.FOUND
    assert lines[0] == "a 1: PYSEC-1 CVE-1, fixed in 2"


def test_an_accepted_finding_is_told_and_fails_nothing(monkeypatch):
    """Under any of its names, with the reason."""
    monkeypatch.setitem(audit.ACCEPTED, "CVE-1", "we never parse XML")
    code, lines = audit.verdict({"dependencies": [package("a", PROBLEM)]}, ["a"])
    assert code == audit.CLEAN
    assert "accepted: we never parse XML" in lines[0]


def test_all_answered_and_nothing_found_is_clean():
    """Only then."""
    code, lines = audit.verdict({"dependencies": [package("a"), package("b")]}, ["a", "b"])
    assert (code, lines) == (audit.CLEAN, ["no known vulnerability in 2 packages"])
