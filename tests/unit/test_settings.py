"""What the environment may hold, and what is said when it does not fit."""

from __future__ import annotations

import os

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ec

from qc_adapter.settings import (
    InvalidSettings,
    Listen,
    describe,
    read_settings,
    settings_markdown,
)
from qc_adapter.settings_certificates import certificate_files
from qc_adapter.variables import VARIABLES
from tests.support.certificates import Authority
from tests.support.tokens import ec_key, jwk, key_set

NORTH = {"QC_GATEWAYS": "north", "QC_GATEWAY_NORTH_URL": "https://north:8043"}
LEAST = {"QC_GATEWAY_URL": "https://gateway:8043"}


def problems(environment):
    """The names of the variables that are complained about, and all the text."""
    with pytest.raises(InvalidSettings) as refused:
        read_settings(environment)
    return {problem.variable for problem in refused.value.problems}, str(refused.value)


@pytest.fixture(scope="module")
def pem(tmp_path_factory):
    """A certificate and its key in one file, which is good as a CA too."""
    path = tmp_path_factory.mktemp("pem") / "some.pem"
    certificate = trustme.CA().issue_cert("localhost")
    certificate.private_key_and_cert_chain_pem.write_to_path(path)
    return str(path)


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    """A policy that can be used."""
    path = tmp_path_factory.mktemp("policy") / "policy.yaml"
    path.write_text(
        "version: 1\n"
        "callers:\n"
        "  wallboard:\n"
        "    identities: [anonymous]\n"
        "    allow:\n"
        "      - {methods: [Watch], inspectors: [north/101]}\n"
    )
    return str(path)


def test_the_gateway_is_all_that_has_to_be_set():
    """Every other setting has the documented default."""
    settings = read_settings(LEAST)
    assert settings.gateways[0].url == "https://gateway:8043"
    assert settings.poll_hold_seconds == 10
    assert settings.gateways[0].request_timeout_seconds == 10
    assert settings.store_url.reveal() == "memory://"
    assert settings.listen == Listen("127.0.0.1", 50051)
    assert settings.ops_listen == Listen("127.0.0.1", 8080)
    assert settings.tls is None
    assert (settings.gateways[0].agent_id_max, settings.poll_pause_seconds, settings.log_level) == (59999, 0.2, "info")
    assert (settings.confirm_within_seconds, settings.bookmark_seconds) == (10, 15)
    assert (settings.drain_seconds, settings.grace_seconds) == (5, 10)
    assert settings.warnings == ()


def test_without_a_gateway_only_other_commands_run():
    """Serve needs QC_GATEWAY_URL; what does not talk to the gateway does not."""
    assert problems({})[0] == {"QC_GATEWAY_URL"}
    assert read_settings({}, gateway_required=False).gateways == ()


def test_every_setting_can_be_set(pem, policy):
    """The values arrive typed, with one field for each variable."""
    settings = read_settings(
        LEAST
        | NORTH
        | {
            "QC_GATEWAY_CA_FILE": pem,
            "QC_GATEWAY_CERT_FILE": pem,
            "QC_GATEWAY_KEY_FILE": pem,
            "QC_GATEWAY_TIMEOUT_SECONDS": "2.5",
            "QC_STORE_URL": "redis://cache",
            "QC_STORE_PLAIN": "1",
            "QC_LISTEN": "[::]:7000",
            "QC_OPS_LISTEN": ":7001",
            "QC_TLS_CERT_FILE": pem,
            "QC_TLS_KEY_FILE": pem,
            "QC_TLS_CLIENT_CA_FILE": pem,
            "QC_POLICY_FILE": policy,
            "QC_AGENT_ID_MAX": "999999",
            "QC_POLL_PAUSE_SECONDS": "0",
            "QC_POLL_HOLD_SECONDS": "12",
            "QC_CONFIRM_WITHIN_SECONDS": "4",
            "QC_BOOKMARK_SECONDS": "5",
            "QC_STREAMS_MAX": "7",
            "QC_DRAIN_SECONDS": "0",
            "QC_GRACE_SECONDS": "1",
            "QC_LOG_LEVEL": "DEBUG",
        }
    )
    gateway, north = settings.gateways
    assert (north.name, north.url, settings.policy_file) == ("north", "https://north:8043", policy)
    assert (gateway.ca_file, gateway.cert_file, gateway.key_file) == (pem, pem, pem)
    assert (settings.gateways[0].request_timeout_seconds, settings.poll_hold_seconds) == (2.5, 12)
    assert gateway.connect_timeout_seconds == 2.5
    assert settings.store_url.reveal() == "redis://cache"
    assert (settings.listen, settings.ops_listen) == (Listen("::", 7000), Listen("0.0.0.0", 7001))
    assert (settings.tls.cert_file, settings.tls.key_file, settings.tls.client_ca_file) == (pem, pem, pem)
    files = [(file.gateway, file.use, file.path) for file in certificate_files(settings)]
    assert files == [
        ("none", "server", pem),
        ("none", "client_ca", pem),
        ("default", "gateway_ca", pem),
        ("default", "gateway_client", pem),
    ]
    assert (gateway.agent_id_max, settings.poll_pause_seconds, settings.confirm_within_seconds) == (999999, 0, 4)
    assert (settings.bookmark_seconds, settings.limits.streams) == (5, 7)
    assert (settings.drain_seconds, settings.grace_seconds, settings.log_level) == (0, 1, "debug")


def test_all_problems_come_at_once():
    """Whoever mends the settings sees everything that is wrong, once each."""
    names, text = problems(
        {
            "QC_GATEWAY_URL": "gateway:8043",
            "QC_STORE_URL": "cache:6379",
            "QC_LISTEN": "50051",
            "QC_OPS_LISTEN": "localhost:99999",
            "QC_TLS_CERT_FILE": "/no/such/file",
            "QC_POLICY_FILE": "policy.yaml",
            "QC_AGENT_ID_MAX": "100",
            "QC_POLL_PAUSE_SECONDS": "-1",
            "QC_POLL_HOLD_SECONDS": "soon",
            "QC_CONFIRM_WITHIN_SECONDS": "inf",
            "QC_STREAMS_MAX": "0",
            "QC_LOG_LEVEL": "loud",
        }
    )
    assert names == {
        "QC_GATEWAY_URL",
        "QC_STORE_URL",
        "QC_LISTEN",
        "QC_OPS_LISTEN",
        "QC_TLS_CERT_FILE",
        "QC_POLICY_FILE",
        "QC_AGENT_ID_MAX",
        "QC_POLL_PAUSE_SECONDS",
        "QC_POLL_HOLD_SECONDS",
        "QC_CONFIRM_WITHIN_SECONDS",
        "QC_STREAMS_MAX",
        "QC_LOG_LEVEL",
    }
    lines = text.splitlines()
    assert len(set(lines)) == len(lines)


@pytest.mark.parametrize(
    ("extra", "variable", "what"),
    [
        ({"QC_TLS_CERT_FILE": "PEM"}, "QC_TLS_CERT_FILE", "QC_TLS_KEY_FILE"),
        ({"QC_TLS_KEY_FILE": "PEM"}, "QC_TLS_KEY_FILE", "QC_TLS_CERT_FILE"),
        ({"QC_TLS_CLIENT_CA_FILE": "PEM"}, "QC_TLS_CLIENT_CA_FILE", "QC_TLS_CERT_FILE"),
        ({"QC_GATEWAY_CERT_FILE": "PEM"}, "QC_GATEWAY_CERT_FILE", "QC_GATEWAY_KEY_FILE"),
        ({"QC_GATEWAY_KEY_FILE": "PEM"}, "QC_GATEWAY_KEY_FILE", "QC_GATEWAY_CERT_FILE"),
        ({"QC_GATEWAY_URL": "http://gateway", "QC_GATEWAY_CA_FILE": "PEM"}, "QC_GATEWAY_CA_FILE", "not https"),
        ({"QC_GATEWAY_URL": "https://me:canary@gateway"}, "QC_GATEWAY_URL", "user name or password"),
        ({"QC_POLICY_FILE": "policy.yaml"}, "QC_POLICY_FILE", "there is none"),
        ({"QC_LISTEN": "0.0.0.0:50051"}, "QC_LISTEN", "QC_TLS_CLIENT_CA_FILE"),
        ({"QC_LISTEN": ":50051"}, "QC_LISTEN", "QC_ALLOW_INSECURE"),
        ({"QC_LISTEN": "::1:50051"}, "QC_LISTEN", "brackets"),
        ({"QC_POLICY_FILE": "p" * 5000}, "QC_POLICY_FILE", "there is none"),
        ({"QC_STORE_URL": "rediss://127.0.0.1/0?ca_file=" + "p" * 5000}, "QC_STORE_URL", "does not exist"),
        ({"QC_LISTEN": "[]:50051"}, "QC_LISTEN", "brackets"),
        ({"QC_LISTEN": "[localhost]:50051"}, "QC_LISTEN", "brackets"),
        ({"QC_GATEWAY_URL": "http://127.0.].1:1"}, "QC_GATEWAY_URL", ""),
        ({"QC_OPS_LISTEN": "0.0.0.0:50051"}, "QC_OPS_LISTEN", "QC_LISTEN"),
        ({"QC_POLL_HOLD_SECONDS": "60"}, "QC_POLL_HOLD_SECONDS", "signs an inspector out"),
        ({"QC_CONFIRM_WITHIN_SECONDS": "0.1"}, "QC_CONFIRM_WITHIN_SECONDS", "QC_POLL_PAUSE_SECONDS"),
        ({"QC_ALLOW_INSECURE": "maybe"}, "QC_ALLOW_INSECURE", "1 or 0"),
        ({"QC_STORE_URL_FILE": "/no/such/file"}, "QC_STORE_URL_FILE", "cannot be read"),
        ({"QC_STORE_URL_FILE": "PEM", "QC_STORE_URL": "memory://"}, "QC_STORE_URL_FILE", "one of them"),
        ({"QC_GATEWAY_CA_FILE": "TEXT"}, "QC_GATEWAY_CA_FILE", "PEM"),
        ({"QC_TLS_CERT_FILE": "PEM", "QC_TLS_KEY_FILE": "TEXT"}, "QC_TLS_CERT_FILE", "QC_TLS_KEY_FILE its key"),
        ({"QC_TLS_CERT_FILE": "PEM", "QC_TLS_KEY_FILE": "OTHER"}, "QC_TLS_KEY_FILE", "not the key of QC_TLS_CERT_FILE"),
        ({"QC_PUSH_TLS_CERT_FILE": "PEM", "QC_PUSH_TLS_KEY_FILE": "PEM"}, "QC_PUSH_TLS_CERT_FILE", "QC_PUSH_LISTEN"),
        ({"QC_SEAL_KEYS": ","}, "QC_SEAL_KEYS", "44 characters"),
        ({"QC_SEAL_KEYS": f"{'k' * 43}=\n{'l' * 43}="}, "QC_SEAL_KEYS", "44 characters"),
        ({"QC_SEAL_KEYS": f"{'k' * 43}= {'l' * 43}="}, "QC_SEAL_KEYS", "44 characters"),
        ({"QC_SEAL_KEYS": f"\ufeff{'k' * 43}="}, "QC_SEAL_KEYS", "44 characters"),
        ({"QC_STORE_URL": "redis://cache"}, "QC_SEAL_KEYS", "QC_STORE_PLAIN=1"),
        ({"QC_GATEWAY_PIN": "ab:cd"}, "QC_GATEWAY_PIN", "64 hex digits"),
        ({"QC_AUDIT_LOG": "audit"}, "QC_AUDIT_LOG", "a path with a /"),
        ({"QC_AUDIT_KEY": "short"}, "QC_AUDIT_KEY", "32 characters"),
        ({"QC_JWT_ISSUER": "https://issuer"}, "QC_JWT_ISSUER", "QC_JWT_AUDIENCE and QC_JWT_JWKS_FILE or"),
        ({"QC_JWT_JWKS_URL": "http://keys/jwks"}, "QC_JWT_JWKS_URL", "must be https"),
        ({"QC_JWT_JWKS_CA_FILE": "PEM"}, "QC_JWT_JWKS_CA_FILE", "QC_JWT_JWKS_URL"),
        (
            {"QC_GATEWAYS": "north", "QC_GATEWAY_NORTH_URL": "https://GATEWAY:8043/"},
            "QC_GATEWAY_NORTH_URL",
            "QC_GATEWAY_URL already",
        ),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(pem, tmp_path, extra, variable, what):
    """One problem names one variable and says what to do about it."""
    text_file, other = tmp_path / "text", tmp_path / "other.pem"
    text_file.write_text("certificate")
    trustme.CA().private_key_pem.write_to_path(other)
    files = {"PEM": pem, "TEXT": str(text_file), "OTHER": str(other)}
    names, text = problems(LEAST | {name: files.get(value, value) for name, value in extra.items()})
    assert names == {variable}
    assert what in text
    assert "canary" not in text


PUSHED = {
    "QC_PUSH_LISTEN": "0.0.0.0:8443",
    "QC_PUSH_URL": "https://adapter:8443/events",
    "QC_PUSH_TOKEN": "canary0123456789",
}


def test_a_site_with_push_and_several_gateways(pem):
    """Each gateway has its own variables, and is told where to push under its own name."""
    settings = read_settings(
        LEAST
        | PUSHED
        | {
            "QC_PUSH_URL": "https://adapter:8443/events/",
            "QC_PUSH_TLS_CERT_FILE": pem,
            "QC_PUSH_TLS_KEY_FILE": pem,
            "QC_GATEWAYS": "north, far-east",
            "QC_GATEWAY_NORTH_URL": "https://north",
            "QC_GATEWAY_FAR_EAST_URL": "https://east",
            "QC_GATEWAY_FAR_EAST_EVENT_SOURCE": "push",
        }
    )
    assert [gateway.name for gateway in settings.gateways] == ["default", "north", "far-east"]
    assert [str(gateway.event_source) for gateway in settings.gateways] == ["poll", "poll", "push"]
    callbacks = [settings.push.callback_of(gateway.name) for gateway in settings.gateways]
    assert callbacks == [f"https://adapter:8443/events{end}" for end in ("", "/north", "/far-east")]
    assert (settings.push.token.reveal(), settings.push.tls.key_file) == ("canary0123456789", pem)
    assert ("none", "push") in [(file.gateway, file.use) for file in certificate_files(settings)]
    assert "canary" not in repr(settings)


@pytest.mark.parametrize(
    ("extra", "variable", "what"),
    [
        *(
            ({"QC_PUSH_URL": url}, "QC_PUSH_URL", "as https://host:8443/events")
            for url in (
                "ftp://adapter/events",
                "https://me:canary@adapter/events",
                "https://adapter:99999/events",
                "https://adapter/my%20events",
                "https://adapter/my events",
                "https://adapter//events",
                "https://adapter/../events",
                "https://adapter/events?all",
                "https://[::1/events",
                "https:///events",
            )
        ),
        ({"QC_PUSH_URL": f"https://adapter/{'e' * 200}"}, "QC_PUSH_URL", "characters long"),
        ({"QC_PUSH_TOKEN": "canary-with-signs-0815"}, "QC_PUSH_TOKEN", "letters and digits"),
        ({"QC_PUSH_TOKEN": ""}, "QC_PUSH_LISTEN", "needs QC_PUSH_TOKEN too"),
        ({"QC_PUSH_LISTEN": "0.0.0.0:50051"}, "QC_PUSH_LISTEN", "has the port of QC_LISTEN"),
        ({"QC_PUSH_TLS_CERT_FILE": "PEM"}, "QC_PUSH_TLS_CERT_FILE", "needs QC_PUSH_TLS_KEY_FILE"),
        (
            {"QC_PUSH_URL": "http://adapter", "QC_PUSH_TLS_CERT_FILE": "PEM", "QC_PUSH_TLS_KEY_FILE": "PEM"},
            "QC_PUSH_TLS_CERT_FILE",
            "QC_PUSH_URL is not https",
        ),
        ({"QC_HEARTBEAT_SECONDS": "31"}, "QC_HEARTBEAT_SECONDS", "at most 30"),
        ({"QC_EVENT_SOURCE": "none"}, "QC_EVENT_SOURCE", "poll or push"),
        *(
            ({"QC_GATEWAYS": name}, "QC_GATEWAYS", "further gateways")
            for name in ("default", "none", "other", "N", "a,a")
        ),
        ({"QC_GATEWAYS": "north"}, "QC_GATEWAY_NORTH_URL", "is required"),
    ],
)
def test_what_does_not_fit_a_site_with_push_is_refused(pem, extra, variable, what):
    """One problem names one variable, and tells no secret."""
    given = LEAST | PUSHED | {name: pem if value == "PEM" else value for name, value in extra.items()}
    names, text = problems(given)
    assert names == {variable}
    assert what in text
    assert "canary" not in text


@pytest.mark.parametrize("address", ["127.0.0.1:0", "localhost:1", "[::1]:65535", "127.9.9.9:50051"])
def test_loopback_needs_no_certificates(address):
    """On this machine alone anyone may call."""
    assert read_settings(LEAST | {"QC_LISTEN": address}).listen.loopback
    assert str(read_settings(LEAST | {"QC_LISTEN": address}).listen) == address


def test_an_open_port_can_be_allowed_on_purpose():
    """QC_ALLOW_INSECURE=1 takes the responsibility."""
    settings = read_settings(
        LEAST | {"QC_LISTEN": ":50051", "QC_ALLOW_INSECURE": "1", "QC_STORE_URL": "redis://localhost"}
    )
    assert settings.listen == Listen("0.0.0.0", 50051)
    assert len(settings.warnings) == 1
    assert settings.callers == "anyone"


def test_a_key_that_the_port_cannot_use_is_refused(tmp_path):
    """OpenSSL takes more kinds of keys than the gRPC library: one of those would be a port that cannot be opened."""
    pair = Authority().issue("localhost", key=ec.generate_private_key(ec.SECP256K1()))
    path = tmp_path / "pair.pem"
    path.write_bytes(pair.certificate + pair.key)
    tls = {"QC_TLS_CERT_FILE": str(path), "QC_TLS_KEY_FILE": str(path)}
    variables, text = problems(LEAST | tls)
    assert variables == {"QC_TLS_CERT_FILE"}
    assert "of a kind that cannot be used" in text


def test_what_callers_are_asked_for_is_told(pem):
    """The start says what protects the port: certificates, tokens, both, or that only this machine reaches it."""
    tls = {"QC_TLS_CERT_FILE": pem, "QC_TLS_KEY_FILE": pem}
    mutual = tls | {"QC_TLS_CLIENT_CA_FILE": pem}
    tokens = {"QC_JWT_ISSUER": "https://issuer", "QC_JWT_AUDIENCE": "qc", "QC_JWT_JWKS_URL": "https://issuer/keys"}
    asked = [read_settings(LEAST | more).callers for more in ({}, tls, mutual, tokens, mutual | tokens)]
    assert asked == ["loopback_only", "loopback_only", "mutual_tls", "tokens", "mutual_tls_and_tokens"]


def test_server_tls_alone_does_not_open_the_port(pem):
    """A certificate of ours does not say who the callers are."""
    tls = {"QC_TLS_CERT_FILE": pem, "QC_TLS_KEY_FILE": pem}
    assert problems(LEAST | tls | {"QC_LISTEN": ":50051"})[0] == {"QC_LISTEN"}


def test_known_callers_need_a_policy_outside_of_loopback(pem, policy):
    """A certificate of the right CA alone is no right to everything; QC_ALLOW_INSECURE=1 says that it is."""
    mutual = {"QC_TLS_CERT_FILE": pem, "QC_TLS_KEY_FILE": pem, "QC_TLS_CLIENT_CA_FILE": pem}
    outside = LEAST | mutual | {"QC_LISTEN": ":50051"}
    names, text = problems(outside)
    assert names == {"QC_LISTEN"}
    assert "QC_POLICY_FILE" in text
    assert read_settings(outside | NORTH | {"QC_POLICY_FILE": policy}).policy_file == policy
    assert read_settings(outside | {"QC_ALLOW_INSECURE": "1"}).policy_file is None


def test_tokens_cross_no_network_unencrypted(pem, policy):
    """A token that can be read on its way is anybody's; on loopback nobody can."""
    keys = "https://issuer/jwks"
    tokens = {"QC_JWT_ISSUER": "https://issuer", "QC_JWT_AUDIENCE": "qc-adapter", "QC_JWT_JWKS_URL": keys}
    outside = LEAST | NORTH | tokens | {"QC_LISTEN": ":50051", "QC_POLICY_FILE": policy}
    names, text = problems(outside)
    assert names == {"QC_LISTEN"}
    assert "unencrypted" in text
    assert read_settings(outside | {"QC_TLS_CERT_FILE": pem, "QC_TLS_KEY_FILE": pem}).tokens.audience == "qc-adapter"
    assert read_settings(LEAST | tokens).tokens.issuer == "https://issuer"


def test_a_key_set_has_to_be_usable(tmp_path):
    """What no token could be verified with is refused at the start, with what is wrong."""
    path = tmp_path / "jwks.json"
    tokens = {"QC_JWT_ISSUER": "https://issuer", "QC_JWT_AUDIENCE": "qc-adapter", "QC_JWT_JWKS_FILE": str(path)}
    for content, why in ((b"", "no JSON"), (key_set(), "no key that can verify"), (b'{"keys":[{"kty":"oct"}]}', "sym")):
        path.write_bytes(content)
        names, text = problems(LEAST | tokens)
        assert names == {"QC_JWT_JWKS_FILE"}
        assert why in text
    path.write_bytes(key_set(jwk(ec_key())))
    assert read_settings(LEAST | tokens).tokens.jwks_file == str(path)


def test_every_problem_of_a_policy_is_one_of_the_settings(policy, tmp_path):
    """A policy that cannot be used is told of with its lines, and before anything serves without it."""
    path = tmp_path / "policy.yaml"
    path.write_text("version: 2\ncallers:\n  desk:\n    identities: [nobody]\n    alow: []\n")
    names, text = problems(LEAST | {"QC_POLICY_FILE": str(path)})
    assert names == {"QC_POLICY_FILE"}
    lines = [f"QC_POLICY_FILE={path}: line {line}: " for line in (1, 3, 4, 5)]
    assert [line for line in lines if line not in text] == []
    assert "did you mean allow?" in text
    names, text = problems(LEAST | {"QC_POLICY_FILE": policy})
    assert names == {"QC_POLICY_FILE"}
    assert "'north/101' names a gateway that the settings do not have: they have default" in text
    assert read_settings({"QC_POLICY_FILE": policy}, gateway_required=False).policy_file == policy


def test_a_secret_can_come_from_a_file(tmp_path):
    """QC_STORE_URL_FILE is the same as QC_STORE_URL with the file's text, less the line's end."""
    path = tmp_path / "url"
    path.write_text("redis://:canary@cache/2\n")
    environment = LEAST | {"QC_STORE_URL_FILE": str(path), "QC_STORE_PLAIN": "1"}
    settings = read_settings(environment)
    assert settings.store_url.reveal() == "redis://:canary@cache/2"
    assert settings.warnings == ()
    assert "canary" not in repr(settings)
    assert "canary" not in repr(describe(environment))


@pytest.mark.parametrize(
    "url",
    ["redis://me:canary@cache:6379/0", "redis://me:can@ary@cache", "redis://:pa/canary@cache", "wrong://canary"],
)
def test_a_password_is_never_shown(url):
    """Neither the description nor a complaint shows what stands before the host."""
    environment = LEAST | {"QC_STORE_URL": url}
    assert "canary" not in repr(describe(environment))
    try:
        shown = repr(read_settings(environment))
    except InvalidSettings as refused:
        shown = str(refused)
    assert "canary" not in shown
    assert "ary@" not in shown


def test_an_unknown_variable_is_named_with_what_was_probably_meant():
    """A typing error does not go unnoticed."""
    settings = read_settings(LEAST | {"QC_POL_PAUSE_SECONDS": "1", "QC_ZZZZ": "1", "OTHER": "1"})
    typo, foreign = settings.warnings
    assert "QC_POL_PAUSE_SECONDS" in typo
    assert "QC_POLL_PAUSE_SECONDS" in typo
    assert "QC_ZZZZ" in foreign


def test_what_kubernetes_sets_is_not_unknown():
    """The variables of a Service called qc-adapter are left alone."""
    links = {
        "QC_ADAPTER_SERVICE_HOST": "10.0.0.1",
        "QC_ADAPTER_SERVICE_PORT_GRPC": "50051",
        "QC_ADAPTER_PORT": "tcp://10.0.0.1:50051",
        "QC_ADAPTER_PORT_50051_TCP_ADDR": "10.0.0.1",
    }
    assert read_settings(LEAST | links).warnings == ()


def test_doubtful_settings_are_warned_about():
    """What works but is hardly meant is said, not refused."""
    settings = read_settings(
        {"QC_GATEWAY_URL": "http://gateway", "QC_LISTEN": ":50051", "QC_ALLOW_INSECURE": "1"},
    )
    unencrypted, one_replica, anyone = settings.warnings
    assert "unencrypted" in unencrypted
    assert "one replica" in one_replica
    assert anyone == "QC_LISTEN=0.0.0.0:50051: anyone who reaches it can control calls (QC_ALLOW_INSECURE=1)"


def test_what_is_open_on_purpose_is_said(pem, policy):
    """Whoever reads the start sees which protection QC_ALLOW_INSECURE has taken away, and nothing where none is."""
    away = LEAST | NORTH | {"QC_LISTEN": "0.0.0.0:50051", "QC_ALLOW_INSECURE": "1", "QC_STORE_URL": "redis://127.0.0.1"}
    tls = {"QC_TLS_CERT_FILE": pem, "QC_TLS_KEY_FILE": pem}
    known = tls | {"QC_TLS_CLIENT_CA_FILE": pem}
    tokens = {"QC_JWT_ISSUER": "x", "QC_JWT_AUDIENCE": "y", "QC_JWT_JWKS_URL": "https://issuer/keys"}
    rules = {"QC_POLICY_FILE": policy}
    [anyone] = read_settings(away | tls | rules).warnings
    assert "anyone who reaches it" in anyone
    [everything] = read_settings(away | known).warnings
    assert "can do everything" in everything
    [unencrypted] = read_settings(away | tokens | rules).warnings
    assert "tokens cross the network unencrypted" in unencrypted
    assert read_settings(away | known | rules).warnings == ()
    assert read_settings(LEAST | {"QC_ALLOW_INSECURE": "1"}).warnings == ()


def test_an_audit_log_has_to_be_writable(tmp_path):
    """A path where no record can be written is told of with all other problems, and what is to be changed."""
    taken = tmp_path / "file"
    taken.touch()
    for path, why in (
        (tmp_path, "is a folder"),
        (tmp_path / "none" / "audit.jsonl", f"there is no folder {tmp_path / 'none'}"),
        (taken / "audit.jsonl", f"there is no folder {taken}"),
    ):
        names, text = problems(LEAST | {"QC_AUDIT_LOG": str(path), "QC_DRAIN_SECONDS": "x"})
        assert names == {"QC_AUDIT_LOG", "QC_DRAIN_SECONDS"}
        assert why in text
    for path in (taken, tmp_path / "new", "stderr", "off"):
        assert read_settings(LEAST | {"QC_AUDIT_LOG": str(path)}).audit.log == str(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_audit_log_of_somebody_else_is_refused(tmp_path):
    """A file or folder that this user may not write to is a problem before the start."""
    path = tmp_path / "audit.jsonl"
    path.touch(mode=0o400)
    assert "give it to whom" in problems(LEAST | {"QC_AUDIT_LOG": str(path)})[1]
    path.unlink()
    tmp_path.chmod(0o500)
    assert "may not write to" in problems(LEAST | {"QC_AUDIT_LOG": str(path)})[1]


def test_an_empty_variable_is_not_set():
    """A manifest that leaves a value empty gets the default."""
    assert read_settings(LEAST | {"QC_LISTEN": "", "QC_POLICY_FILE": " "}).listen.port == 50051


def test_the_description_shows_every_setting():
    """`qc-adapter check` and the documentation list the same variables, with value, default and meaning."""
    rows = {row.variable: row for row in describe({"QC_LISTEN": "nonsense"})}
    assert set(rows) == {variable.name for variable in VARIABLES}
    assert (rows["QC_LISTEN"].value, rows["QC_LISTEN"].default) == ("nonsense", "127.0.0.1:50051")
    assert all(row.meaning for row in rows.values())
    for name in rows:
        assert f"| `{name}`" in settings_markdown()


@pytest.mark.parametrize(
    "beside",
    [{"QC_GATEWAY_CA_FILE": __file__}, {"QC_GATEWAY_URL": "http://127.0.0.1:8043"}],
    ids=["an authority", "no TLS"],
)
def test_a_pin_with_which_something_has_no_use_is_refused(beside):
    """With a pin no authority counts, and without TLS no pin does: one of the two was set by mistake."""
    found, text = problems(LEAST | {"QC_GATEWAY_PIN": "0a" * 32} | beside)
    assert "QC_GATEWAY_PIN" in found
    assert "use" in text


def test_pins_are_read_as_openssl_prints_them():
    """Colons and capital letters do not matter, and several are a rotation."""
    pin = ":".join(["AB"] * 32)
    [gateway] = read_settings(LEAST | {"QC_GATEWAY_PIN": f"{pin}, {'0c' * 32}"}).gateways
    assert gateway.pins == ("ab" * 32, "0c" * 32)
