"""The settings of the way to the gateway."""

from __future__ import annotations

import pytest

from qc_adapter.gateway.settings import GatewaySettings


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("https://gw:8043", "https://gw:8043/agentgateway/resource"),
        ("https://gw:8043/", "https://gw:8043/agentgateway/resource"),
        ("https://gw/proxy/agentgateway/resource/", "https://gw/proxy/agentgateway/resource"),
        ("http://[::1]:8000", "http://[::1]:8000/agentgateway/resource"),
    ],
)
def test_the_resource_path_is_added_when_there_is_none(url, base):
    """An address without a path gets the documented one; any other path is kept."""
    assert GatewaySettings(url).base_url == base


def test_everything_wrong_is_said_at_once():
    """All problems come in one message, and a password in the address is not repeated."""
    with pytest.raises(ValueError) as raised:
        GatewaySettings(
            "ftp://user:hidden-word@gw/?q=1",
            key_file="key.pem",
            connect_timeout_seconds=20,
            command_slots=0,
            poll_margin_seconds=float("inf"),
        )
    text = str(raised.value)
    assert "hidden-word" not in text
    for part in ("https://", "user name", "query", "cert_file", "connect_timeout_seconds (20)", "command_slots (0)"):
        assert part in text


@pytest.mark.parametrize("url", ["", "gw:8043", "https://", "https://gw:port", "https://gw:99999", "https://[::1"])
def test_what_is_no_address_is_refused(url):
    """A text that is no address does not start the service."""
    with pytest.raises(ValueError):
        GatewaySettings(url)
