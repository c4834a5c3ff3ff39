"""What holds a secret does not show it when it is printed, and does not leave it behind when the process dies."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import resource
import ssl

import pytest

import qc_adapter
from qc_adapter.cli.serve import leave_no_core_dump, leave_no_key_log
from qc_adapter.model.session import Secret, Session
from qc_adapter.sessions.records import Records
from qc_adapter.store.seal import Seal, new_key
from qc_adapter.telemetry.redaction import is_secret_name

#: Named like something that may hold a secret, or what came from the gateway or goes to it.
_BY_NAME = {"body", "headers", "result", "record", "password", "environment"}
#: Shown all the same, because there is no secret in it.
SHOWN = {
    "Behaviour.guid_interval": "a time",
    "Behaviour.guid_timeout": "a time",
    "Variable.secret": "whether it is one",
    "GatewayCall.header_refused": "whether it was",
    "SignedIn.must_change_password": "whether it must be",
    "SignedIn.password_days_left": "a number",
    "TokenSettings.jwks_token_file": "where it is",
    "ClientOptions.token_file": "where it is",
    "ClientOptions.token_unencrypted": "whether it may go so",
    "Settings.tokens": "whose tokens are taken",
}


def shown_fields():
    """Class, name and type of what all dataclasses and named tuples print; the generated code has none."""
    for module in pkgutil.walk_packages(qc_adapter.__path__, "qc_adapter."):
        if not module.name.startswith(("qc_adapter.v1", "qc_adapter.simulator")):
            for made in vars(importlib.import_module(module.name)).values():
                if not isinstance(made, type) or made.__module__ != module.name:
                    continue
                if dataclasses.is_dataclass(made):
                    yield from ((made.__name__, one.name, one.type) for one in dataclasses.fields(made) if one.repr)
                elif issubclass(made, tuple):
                    yield from ((made.__name__, name, made.__annotations__[name]) for name in made._fields)


def test_no_dataclass_prints_a_secret():
    """A field that is named like a secret is a `Secret`, is not printed, or is listed here with the reason."""
    doubtful = {
        f"{made}.{name}" for made, name, kind in shown_fields()
        if "Secret" not in str(kind) and (is_secret_name(name) or name in _BY_NAME)
    }  # fmt: skip
    assert doubtful - SHOWN.keys() == set()


@pytest.mark.parametrize("text", ["{0!r}", "{0}", "{0!s:>40}", "%s", "%r"])
def test_a_secret_is_hidden_however_it_is_printed(text):
    """In a session, a record form or alone."""
    key = new_key()
    for holder in (Secret("canary"), Session("101", Secret("canary"), cookies=Secret("canary")), (Secret("canary"),)):
        told = text % (holder,) if text.startswith("%") else text.format(holder)
        assert "canary" not in told
    for holder in (Seal([key]), Records(Seal([key]))):
        assert key.reveal() not in repr(holder)


def test_a_crash_leaves_no_image_of_the_memory():
    """The soft limit is 0; the hard one stays, so that somebody who wants one can still have it."""
    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))
    try:
        leave_no_core_dump()
        assert resource.getrlimit(resource.RLIMIT_CORE) == (0, before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)


def test_no_library_writes_the_keys_of_tls_sessions(monkeypatch, tmp_path):
    """What makes contexts by Python's defaults, as that of Redis does, is not told to by the environment."""
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys.log"))
    leave_no_key_log()
    assert ssl.create_default_context().keylog_filename is None
