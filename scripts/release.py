"""
Try whether this tree can be released: each step says what it found in one line, and the first failure ends it.

`make release-check` is for any day. `make release` (--release) is for the day: it skips nothing and wants the changelog
dated, the tag free, and an answer about vulnerabilities. What it made is in dist/. It tags and uploads nothing itself.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from scripts.changelog import Refused, check_changelog, newest_entry

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT: Final = Path(__file__).resolve().parent.parent
DIST: Final = ROOT / "dist"
#: What scripts/audit.py ends with when the service gave no answer.
NOT_ASKED: Final = 3
_METADATA: Final = frozenset({"METADATA", "WHEEL", "RECORD", "entry_points.txt"})
_MINUTES: Final = 30


def unexpected(found: Iterable[str], wanted: Iterable[str]) -> str:
    """Return what is too much and what is wanting, or nothing."""
    have, want = set(found), set(wanted)
    words = [f"{name} is missing" for name in sorted(want - have)] + [
        f"{name} is too much" for name in sorted(have - want)
    ]
    return "; ".join(words[:10])


def tags_of(folder: Path) -> list[str]:
    """Return the tags of releases, the newest first; git by itself takes a candidate for newer than its release."""
    order = ["-c", "versionsort.suffix=rc", "tag", "--list", "v*", "--sort=-version:refname"]
    return _run(["git", *order], folder).splitlines()


class Release:
    """The steps, in order, for the tree that this file is in."""

    def __init__(self, *, release: bool, skip_tests: bool, unaudited: bool) -> None:
        self._release = release
        self._skip_tests = skip_tests
        self._unaudited = unaudited
        self._version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
        self._tracked = _git("ls-files").splitlines()
        self._tags = tags_of(ROOT)
        #: What was not tried; the last line says so again.
        self.wanting: list[str] = []

    def run(self) -> None:
        """Run all steps."""
        known = (self.tree, self.changelog, self.contract, self.checks, self.tests)
        made = (
            self.archives,
            self.contents,
            self.same_from_sdist,
            self.fresh_install,
            self.sbom,
            self.audit,
            self.sums,
        )
        for step in (*known, *made, self.tree):
            print(f"{step.__name__.replace('_', ' ')}: ", end="", flush=True)
            began = time.monotonic()
            said = step()
            print(f"{said} ({time.monotonic() - began:.0f} s)", flush=True)

    def tree(self) -> str:
        """Nothing is changed and nothing lies about: what is tried is what the commit holds."""
        if changed := _git("status", "--porcelain"):
            raise Refused(f"the tree is not clean; commit or remove:\n{changed}")
        return f"clean, {_git('rev-parse', '--short', 'HEAD').strip()}"

    def changelog(self) -> str:
        """The version is the one that the changelog begins with."""
        entry = newest_entry((ROOT / "CHANGELOG.md").read_text())
        return check_changelog(entry, self._version, self._tags, release=self._release)

    def contract(self) -> str:
        """Callers of the last release can call this one."""
        if not self._tags:
            return "no release before this one to compare with"
        with tempfile.TemporaryDirectory() as folder:
            archive = Path(folder, "tag.tar")
            _run(["git", "archive", f"--output={archive}", self._tags[0], "protos", "buf.yaml"])
            with tarfile.open(archive) as packed:
                packed.extractall(folder, filter="data")
            archive.unlink()
            _run([_tool("buf"), "breaking", "--against", folder])
        return f"no break since {self._tags[0]}"

    def checks(self) -> str:
        """Code, types, layers, contract and generated files."""
        _run(["make", "check"])
        return "passed"

    def tests(self) -> str:
        """All tests."""
        if self._skip_tests:
            self.wanting.append("tests")
            return "NOT RUN, as asked"
        return _run(["make", "test"]).rstrip().splitlines()[-1].strip("= ")

    def archives(self) -> str:
        """Build both; the wheel is built from the sdist."""
        shutil.rmtree(DIST, ignore_errors=True)
        _run([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(DIST)])
        return ", ".join(f"{one.name} {one.stat().st_size // 1024} KiB" for one in (self._sdist, self._wheel))

    def contents(self) -> str:
        """The sdist holds what the commit holds; the wheel the package, its types, and nothing else."""
        with tarfile.open(self._sdist) as packed:
            names = [one.name.partition("/")[2] for one in packed.getmembers() if one.isfile()]
        if said := unexpected(names, [*self._tracked, "PKG-INFO"]):
            raise Refused(f"{self._sdist.name}: {said}")
        package = [name for name in self._tracked if name.startswith("qc_adapter/")]
        about = f"qc_adapter-{self._version}.dist-info"
        with zipfile.ZipFile(self._wheel) as packed:
            said = unexpected(packed.namelist(), [*package, *(f"{about}/{name}" for name in _METADATA)])
        if said or "qc_adapter/py.typed" not in package:
            raise Refused(f"{self._wheel.name}: {said or 'py.typed is missing'}")
        return f"sdist {len(names)} files, wheel {len(package)} and its metadata"

    def same_from_sdist(self) -> str:
        """Whoever builds from the sdist gets this very wheel."""
        with tempfile.TemporaryDirectory() as folder:
            _run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index",
                  "--wheel-dir", folder, str(self._sdist)])  # fmt: skip
            if _sum(Path(folder, self._wheel.name)) != _sum(self._wheel):
                raise Refused("the wheel that pip builds from the sdist is another one")
        return "the same wheel, byte by byte"

    def fresh_install(self) -> str:
        """The wheel with its locked requirements runs where nothing of this tree is."""
        with tempfile.TemporaryDirectory() as folder:
            _run([sys.executable, "-m", "venv", f"{folder}/venv"])
            python, program = f"{folder}/venv/bin/python", f"{folder}/venv/bin/qc-adapter"
            pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check"]
            _run([*pip, "install", "--require-hashes", "--requirement", str(ROOT / "requirements.txt")], folder)
            _run([*pip, "install", "--no-deps", "--no-index", str(self._wheel)], folder)
            _run([*pip, "check"], folder)
            bare = {"PATH": "/usr/bin:/bin", "HOME": folder, "LANG": "C.UTF-8"}
            where = _run([python, "-c", "import qc_adapter; print(qc_adapter.__file__)"], folder, bare).strip()
            if not where.startswith(folder):
                raise Refused(f"it ran from {where}")
            if (told := _run([program, "--version"], folder, bare).strip()) != self._version:
                raise Refused(f"qc-adapter --version says {told}")
            demo = _run([program, "demo"], folder, bare)
            if "CONFIRMED" not in demo.upper():
                raise Refused(f"qc-adapter demo confirmed nothing:\n{demo}")
        return f"qc-adapter {told}: demo confirmed an intercept, pip finds nothing amiss"

    def sbom(self) -> str:
        """What is inside, from the lock."""
        return _run([sys.executable, "scripts/sbom.py"]).strip()

    def audit(self) -> str:
        """Whether anything inside is known to be vulnerable."""
        asked = subprocess.run(
            [sys.executable, "scripts/audit.py"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        said = asked.stdout.strip() or asked.stderr.strip()
        if asked.returncode == NOT_ASKED:
            if self._release and not self._unaudited:
                raise Refused(f"{said}; ask where there is an answer (make audit), or say --unaudited")
            self.wanting.append("vulnerabilities")
        elif asked.returncode != 0:
            raise Refused(said)
        return said

    def sums(self) -> str:
        """What can be checked after an upload."""
        made = sorted(one for one in DIST.iterdir() if one.is_file())
        (DIST / "SHA256SUMS").write_text("".join(f"{_sum(one)}  {one.name}\n" for one in made))
        return f"dist/SHA256SUMS names {len(made)} files"

    def verdict(self) -> str:
        """Return the last word."""
        words = f", but NOT CHECKED: {' and '.join(self.wanting)}" if self.wanting else ""
        if not self._release:
            return f"{self._version} passed{words}"
        tag = f"v{self._version}"
        return (
            f"{self._version} can be released{words}\ngit tag --annotate {tag} --message {tag} && git push origin {tag}"
        )

    @property
    def _sdist(self) -> Path:
        return DIST / f"qc_adapter-{self._version}.tar.gz"

    @property
    def _wheel(self) -> Path:
        return DIST / f"qc_adapter-{self._version}-py3-none-any.whl"


def _git(*arguments: str) -> str:
    return _run(["git", *arguments])


def _tool(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def _sum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _run(command: list[str], folder: str | Path = ROOT, environment: dict[str, str] | None = None) -> str:
    """Return what a program says; one that fails refuses the release with all it said."""
    done = subprocess.run(  # noqa: S603 - fixed commands
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=_MINUTES * 60, check=False
    )
    if done.returncode != 0:
        raise Refused(f"{' '.join(command[:4])} ended with {done.returncode}:\n{done.stdout}{done.stderr}".rstrip())
    return done.stdout


def main() -> None:
    """Try, and end with 1 when it is refused."""
    parser = argparse.ArgumentParser(description="Try whether this tree can be released.")
    parser.add_argument("--release", action="store_true", help="for the day of the release")
    parser.add_argument("--skip-tests", action="store_true", help="all but the tests; not with --release")
    parser.add_argument("--unaudited", action="store_true", help="release without an answer about vulnerabilities")
    chosen = parser.parse_args()
    if chosen.release and chosen.skip_tests:
        parser.error("a release skips no test")
    try:
        release = Release(**vars(chosen))
        release.run()
        print(release.verdict())
    except Refused as refused:
        sys.exit(f"REFUSED: {refused}")


if __name__ == "__main__":
    main()
