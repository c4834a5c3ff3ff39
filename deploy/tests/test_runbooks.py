# ruff: noqa: S603, S607 - as for tests/
"""What the runbooks tell somebody to type or to look for exists."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import typer

from deploy.tests.expressions import LABELS, RECORDED, faults, selectors
from qc_adapter.cli.entry import COMMANDS, _app
from qc_adapter.gateway.retcodes import RETCODES
from qc_adapter.settings import describe
from qc_adapter.store import keys
from scripts.tools import promtool

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "runbooks").glob("*.md"))
SOURCES = sorted((ROOT / "qc_adapter").rglob("*.py"))
KEYS = tuple(key for name, key in vars(keys).items() if name.isupper())
SETTINGS = [row.variable for row in describe({})]
#: Words of others that the pages name: of gRPC clients, Redis, Kubernetes.
OF_OTHERS = {"round_robin", "s_client"}

_BLOCK = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
_COMMAND = re.compile(r"(?:^|-- )qc-adapter ((?:[^|;&\n])+)", re.MULTILINE)
_WORD = re.compile(r"[A-Za-z]+(?:_[A-Za-z]+)+")
_LEVELS = {"debug", "info", "warning", "error", "write"}
#: What logs a line that may be left out among very many: its level comes first, then the event.
_CROWDED = {"write", "_say"}


def blocks(page, language):
    """The blocks of that language in a page; lines that are continued are put together."""
    found = [text for name, text in _BLOCK.findall(page.read_text()) if name == language]
    return [re.sub(r"^ +", "", re.sub(r"\\\n\s*", "", text), flags=re.MULTILINE) for text in found]


def spans(page):
    """What stands in backticks in the lines of a page."""
    return _SPAN.findall(_BLOCK.sub("", page.read_text()))


def expressions(page):
    """The expressions in a page, one a line; and what is one in the text."""
    alone = [line for text in blocks(page, "promql") for line in text.splitlines()]
    return alone + [span for span in spans(page) if selectors(span) and re.search(r"[({]", span)]


def logged():
    """The names of all events that the package logs."""
    nodes = [node for path in SOURCES for node in ast.walk(ast.parse(path.read_text()))]
    calls = [node for node in nodes if isinstance(node, ast.Call) and node.args]
    told = [node.args[0] for node in calls if getattr(node.func, "attr", getattr(node.func, "id", "")) in _LEVELS]
    told += [node.args[1] for node in calls if getattr(node.func, "attr", "") in _CROWDED and len(node.args) > 1]
    told += [node.value for node in nodes if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "event"]
    return {part.value for expression in told for part in ast.walk(expression)
            if isinstance(part, ast.Constant) and isinstance(part.value, str)}  # fmt: skip


def test_the_commands_can_be_typed():
    """Each qc-adapter command of a page exists and takes these arguments."""
    wrong, tried = [], 0
    for page in PAGES:
        for text in [*blocks(page, ""), *spans(page)]:
            for arguments in _COMMAND.findall(text):
                words = shlex.split(arguments.split(" #")[0])
                if words == ["..."]:
                    continue
                tried += 1
                try:
                    parse(words)
                except Exception as refusal:  # noqa: BLE001 - each kind is a finding
                    wrong.append(f"{page.name}: {arguments}: {refusal}")
    assert wrong == []
    assert tried > len(PAGES)


def parse(words):
    """Let the command line read these words, without running anything."""
    assert words[0] in {row.name for row in COMMANDS}, "no such command"
    command = typer.main.get_command(_app(words)).commands[words[0]]
    with command.make_context(words[0], words[1:]):
        pass


def test_a_wrong_option_is_found():
    """An option that a command does not have is noticed."""
    with pytest.raises(Exception, match="connected"):
        parse(["check", "--connected"])


def test_the_log_events_are_logged():
    """Each event that a page has somebody look for in the log is one that the package logs."""
    events = logged()
    named = {(page.name, event) for page in PAGES for event in re.findall(r'\.event == "(\w+)"', page.read_text())}
    assert len(named) > len(PAGES)
    assert {one for one in named if one[1] not in events} == set()


def test_words_in_backticks_are_words_of_the_project():
    """A word with an underscore, of a page's text or expressions, stands in the code, the contract or the rules."""
    texts = [*SOURCES, *(ROOT / "protos").rglob("*.proto"), ROOT / "deploy" / "prometheus" / "render.py"]
    known = set(_WORD.findall("\n".join(path.read_text() for path in texts))) | OF_OTHERS
    known |= {word for name in (*LABELS, *RECORDED, *SETTINGS) for word in _WORD.findall(name)}
    wrong = {(page.name, word) for page in PAGES for span in spans(page) for word in _WORD.findall(span)
             if word not in known}  # fmt: skip
    assert wrong == set()


def test_the_expressions_name_what_exists():
    """Each metric, label and value in a page's expressions is one that the adapter has."""
    named = {(page.name, fault) for page in PAGES for text in expressions(page) for fault in faults(text)}
    bare = {(page.name, span) for page in PAGES for span in spans(page)
            if re.fullmatch(r"qc_\w+", span) and span not in LABELS}  # fmt: skip
    assert named | bare == set()


def test_the_expressions_are_expressions(tmp_path):
    """Prometheus' own parser takes each expression of the pages."""
    every = sorted({text for page in PAGES for text in expressions(page)})
    rules = "".join(f"      - record: runbook:{number}:x\n        expr: >-\n          {text}\n"
                    for number, text in enumerate(every)).replace("runbook:", "runbook_")  # fmt: skip
    path = tmp_path / "runbooks.yaml"
    path.write_text(f"groups:\n  - name: runbooks\n    rules:\n{rules}")
    checked = subprocess.run([promtool(), "check", "rules", str(path)], capture_output=True, text=True, check=False)
    assert len(every) > len(PAGES)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_keys_are_keys():
    """Each key of Redis that a page names is one of the list of keys."""
    named = {(page.name, key) for page in PAGES for key in re.findall(r"\bqc:[a-z]+:?", page.read_text())}
    assert {one for one in named if one[1] not in KEYS} == set()
    assert named


def test_the_return_codes_are_listed():
    """Each return code of the gateway that a page names is in the table."""
    named = {(page.name, code) for page in PAGES for code in re.findall(r"\b\d{3}-\d{3}\b", page.read_text())}
    assert {one for one in named if one[1] not in RETCODES} == set()


def test_the_links_lead_somewhere():
    """Each link of a page leads to a file that is there, and to a headline in it."""
    wrong = []
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            name, _, anchor = target.partition("#")
            file = (page.parent / name).resolve() if name else page
            titles = re.findall(r"^#+ (.*)", file.read_text(), re.MULTILINE) if file.exists() else []
            slugs = {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}
            if not titles or (anchor and anchor not in slugs):
                wrong.append(f"{page.name}: {target}")
    assert wrong == []


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
def test_the_filters_are_filters():
    """The program jq takes each filter of the pages."""
    filters = {(page.name, text) for page in PAGES for block in blocks(page, "")
               for text in re.findall(r"\bjq -\w+ '([^']+)'", block)}  # fmt: skip
    wrong = []
    for name, text in sorted(filters):
        tried = subprocess.run(["jq", text], input="", capture_output=True, text=True, check=False)
        if tried.returncode:
            wrong.append(f"{name}: {tried.stderr}")
    assert filters
    assert wrong == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.stem != "README"], ids=lambda page: page.stem)
def test_a_page_answers_the_same_questions(page):
    """Each page has the same headlines, and is no longer than a screen and a half."""
    assert re.findall(r"^## (.*)", page.read_text(), re.MULTILINE) == [
        "What it means", "How long until damage", "Check", "Do", "It is over when", "Do not",
    ]  # fmt: skip
    assert len(page.read_text().splitlines()) <= 80
