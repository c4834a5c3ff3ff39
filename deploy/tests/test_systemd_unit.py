"""The unit for a machine without Kubernetes."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from qc_adapter.cli.exits import Exit
from qc_adapter.settings import read_settings

UNIT = (Path(__file__).parents[1] / "systemd" / "qc-adapter.service").read_text()
ANALYZE = shutil.which("systemd-analyze")


def number(name):
    """A number in the unit."""
    return float(re.search(rf"^{name}=(\d+)$", UNIT, re.MULTILINE)[1])


def test_a_replica_is_given_the_time_that_its_drain_takes():
    """The time before it is killed follows the defaults of the settings, as docs/operating.md says."""
    settings = read_settings({"QC_GATEWAY_URL": "https://gateway.example:8043"})
    needed = settings.drain_seconds + settings.poll_hold_seconds + 3 * settings.grace_seconds + 10
    assert number("TimeoutStopSec") == needed


def test_wrong_settings_are_not_tried_again_and_again():
    """The exit code that says so ends the restarts."""
    assert number("RestartPreventExitStatus") == Exit.USAGE


@pytest.mark.skipif(ANALYZE is None, reason="there is no systemd-analyze")
def test_systemd_understands_the_unit(tmp_path):
    """Every line is known to it; where the program is installed does not matter here."""
    unit = tmp_path / "qc-adapter.service"
    unit.write_text(UNIT.replace("/opt/qc-adapter/bin/qc-adapter", "/bin/true"))
    told = subprocess.run([ANALYZE, "verify", "--man=no", unit], capture_output=True, text=True, check=False)  # noqa: S603
    assert (told.returncode, told.stderr.strip()) == (0, "")
