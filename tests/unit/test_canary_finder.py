"""The finder of planted secrets finds them; a canary test that finds nothing by itself would prove nothing."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest

from tests.support.canary import Canaries

SECRET = "0a1b2c3d4e5f60718293a4b5c6d7e8f90123456789abcdef.AgentGateway0"


@pytest.mark.parametrize(
    "told",
    [
        pytest.param(lambda one: one.encode(), id="plain"),
        pytest.param(lambda one: f"JSESSIONID={one};".encode(), id="as the header has it"),
        pytest.param(lambda one: one.upper().encode(), id="in capitals"),
        pytest.param(lambda one: quote(f"{one}/x", safe="").encode(), id="quoted"),
        pytest.param(lambda one: one.encode().hex().encode(), id="in hex"),
        *(
            pytest.param(lambda one, n=n: base64.b64encode(b"guid:"[:n] + one.encode() + b"!"), id=f"in Base64, {n} in")
            for n in range(6)
        ),
        pytest.param(lambda one: base64.urlsafe_b64encode(b"?>" + one.encode()), id="in Base64 for addresses"),
    ],
)
def test_a_secret_is_found_in_all_spellings(told):
    """Whatever stands before and behind it."""
    canaries = Canaries(guid=SECRET)
    [place] = {place for place, _, _ in canaries.found_in({"log": b"{..." + told(SECRET) + b"...}", "other": b"0a1b"})}
    assert place == "log"
