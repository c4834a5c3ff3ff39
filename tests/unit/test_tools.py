"""Tools of the deployment checks are unpacked from a package, whatever happened before and whoever else wants them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: Download and unpack as the real ones do, slowly enough that two of them meet; each counts its calls.
APT = """#!/bin/sh
echo "$0 $*" >> "$CALLS"
for word; do [ "$word" = download ] && { sleep 0.2; echo "$VERSION" > prometheus_"$VERSION"_all.deb; }; done
exit 0
"""
DPKG = """#!/bin/sh
echo "$0 $*" >> "$CALLS"
sleep 0.2
mkdir -p "$3/usr/bin" && cp "$2" "$3/usr/bin/prometheus" && cp "$2" "$3/usr/bin/promtool"
"""


@pytest.fixture
def tree(tmp_path):
    """A tree with nothing but the script, and a PATH with nothing but what it may use."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "tools.py", tmp_path / "scripts")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sh", "sleep", "mkdir", "cp"):
        found = shutil.which(name)
        assert found
        (programs / name).symlink_to(found)
    return tmp_path


def add(tree, **programs):
    """Put programs on PATH."""
    for name, text in programs.items():
        path = tree / "bin" / name.replace("_", "-")
        path.write_text(text)
        path.chmod(0o755)


def start(tree):
    """Start the script."""
    environment = {"PATH": str(tree / "bin"), "CALLS": str(tree / "calls"), "VERSION": "2"}
    return subprocess.Popen(  # noqa: S603 - a fixed command
        [sys.executable, str(tree / "scripts" / "tools.py")],
        env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_two_that_want_it_at_once_download_it_once(tree):
    """Test workers, or two calls of make: one unpacks, the others wait for it."""
    add(tree, apt_get=APT, dpkg_deb=DPKG, kustomize="#!/bin/sh\n")
    running = [start(tree) for _ in range(3)]
    for process in running:
        out, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (0, "")
        assert f"promtool: {tree}/.tools/prometheus/usr/bin/promtool" in out
    assert (tree / "calls").read_text().count(" download ") == 1


def test_what_one_that_was_killed_left_behind_is_not_used(tree):
    """Half a package, or one of an older version, is downloaded again."""
    add(tree, apt_get=APT, dpkg_deb=DPKG, kustomize="#!/bin/sh\n")
    for left in ("downloads/prometheus_1_all.deb", "prometheus.partial/usr/bin/prometheus"):
        path = tree / ".tools" / left
        path.parent.mkdir(parents=True)
        path.write_text("1")
    process = start(tree)
    assert process.communicate(timeout=30)[1] == ""
    assert (tree / ".tools" / "prometheus" / "usr" / "bin" / "promtool").read_text() == "2\n"
    assert sorted(path.name for path in (tree / ".tools").iterdir()) == ["apt", "cache", "lock", "prometheus"]


def test_what_is_missing_is_said_once(tree):
    """Without Debian's programs it names what to install, and ends with 1."""
    process = start(tree)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (1, "")
    assert [line.split()[0] for line in err.splitlines()] == ["kustomize", "prometheus"]
