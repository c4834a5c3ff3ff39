# ruff: noqa: INP001, T201 - a program
"""
Writes what repeats the rules: the PrometheusRule for Kubernetes, and the address of each alert's page.

`RUNBOOKS_URL` is the one place that says where docs/runbooks can be read: change it and run this program. It writes the
address into alerts.yaml and the rule tests, and makes the PrometheusRule from recording.yaml and alerts.yaml. With
--check nothing is written, and what is not as it would be written is an error.
"""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from pathlib import Path
from typing import Final

#: Below it each alert has a page of its name, as docs/runbooks has it. This one leads nowhere: put yours.
RUNBOOKS_URL: Final = "https://runbooks.example/qc-adapter"

HERE: Final = Path(__file__).parent
RULES: Final = ("recording.yaml", "alerts.yaml")
OBJECT: Final = HERE.parent / "kustomize" / "components" / "monitoring" / "prometheus-rule.yaml"

_LINK: Final = re.compile(r"runbook_url: \S+/(\w+)$", re.MULTILINE)
_HEAD: Final = """\
# Made by deploy/prometheus/render.py of recording.yaml and alerts.yaml there: change those.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: qc-adapter
  labels:
    app.kubernetes.io/name: qc-adapter
spec:
  groups:
"""


def linked(text: str) -> str:
    """Return a file of rules or rule tests with the address of each page below `RUNBOOKS_URL`."""
    return _LINK.sub(rf"runbook_url: {RUNBOOKS_URL}/\1", text)


def groups_of(text: str) -> str:
    """Return what stands below `groups:` in a file of rules, comments and all."""
    return text.partition("\ngroups:\n")[2]


def rendered() -> dict[Path, str]:
    """Return every file that is written, with what it should hold."""
    linked_files = [HERE / "alerts.yaml", *sorted((HERE / "tests").glob("*.yaml"))]
    files = {path: linked(path.read_text()) for path in linked_files}
    rules = [linked((HERE / name).read_text()) for name in RULES]
    groups = "\n".join(textwrap.indent(groups_of(text), "  ", lambda line: bool(line.strip())) for text in rules)
    return files | {OBJECT: _HEAD + groups}


def main() -> None:
    """Write the files, or with --check say which ones are not as they should be."""
    parser = argparse.ArgumentParser(description="Write the PrometheusRule and the addresses of the runbooks.")
    parser.add_argument("--check", action="store_true", help="write nothing, fail if a file would change")
    check = parser.parse_args().check
    drifted = [path for path, text in rendered().items() if not path.exists() or path.read_text() != text]
    if check and drifted:
        names = ", ".join(str(path.relative_to(HERE.parent)) for path in drifted)
        sys.exit(f"{names}: not as render.py writes it; run deploy/prometheus/render.py")
    for path, text in rendered().items():
        if path in drifted:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            print(f"wrote {path.relative_to(HERE.parent)}")


if __name__ == "__main__":
    main()
