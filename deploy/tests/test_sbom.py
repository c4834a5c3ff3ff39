"""The list of what is inside."""

from __future__ import annotations

import re

from scripts.sbom import ROOT, direct_names, made


def test_the_list_holds_the_lock_and_no_address_of_an_index():
    """Each locked package once, with its version and hashes, below our own component; made twice it is the same."""
    bom, text = made()
    locked = re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert [(one["name"], one["version"]) for one in bom["components"]] == sorted(locked)
    assert all(one["externalReferences"][0]["hashes"] for one in bom["components"])
    assert set(re.findall(r"https?://[^\"]*", text)) == {"http://cyclonedx.org/schema/bom-1.6.schema.json"}
    assert text == made()[1]


def test_our_component_needs_what_pyproject_asks_for():
    """With its extras, by the names of the index; the lock does not tell more."""
    bom, _ = made()
    ours, *others = bom["dependencies"]
    names = [one.removeprefix("pkg:pypi/").partition("@")[0] for one in ours["dependsOn"]]
    assert ours["ref"] == bom["metadata"]["component"]["purl"]
    assert {"grpcio", "redis", "uvloop", "opentelemetry-sdk"} < set(names)
    assert [one for one in others if "dependsOn" in one] == []


def test_a_requirement_is_known_by_its_name():
    """Extras, versions and spelling do not count."""
    asked = {"dependencies": ["redis[hiredis]>=6.2"], "optional-dependencies": {"x": ["Google_Api.Core<2"]}}
    assert direct_names(asked) == {"redis", "google-api-core"}
