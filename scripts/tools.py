"""
Where the tools of `make deploy-check` are: on PATH, or unpacked below .tools/ from Debian's packages.

Nothing is installed and nobody needs to be root: a package is downloaded and only unpacked. As a program it makes sure
that all of them are there, and says which one is missing.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
TOOLS: Final = ROOT / ".tools"
_SECONDS: Final = 180


class ToolMissing(Exception):
    """A tool that is not there and cannot be had; the message says what to install."""


def promtool() -> str:
    """Return the path of Prometheus' checker."""
    return _debian("promtool", "prometheus")


def prometheus() -> str:
    """Return the path of the Prometheus server."""
    return _debian("prometheus", "prometheus")


def kustomize() -> list[str]:
    """Return the command that builds a kustomization; the folder is its last argument."""
    if found := shutil.which("kustomize"):
        return [found, "build"]
    if found := shutil.which("kubectl"):
        return [found, "kustomize"]
    raise ToolMissing("kustomize is missing: install kustomize 4 or newer, or kubectl 1.21 or newer")


def _debian(program: str, package: str) -> str:
    if found := shutil.which(program):
        return found
    unpacked = TOOLS / package / "usr" / "bin" / program
    if not unpacked.exists():
        TOOLS.mkdir(exist_ok=True)
        with (TOOLS / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # test workers and other calls of make want it at the same time
            if not unpacked.exists():
                _unpack(package)
    return str(unpacked)


def _unpack(package: str) -> None:
    """Download a Debian package with lists of our own, so that it works without root and with old lists."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise ToolMissing(f"{package} is missing: install it, this system has no Debian packages")
    state, cache, folder = TOOLS / "apt", TOOLS / "cache", TOOLS / package
    for needed in (state / "lists" / "partial", cache / "archives" / "partial"):
        needed.mkdir(parents=True, exist_ok=True)
    apt = ["apt-get", "-qq", "-o", f"Dir::State::lists={state / 'lists'}", "-o", f"Dir::Cache={cache}",
           "-o", "APT::Sandbox::User=", "-o", "Debug::NoLocking=1"]  # fmt: skip
    downloads = TOOLS / "downloads"
    shutil.rmtree(downloads, ignore_errors=True)  # of one that was killed
    downloads.mkdir()
    try:
        _run([*apt, "update"], downloads)
        _run([*apt, "download", package], downloads)
        archive = next(downloads.glob(f"{package}_*.deb"))
        partial = folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        _run(["dpkg-deb", "--extract", str(archive), str(partial)], downloads)
        partial.rename(folder)
    except (subprocess.SubprocessError, StopIteration) as failure:
        said = (getattr(failure, "stderr", None) or "").strip() or str(failure)
        raise ToolMissing(f"{package} is missing and Debian's package cannot be had: {said}") from None
    finally:
        shutil.rmtree(downloads, ignore_errors=True)


def _run(command: list[str], folder: Path) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(  # noqa: S603 - fixed commands
        command, cwd=folder, env=environment, check=True, capture_output=True, text=True, timeout=_SECONDS
    )


def main() -> None:
    """Make sure that every tool is there."""
    missing = []
    for name, find in (("kustomize", kustomize), ("prometheus", prometheus), ("promtool", promtool)):
        try:
            found = find()
        except ToolMissing as failure:
            missing.append(str(failure))
        else:
            print(f"{name}: {found if isinstance(found, str) else ' '.join(found)}")
    if missing:
        sys.exit("\n".join(dict.fromkeys(missing)))


if __name__ == "__main__":
    main()
