"""The unit for a machine without Kubernetes."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from qc_adapter import variables as at
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


def values(name):
    """All values of a line in the unit."""
    return re.findall(rf"^{name}=(.+)$", UNIT, re.MULTILINE)


def test_secrets_are_copied_in_and_keys_of_certificates_are_read_in_place():
    """A credential of systemd stays as it was at the start, so nothing that the adapter reads anew is one."""
    environment = dict(one.split("=", 1) for one in values("Environment"))
    credentials = dict(one.split(":", 1) for one in values("LoadCredential"))
    secret = {f"{one.name}_FILE" for one in at.VARIABLES if one.secret}
    assert set(environment) <= secret | {one.name for one in at.VARIABLES}
    brought = {name: path for name, path in environment.items() if path.startswith("%d/")}
    assert set(brought) <= secret
    assert {path.removeprefix("%d/") for path in brought.values()} == set(credentials)
    assert environment["QC_TLS_KEY_FILE"] == "/etc/qc-adapter/tls.key"
    assert values("SupplementaryGroups") == ["qc-tls"]


def test_records_have_a_file_where_the_unit_may_write():
    """Everything is read-only but the folder that systemd makes for logs."""
    assert values("ProtectSystem") == ["strict"]
    [folder] = values("LogsDirectory")
    assert f"QC_AUDIT_LOG=%L/{folder}/audit.jsonl" in values("Environment")


def test_a_crash_leaves_no_memory_on_disk():
    """There would be keys and GUIDs in it."""
    assert number("LimitCORE") == 0


@pytest.mark.skipif(ANALYZE is None, reason="there is no systemd-analyze")
def test_systemd_understands_the_unit(tmp_path):
    """Every line is known to it; where the program is installed does not matter here."""
    unit = tmp_path / "qc-adapter.service"
    unit.write_text(UNIT.replace("/opt/qc-adapter/bin/qc-adapter", "/bin/true"))
    told = subprocess.run([ANALYZE, "verify", "--man=no", unit], capture_output=True, text=True, check=False)  # noqa: S603
    assert (told.returncode, told.stderr.strip()) == (0, "")
