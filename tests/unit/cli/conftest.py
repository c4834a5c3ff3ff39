"""The commands run in this process, as far as they end before they call anybody."""

from __future__ import annotations

import os
from dataclasses import dataclass

import orjson
import pytest

from qc_adapter.cli import entry


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def objects(self):
        """Each line of the output, read as JSON."""
        return [orjson.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def qc(monkeypatch, capsys):
    """A function that runs a command with an environment of its own."""
    for name in [*os.environ]:
        if name.startswith("QC_"):
            monkeypatch.delenv(name)

    def run(*arguments, **environment):
        with monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            code = entry.run(arguments)
        captured = capsys.readouterr()
        return Ended(int(code), captured.out, captured.err)

    return run
