"""What the TLS scan takes for weak: its judge is given what the scanner says, as it says it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "tls_scan.py"


@pytest.fixture(scope="module")
def scan():
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("tls_scan", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop("tls_scan", None)


def told(**changes):
    """What the scanner says of a good port, with changes: of suites by version, of others by what they find out."""
    suites = {
        "tls_1_2": ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"],
        "tls_1_3": ["TLS_AES_256_GCM_SHA384"],
        "ssl_2_0": [],
        "ssl_3_0": [],
        "tls_1_0": [],
        "tls_1_1": [],
    }
    found = {
        "tls_compression": {"supports_compression": False},
        "session_renegotiation": {
            "supports_secure_renegotiation": True,
            "is_vulnerable_to_client_renegotiation_dos": False,
        },
        "heartbleed": {"is_vulnerable_to_heartbleed": False},
        "openssl_ccs_injection": {"is_vulnerable_to_ccs_injection": False},
        "tls_fallback_scsv": {"supports_fallback_scsv": True},
        "tls_extended_master_secret": {"supports_ems_extension": True},
        "robot": {"robot_result": "NOT_VULNERABLE_NO_ORACLE"},
        "certificate_info": {"certificate_deployments": []},
    }
    for version, names in {**suites, **{name: value for name, value in changes.items() if name in suites}}.items():
        found[f"{version}_cipher_suites"] = {
            "accepted_cipher_suites": [{"cipher_suite": {"name": name}} for name in names]
        }
    found |= {name: found[name] | value for name, value in changes.items() if name not in suites}
    return {"scan_result": {name: {"status": "COMPLETED", "result": value} for name, value in found.items()}}


@pytest.fixture
def given(scan, tmp_path):
    """The certificate that the port was given."""
    return scan.Authority(tmp_path).file


def test_a_port_that_offers_nothing_weak_is_fine(scan, given):
    """TLS 1.2 and 1.3 with ephemeral keys and AEAD are no problem."""
    assert scan.judge(told(), given) == (["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384"], [])


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"tls_1_0": ["TLS_RSA_WITH_RC4_128_SHA"]}, "tls_1_0 is offered"),
        ({"ssl_3_0": ["TLS_RSA_WITH_3DES_EDE_CBC_SHA"]}, "ssl_3_0 is offered"),
        ({"tls_1_2": ["TLS_RSA_WITH_AES_128_GCM_SHA256"]}, "TLS_RSA_WITH_AES_128_GCM_SHA256 is weak"),
        ({"tls_1_2": ["TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256"]}, "CBC_SHA256 is weak"),
        ({"tls_1_2": ["TLS_ECDHE_RSA_WITH_NULL_SHA"]}, "NULL_SHA is weak"),
        ({"tls_1_3": []}, "tls_1_3 is not offered"),
        ({"tls_compression": {"supports_compression": True}}, "supports_compression"),
        ({"heartbleed": {"is_vulnerable_to_heartbleed": True}}, "heartbleed"),
        ({"robot": {"robot_result": "VULNERABLE_STRONG_ORACLE"}}, "ROBOT"),
        ({"session_renegotiation": {"supports_secure_renegotiation": False}}, "supports_secure_renegotiation"),
    ],
)
def test_what_is_weak_is_a_problem(scan, given, changes, what):
    """Each weakness is named."""
    _, problems = scan.judge(told(**changes), given)
    assert any(what in one for one in problems), problems


def test_what_the_scanner_did_not_find_out_is_a_problem(scan, given):
    """A scan that failed is no good news."""
    result = told()
    result["scan_result"]["robot"] = {"status": "ERROR", "error_reason": "BUG", "result": None}
    assert any("robot was not found out" in one for one in scan.judge(result, given)[1])
    result["scan_result"], result["connectivity_status"] = None, "ERROR"
    assert scan.judge(result, given)[1] == ["it could not be scanned: ERROR"]
