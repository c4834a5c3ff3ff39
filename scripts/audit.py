"""
Ask for known vulnerabilities of what the lock names, and tell "none" from "not answered".

pip-audit ends with 0 when the service knows none of the packages, as a mirror without that data does. So its report is
read: exit code 0 when there is an answer about each package and nothing is found, 1 when something is found, 3 when
packages are without an answer.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
CLEAN: Final = 0
FOUND: Final = 1
NOT_ASKED: Final = 3
#: Findings that do not concern us: the id, and why not. Each goes when the package is renewed.
ACCEPTED: Final[dict[str, str]] = {}
_LOCKED: Final = re.compile(r"^([A-Za-z0-9._-]+)==", re.MULTILINE)


def verdict(report: dict[str, Any] | None, locked: list[str]) -> tuple[int, list[str]]:
    """Return the exit code and what to say about a report; None is no report at all."""
    packages = (report or {}).get("dependencies", [])
    answered = {one["name"]: one for one in packages if "skip_reason" not in one}
    silent = [name for name in locked if name not in answered]
    lines, found = [], False
    for name, one in answered.items():
        for problem in one["vulns"]:
            known = [problem["id"], *problem.get("aliases", [])]
            why = next((ACCEPTED[each] for each in known if each in ACCEPTED), None)
            found = found or why is None
            fixed = ", ".join(problem.get("fix_versions", [])) or "no version yet"
            lines.append(
                f"{name} {one['version']}: {' '.join(known)}, fixed in {fixed}{f'; accepted: {why}' if why else ''}"
            )
    if found:
        lines.append("renew the lock (make lock), or say in scripts/audit.py why it does not concern us")
    if silent:
        which = "any package" if len(silent) == len(locked) else ", ".join(silent)
        lines.append(f"NOT CHECKED: no answer about {which} ({len(silent)} of {len(locked)})")
    if not lines:
        lines.append(f"no known vulnerability in {len(locked)} packages")
    return FOUND if found else NOT_ASKED if silent else CLEAN, lines


def main() -> None:
    """Ask, and say."""
    lock = ROOT / "requirements.txt"
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        tool = [str(Path(sys.executable).with_name("pip-audit")), "--requirement", str(lock), "--disable-pip"]
        tool += ["--require-hashes", "--progress-spinner", "off", "--format", "json", "--output", str(report)]
        asked = subprocess.run(tool, capture_output=True, text=True, check=False)  # noqa: S603 - a fixed command
        found = json.loads(report.read_text()) if report.exists() else None
    code, lines = verdict(found, _LOCKED.findall(lock.read_text()))
    if found is None and asked.stderr.strip():
        lines.append(asked.stderr.strip().splitlines()[-1])
    print("\n".join(lines))
    sys.exit(code)


if __name__ == "__main__":
    main()
