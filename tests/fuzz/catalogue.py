"""Every target there is."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.fuzz.target import Target

#: Modules of targets, and what they read where that is not always there.
_MODULES = {
    "replies": "",
    "exchanges": "",
    "pushes": "",
    "requests": "",
    "stored": "",
    "settings_texts": "",
    "policies": "qc_adapter.access.policy_file",
    "tokens": "qc_adapter.access.tokens",
}

TARGETS: dict[str, Target] = {
    target.name: target
    for name, reader in _MODULES.items()
    if not reader or find_spec(reader) is not None
    for target in import_module(f"tests.fuzz.{name}").TARGETS
}
