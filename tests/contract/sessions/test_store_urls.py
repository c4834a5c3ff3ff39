"""Which addresses a store can have, and what is said about the others."""

from __future__ import annotations

import pytest

from qc_adapter.model.session import Secret
from qc_adapter.store.opening import StoreAddress, parse_store_url


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("memory://", StoreAddress("memory")),
        ("redis://cache", StoreAddress("redis", (("cache", 6379),))),
        ("redis://[::1]:7000/3", StoreAddress("redis", (("::1", 7000),), db=3)),
        (
            "redis://me:p%40ss@cache:7000/2",
            StoreAddress("redis", (("cache", 7000),), db=2, username="me", password=Secret("p@ss")),
        ),
        ("rediss://:pw@cache", StoreAddress("redis", (("cache", 6379),), password=Secret("pw"), tls=True)),
        (
            "redis+sentinel://:pw@one:1,two/calls/4",
            StoreAddress("sentinel", (("one", 1), ("two", 26379)), master_name="calls", db=4, password=Secret("pw")),
        ),
    ],
)
def test_an_address_is_read(url, address):
    """Every documented form of QC_STORE_URL is understood."""
    assert parse_store_url(url) == address


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("", "must begin with"),
        ("cache:6379", "must begin with"),
        ("http://canary@cache", "must begin with"),
        ("memory://here", "nothing after it"),
        ("redis://", "needs a host"),
        ("redis://:canary@", "needs a host"),
        ("redis://:canary@cache:no", "port"),
        ("redis://:canary@cache:70000", "port"),
        ("redis://cache:0", "port"),
        ("redis://:canary#1@cache", "%23"),
        ("redis://cache/zero", "database"),
        ("redis://cache?canary=1", "option"),
        ("redis://cache?ca_file=x", "option"),
        ("rediss://cache?ca_file=/no/such/file", "does not exist"),
        ("redis://[::1", "brackets"),
        ("redis+sentinel://one,two", "master's name"),
        ("redis+sentinel://one,/calls", "needs a host"),
    ],
)
def test_a_wrong_address_is_explained_without_repeating_it(url, what):
    """What is wrong with QC_STORE_URL is said so that it can be mended, and never shows a password."""
    with pytest.raises(ValueError, match=what) as refused:
        parse_store_url(url)
    assert "canary" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_an_address_prints_without_its_password():
    """A store address may be logged."""
    assert "canary" not in repr(parse_store_url("redis://me:canary@cache"))
