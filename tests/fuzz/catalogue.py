"""Every target there is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.fuzz import pushes, replies, requests, settings_texts, stored

if TYPE_CHECKING:
    from tests.fuzz.target import Target

TARGETS: dict[str, Target] = {
    target.name: target for module in (replies, pushes, requests, stored, settings_texts) for target in module.TARGETS
}
