"""
Write the list of what is inside, as CycloneDX JSON, from the lock: dist/qc-adapter-VERSION.cdx.json.

The same lock gives the same file: no time, no random number, and no address of the index that happened to be used. The
lock does not say who needs whom, so only our own direct requirements are told.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

ROOT: Final = Path(__file__).resolve().parent.parent
_NAME: Final = re.compile(r"[A-Za-z0-9._-]+")


def told(found: dict[str, Any], project: dict[str, Any]) -> dict[str, Any]:
    """Return what the tool found in the lock, named by package instead of by line, below our own component."""
    ours = f"pkg:pypi/{project['name']}@{project['version']}"
    found["metadata"]["component"] |= {"bom-ref": ours, "purl": ours}
    for component in found["components"]:
        component["bom-ref"] = component["purl"]
        component.pop("description", None)  # the line of the lock
        for reference in component.get("externalReferences", []):
            reference["url"] = component["purl"]  # its hashes are what counts, wherever the file came from
            reference.pop("comment", None)
    for tool in found["metadata"]["tools"]["components"]:
        tool.pop("externalReferences", None)
    names = {normal(component["name"]): component["purl"] for component in found["components"]}
    direct = sorted(names[name] for name in direct_names(project))
    found["components"].sort(key=lambda component: component["name"])
    found["dependencies"] = [{"ref": ours, "dependsOn": direct}, *({"ref": purl} for purl in sorted(names.values()))]
    return found


def direct_names(project: dict[str, Any]) -> set[str]:
    """Return the names that pyproject.toml asks for, extras as well: the lock has them."""
    extras = project.get("optional-dependencies", {}).values()
    return {normal(one) for group in (project["dependencies"], *extras) for one in group}


def normal(requirement: str) -> str:
    """Return the name in a requirement, as indexes spell it."""
    found = _NAME.match(requirement)
    return re.sub(r"[-_.]+", "-", found[0]).lower() if found else ""


def made() -> tuple[dict[str, Any], str]:
    """Return the list and its text, once it is valid."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    tool = [str(Path(sys.executable).with_name("cyclonedx-py")), "requirements", "--pyproject", "pyproject.toml",
            "--output-reproducible", "--no-validate", "requirements.txt"]  # fmt: skip
    found = subprocess.run(tool, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603 - a fixed command
    if found.returncode != 0:
        sys.exit(f"cyclonedx-py failed: {found.stderr.strip()}")
    bom = told(json.loads(found.stdout), project)
    text = json.dumps(bom, indent=2, sort_keys=True) + "\n"
    if problem := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        sys.exit(f"this is no CycloneDX 1.6: {problem}")
    return bom, text


def main() -> None:
    """Write it, and say where."""
    bom, text = made()
    ours = bom["metadata"]["component"]
    target = ROOT / "dist" / f"{ours['name']}-{ours['version']}.cdx.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(text)
    print(f"{target.relative_to(ROOT)}, {len(bom['components'])} components, valid CycloneDX 1.6")


if __name__ == "__main__":
    main()
