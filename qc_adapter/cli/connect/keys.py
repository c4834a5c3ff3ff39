"""The keys of callers' tokens: whether they are there, and how many can be used."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from qc_adapter import variables as at
from qc_adapter.access.keys_file import read_key_file
from qc_adapter.access.keys_url import fetch_keys
from qc_adapter.watched import Unusable

if TYPE_CHECKING:
    from qc_adapter.cli.connect.findings import Findings
    from qc_adapter.settings import TokenSettings


async def look_at_keys(tokens: TokenSettings, findings: Findings) -> None:
    """Fetch them in the way that serve does."""
    if tokens.jwks_file:
        findings.good(f"{at.JWT_JWKS_FILE.name} has {_number(len(read_key_file(tokens.jwks_file)))}")
        return
    host = urlsplit(tokens.jwks_url).hostname
    change = f"check {at.JWT_JWKS_URL.name}, {at.JWT_JWKS_CA_FILE.name} and {at.JWT_JWKS_TOKEN_FILE.name}"
    findings.begin(f"fetching the keys of callers' tokens from {host}", change)
    try:
        keys = await fetch_keys(tokens)
    except Unusable as unusable:
        findings.problem(f"no keys of callers' tokens from {host}: {unusable}", change)
    else:
        findings.good(f"{host} serves {_number(len(keys))}")


def _number(count: int) -> str:
    return f"{count} key{'s' if count > 1 else ''} that callers' tokens may be signed with"
