"""The token of a caller: where it is read, and where it is not sent."""

from __future__ import annotations

import pytest
from grpc import StatusCode

from qc_adapter.client import CallFailed, QualityControlClient, TokenExposed
from qc_adapter.client.token import Shown, Token, on_this_machine

CANARY = "token.of.canary"


@pytest.mark.parametrize(
    ("target", "here"),
    [
        ("127.0.0.1:50051", True),
        ("localhost:50051", True),
        ("[::1]:50051", True),
        ("unix:/run/qc.sock", True),
        ("dns:///localhost:50051", True),
        ("dns:localhost", True),
        ("dns://8.8.8.8/localhost:1", True),
        ("ipv4:127.0.0.1:1,127.0.0.2:2", True),
        ("ipv6:[::1]:1", True),
        ("ipv4:127.0.0.1:1,10.0.0.1:2", False),
        ("dns:///qc-adapter:50051", False),
        ("10.0.0.1:50051", False),
        ("localhost.example:50051", False),
        ("127.0.0.1.example:50051", False),
        ("xds:///localhost:50051", False),
        ("[::]:50051", False),
        ("0.0.0.0:50051", False),
    ],
)
def test_a_target_is_of_this_machine_or_not(target, here):
    """Only what certainly is counts."""
    assert on_this_machine(target) is here


async def test_a_token_is_not_sent_where_others_can_read_it():
    """Unencrypted only to this machine, unless the caller says that something else encrypts."""
    for targets in ("qc-adapter:50051", ["127.0.0.1:1", "10.0.0.1:1"]):
        client = QualityControlClient(targets, token=CANARY)
        with pytest.raises(TokenExposed, match="use TLS") as exposed:
            await client.open()
        assert CANARY not in str(exposed.value)
    for client in (
        QualityControlClient("127.0.0.1:1", token=CANARY),
        QualityControlClient("10.0.0.1:1", token=CANARY, token_unencrypted=True),
        QualityControlClient("10.0.0.1:1"),
    ):
        async with client:
            pass


def test_a_token_comes_from_one_place():
    """Both at once is a mistake."""
    with pytest.raises(ValueError, match="not both"):
        QualityControlClient("127.0.0.1:1", token=CANARY, token_file="file")


@pytest.mark.parametrize("content", [None, b"", b" \n", b"two\nlines", b"t\xc3\xa9", b"x" * 7169])
def test_a_file_without_a_token_is_told(tmp_path, content):
    """By its name, not by what stands in it."""
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CallFailed, match=str(path)) as failed:
        Token(file=path).read()
    assert (failed.value.reason, failed.value.passing, failed.value.may_have_run) == ("TOKEN_UNUSABLE", False, False)


def test_a_refused_stream_is_opened_anew_once_for_each_new_token(tmp_path):
    """The same token again would only be refused again."""
    path = tmp_path / "token"
    path.write_text(f"{CANARY}\n")
    shown, refusal = Shown(Token(file=path)), CallFailed(StatusCode.UNAUTHENTICATED, "ended", "CALLER_UNKNOWN")
    assert shown.headers() == (("authorization", f"Bearer {CANARY}"),)
    assert not shown.renewed(refusal)
    path.write_text("another.one")
    assert shown.renewed(refusal)
    assert not shown.renewed(CallFailed(StatusCode.PERMISSION_DENIED, "no", "CALLER_NOT_ALLOWED"))
    shown.headers()
    assert not shown.renewed(refusal)
    path.unlink()
    assert not shown.renewed(refusal)
    assert not Shown(None).renewed(refusal)
    assert Shown(None).headers() == ()
