"""
`make fuzz`: every target of `tests/fuzz` for some minutes, each in a process of its own, one after another.

Ends with 1 when a target broke its rule; the input is saved in `--crashes`, and how to repeat it is printed. A crash
that is mended becomes a seed of its target. What was found to cover more is kept in `--corpus`, if one is named.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.pages import put
from tests.fuzz.catalogue import TARGETS

ROOT: Final = Path(__file__).resolve().parent.parent
SPARE_SECONDS: Final = 120
_DONE: Final = re.compile(r"#(\d+)\s+DONE\s+cov: (\d+) ft: \d+ corp: (\d+)")
_PEAK: Final = re.compile(r"stat::peak_rss_mb:\s+(\d+)")
_SHOWN_BYTES: Final = 300
_HEAD: Final = (
    "| target | s | executions | a second | branches | inputs | peak MiB | found |",
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
)


@dataclass(frozen=True, slots=True)
class Found:
    """What came of one target."""

    name: str
    seconds: float
    runs: int = 0
    covered: int = 0
    inputs: int = 0
    peak_mib: int = 0
    crash: Path | None = None
    words: str = ""

    @property
    def row(self) -> str:
        """The line of the table."""
        seen = "broke" if self.crash else "nothing" if not self.words else "did not end well"
        a_second = self.runs / self.seconds if self.seconds else 0
        return (
            f"| `{self.name}` | {self.seconds:.0f} | {self.runs:,} | {a_second:,.0f} | {self.covered:,} | "
            f"{self.inputs} | {self.peak_mib} | {seen} |"
        )


def fuzz(name: str, seconds: int, folder: Path) -> Found:
    """Run one target to its end."""
    began = time.monotonic()
    command = [sys.executable, "-m", "bench.fuzz_child", name, str(folder), str(seconds)]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("QC_")}
    try:
        ended = subprocess.run(  # noqa: S603 - our own module
            command, cwd=ROOT, env=environment, capture_output=True, timeout=seconds + SPARE_SECONDS, check=False
        )
        words, code = (ended.stderr + ended.stdout).decode(errors="replace"), ended.returncode
    except subprocess.TimeoutExpired as late:
        words, code = f"did not end {SPARE_SECONDS} s after its time\n{late.stderr!r}", -1
    seconds_spent = time.monotonic() - began
    crash = next(iter(sorted(folder.glob("*-*"))), None)
    done, peak = _DONE.search(words), _PEAK.search(words)
    return Found(
        name,
        seconds_spent,
        *(map(int, done.groups()) if done else (0, 0, 0)),
        int(peak[1]) if peak else 0,
        crash,
        words if code or crash or not done else "",
    )


def main() -> int:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=180, help="for each target")
    parser.add_argument("--target", action="append", choices=sorted(TARGETS), help="only this one; may be repeated")
    parser.add_argument("--crashes", type=Path, default=Path("build/fuzz"), help="where broken inputs are saved")
    parser.add_argument("--corpus", type=Path, help="a folder to begin from and to keep inputs in")
    parser.add_argument("--write", type=Path, help="write the table into this page, between its marks")
    given = parser.parse_args()
    if not 1 <= given.seconds <= 3600:
        parser.error("at most an hour for each target")
    broken, rows = 0, list(_HEAD)
    print("\n".join(rows), flush=True)
    for name in given.target or TARGETS:
        with tempfile.TemporaryDirectory(prefix=f"qc-fuzz-{name}-") as place:
            folder = Path(place)
            kept = given.corpus / name if given.corpus else None
            if kept is not None and kept.is_dir():
                shutil.copytree(kept, folder / "corpus")
            found = fuzz(name, given.seconds, folder)
            print(found.row, flush=True)
            rows.append(found.row)
            if kept is not None:
                shutil.copytree(folder / "corpus", kept, dirs_exist_ok=True)
            if found.words:
                broken += 1
                _tell(found, given.crashes)
    if given.write:
        put(given.write, "fuzz", "\n".join(rows))
    return 1 if broken else 0


def _tell(found: Found, crashes: Path) -> None:
    """Print what broke, and how to see it again."""
    print(found.words[-4000:])
    if found.crash is None:
        return
    saved = crashes / found.name / found.crash.name
    saved.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(found.crash, saved)
    print(f"{found.name} broke its rule with {saved}: {saved.read_bytes()[:_SHOWN_BYTES]!r}")
    print(
        f'again: {Path(sys.executable).name} -c "from pathlib import Path; from tests.fuzz.catalogue import TARGETS; '
        f"TARGETS['{found.name}'].check(Path('{saved}').read_bytes())\""
    )
    print(f"once it is mended, keep it: cp {saved} tests/fuzz/seeds/{found.name}/")


if __name__ == "__main__":
    sys.exit(main())
