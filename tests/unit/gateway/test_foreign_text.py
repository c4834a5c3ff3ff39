"""What a gateway says in words, after what it quotes of ours is cut out."""

from __future__ import annotations

import base64

import pytest

from qc_adapter.gateway.foreign_text import plain_text
from qc_adapter.model.session import Secret

GUID = "0a1b2c3d4e5f60718293a4b5c6d7e8f90123456789abcdef.AgentGateway0"
COOKIES = "route=Canary-9; lb=x1; path=%2Fcanary"


@pytest.mark.parametrize(
    "said",
    [
        pytest.param("no session Canary-9 here", id="a value"),
        pytest.param("NO SESSION CANARY-9", id="in capitals"),
        pytest.param(f"bad header {COOKIES}", id="all"),
        pytest.param("bad header route%3DCanary-9%3B%20lb%3Dx1%3B%20path%3D%252Fcanary", id="quoted"),
        pytest.param(base64.b64encode(b"xroute=Canary-9; lb=x1").decode(), id="in Base64"),
        pytest.param("%2FCANARY", id="the last value"),
    ],
)
def test_no_piece_of_a_cookie_is_repeated(said):
    """However much of it a gateway quotes, and in whatever spelling."""
    told = plain_text(said, [Secret(GUID), Secret(COOKIES)])
    assert "canary" not in told.lower()
    assert "<hidden>" in told


@pytest.mark.parametrize("said", [GUID, GUID.upper(), GUID.encode().hex(), base64.b64encode(GUID.encode()).decode()])
def test_no_guid_is_repeated_even_of_another_session(said):
    """It is known by its shape: a gateway may confuse inspectors."""
    assert plain_text(f"wrong: {said}") == "wrong: <hidden>"


@pytest.mark.parametrize(
    "said",
    [
        "the agent x1 is not in route=",
        "ERROR_AGENT_NOT_IN_AN_INSPECTION_STATE at com.huawei.agentgateway.AgentNotFoundException",
        "",
    ],
)
def test_words_stay_as_they_are(said):
    """Short values of cookies and long names are no secrets."""
    assert plain_text(said, [Secret(GUID), Secret(COOKIES)]) == said


def test_a_long_text_is_cut():
    """It costs no more than a short one, and ends with what says so."""
    assert plain_text("a b " * 300_000) == ("a b " * 50)[:197] + "..."
