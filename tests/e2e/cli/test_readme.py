"""What the documents show works as it stands."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import orjson
import pytest

from qc_adapter.cli.entry import COMMANDS
from qc_adapter.simulator.faults import parse_fault
from qc_adapter.simulator.scenario import parse

ROOT = Path(__file__).resolve().parents[3]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def block(language):
    """The first block of that language."""
    found = re.search(rf"```{language}\n(.*?)```", README, re.DOTALL)
    assert found
    return found[1]


async def test_the_python_snippet_runs(adapter, simulator):
    """Copied out of the README it signs in, listens, intercepts, and prints the outcome."""
    simulator.start_call("293")
    snippet = block("python").replace("127.0.0.1:50051", f"127.0.0.1:{adapter.port}")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", snippet, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(50):
        out, err = await process.communicate()
    assert err.decode() == ""
    assert out.decode().split() == ["AgentEvent_Talking", "AgentMediaEvent_Record", "CONFIRMED"]


def test_the_scenario_can_be_used():
    """The scenario of the README is one."""
    assert parse(orjson.loads(block("json"))).steps


def test_the_faults_can_be_armed():
    """Each fault of the README is one that the simulator knows."""
    found = re.findall(r"\$S/faults -d '(.*)'", README)
    assert len(found) == 3
    for text in found:
        assert parse_fault(orjson.loads(text))[1] == []


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_links_and_commands_exist(page):
    """No page links to a file, or names a command, that there is not."""
    text = page.read_text()
    for link in re.findall(r"\]\((?!http)([^)#]+)", text):
        assert (page.parent / link).exists(), link
    for command in re.findall(r"(?<!-n )qc-adapter ([a-z][a-z-]+)", text):
        assert command in {row.name for row in COMMANDS}, command
