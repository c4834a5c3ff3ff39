"""Links in README.md and below docs/ lead somewhere, and every page can be reached."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
START = ROOT / "README.md"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*.md")])
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]*`")
#: `[text](target)` and pictures; a text may run over lines and hold code.
_LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?[^)]*\)")
_HEADING = re.compile(r"^#{1,6} +(.+?)(?: +#+)?$", re.MULTILINE)


def prose(page):
    """The page without what is only shown as code."""
    return _FENCE.sub("", page.read_text())


def links(page):
    """Where the page leads: file and anchor, either may be empty; addresses elsewhere are left out."""
    targets = _LINK.findall(_CODE.sub("", prose(page)))
    return [one.partition("#")[::2] for one in targets if not re.match(r"[a-z+]+:", one)]


def anchors(page):
    """The names of the headings, made as the usual viewers make them: the second of two equal ones gets a number."""
    found = {}
    for heading in _HEADING.findall(prose(page)):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        count = found.setdefault(name, 0)
        found[name] += 1
        if count:
            found.setdefault(f"{name}-{count}", 1)
    return found.keys()


def target(page, file):
    """The file that a link names."""
    return (page.parent / file).resolve() if file else page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page):
    """A relative link names a file or folder of this tree, and an anchor a heading of its page."""
    broken = []
    for file, anchor in links(page):
        found = target(page, file)
        if not found.exists() or not found.is_relative_to(ROOT):
            broken.append(file)
        elif anchor and found.suffix == ".md" and anchor not in anchors(found):
            broken.append(f"{file}#{anchor}")
    assert broken == []


def test_every_page_can_be_reached_from_the_readme():
    """By links alone; a link to a folder leads to each page in it."""
    reached, open_pages = set(), [START]
    while open_pages:
        page = open_pages.pop()
        if page in reached or page.suffix != ".md" or not page.exists():
            continue
        reached.add(page)
        for file, _ in links(page):
            found = target(page, file)
            open_pages += sorted(found.glob("*.md")) if found.is_dir() else [found]
    assert sorted(str(page.relative_to(ROOT)) for page in PAGES if page not in reached) == []


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        ("## Upgrade without a sign-out", "upgrade-without-a-sign-out"),
        ("## 7. Deadlines: a tenth is kept", "7-deadlines-a-tenth-is-kept"),
        ('## `qc-adapter` says "no"', "qc-adapter-says-no"),
    ],
)
def test_an_anchor_is_made_as_viewers_make_it(tmp_path, heading, anchor):
    """Lower case, without punctuation, blanks as hyphens."""
    page = tmp_path / "page.md"
    page.write_text(f"# Page\n\n```\n# no heading\n```\n\n{heading}\n\n{heading}\n")
    assert set(anchors(page)) == {"page", anchor, f"{anchor}-1"}


def test_the_tests_that_the_threats_name_exist():
    """Each test that docs/security.md names for an attack is one that runs."""
    text = (ROOT / "docs" / "security.md").read_text()
    missing, named, file = [], 0, ""
    for word in re.findall(r"`([^`\s]*)`", text):
        if not (word.startswith("::") or ".py" in word):
            continue
        path, _, name = word.partition("::")
        file = path or file
        named += 1
        found = ROOT / "tests" / file
        if not found.is_file() or (name and f"def {name}(" not in found.read_text()):
            missing.append(word)
    assert named > 80
    assert missing == []
