"""What a call passes is built from the settings, and from files that may be replaced at any moment."""

from __future__ import annotations

import pytest

from qc_adapter.access import keys_file, policy_file
from qc_adapter.access.caller import ANONYMOUS
from qc_adapter.access.opening import open_tokens
from qc_adapter.admission import admission
from qc_adapter.rpc.parse import Parser
from qc_adapter.settings import TokenSettings, read_settings
from qc_adapter.telemetry.labels import LabelSets
from qc_adapter.telemetry.metrics import Metrics, open_registry
from qc_adapter.watched import WatchedFiles
from tests.support.tokens import ec_key, jwk, key_set

POLICY = """version: 1
callers:
  {name}:
    identities: [anonymous]
    allow: []
"""


@pytest.fixture
def metrics():
    nothing = frozenset[str]()
    return Metrics(open_registry(), LabelSets(nothing, nothing, nothing, nothing))


def replaced_behind(read, path, text):
    """Return a reader that replaces the file as soon as it has read it for the first time."""

    def reading(*arguments):
        found = read(*arguments)
        path.with_suffix(".new").write_bytes(text)
        path.with_suffix(".new").rename(path)
        return found

    return reading


def test_a_policy_that_is_replaced_while_it_is_read_is_read_again(monkeypatch, tmp_path, metrics):
    """No change is missed, however early it comes."""
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY.format(name="old"))
    settings = read_settings({"QC_GATEWAY_URL": "http://127.0.0.1:1", "QC_POLICY_FILE": str(path)})
    new = POLICY.format(name="new").encode()
    monkeypatch.setattr(policy_file, "read_policy", replaced_behind(policy_file.read_policy, path, new))
    watched = WatchedFiles(60, metrics)
    made = admission(settings, Parser({"default": 59999}, 60), watched, metrics, None)
    assert made.rights.name_of(ANONYMOUS) == "old"
    watched.look()
    assert made.rights.name_of(ANONYMOUS) == "new"


async def test_keys_that_are_replaced_while_they_are_read_are_read_again(monkeypatch, tmp_path, metrics):
    """A key that is withdrawn as the process starts is not trusted for as long as it runs."""
    path = tmp_path / "jwks.json"
    path.write_bytes(key_set(jwk(ec_key(), "old")))
    new = key_set(jwk(ec_key(), "new"))
    monkeypatch.setattr(keys_file, "read_key_file", replaced_behind(keys_file.read_key_file, path, new))
    watched = WatchedFiles(60, metrics)
    tokens, _ = open_tokens(TokenSettings("issuer", "audience", str(path)), watched, metrics)
    watched.look()
    assert await tokens._keys.find("old") is None
    assert await tokens._keys.find("new") is not None
