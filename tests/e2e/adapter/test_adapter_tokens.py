"""Callers that show tokens: who is let in, who is not, and when it ends; over a real port."""

from __future__ import annotations

import asyncio
import time

import grpc
import pytest
import trustme
from grpc import StatusCode
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from qc_adapter.v1 import events_pb2, events_pb2_grpc, quality_control_pb2, sessions_pb2, sessions_pb2_grpc
from tests.support.tokens import AUDIENCE, DESK, ISSUER, KeyServer, claims, ec_key, forged, jwk, key_set, token
from tests.support.watching import until

KEY, OTHER = ec_key(), ec_key()


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "jwks.json"
    path.write_bytes(key_set(jwk(KEY)))
    return path


@pytest.fixture
def open_with_tokens(open_site, key_file):
    """Open a site that takes tokens; those that a test shows are among the secrets."""

    async def begin(**environment):
        keys = {} if "QC_JWT_JWKS_URL" in environment else {"QC_JWT_JWKS_FILE": str(key_file)}
        site = await open_site(QC_JWT_ISSUER=ISSUER, QC_JWT_AUDIENCE=AUDIENCE, **keys, **environment)
        site.secrets.discard("")
        return site

    return begin


def shows(site, *tokens):
    """The headers of a caller that shows tokens."""
    for one in tokens:
        site.secrets.update(part for part in (one, one.rpartition(".")[2]) if part)
    return tuple(("authorization", f"Bearer {one}") for one in tokens)


async def asks(site, *tokens):
    """How a call with those tokens ends."""
    request = sessions_pb2.ListRequest()
    return await site.ending(site.sessions.List(request, timeout=20, metadata=shows(site, *tokens)))


def refusals(page):
    """How many calls were refused because nobody knew who it is."""
    [line] = [line for line in page.splitlines() if line.startswith('qc_calls_refused_total{caller="none",why="unk')]
    return float(line.rpartition(" ")[2])


async def test_a_token_lets_its_subject_in(open_with_tokens):
    """The call runs, and its log line names the caller."""
    site = await open_with_tokens()
    assert (await asks(site, token(KEY))).code is StatusCode.OK
    assert site.calls[-1]["caller"] == f"jwt:{DESK}"


async def test_nobody_else_is_let_in(open_with_tokens):
    """Without a good token a call is UNAUTHENTICATED with what to change; it is counted and reaches no gateway."""
    site = await open_with_tokens()
    tried = {
        "show a token": (),
        "expired": (token(KEY, seconds=-60),),
        "not valid yet": (token(KEY, nbf=int(time.time()) + 60),),
        "another audience": (token(KEY, aud="billing"),),
        "another issuer": (token(KEY, iss="https://another.example"),),
        "not in the key set": (token(OTHER, "other"),),
        "signature is wrong": (token(OTHER),),
        "algorithm": (forged({"alg": "none", "kid": "one"}, claims()),),
        "once": (token(KEY), token(KEY, sub="other")),
    }
    for why, shown in tried.items():
        ended = await asks(site, *shown)
        assert (ended.code, ended.reason, ended.retry) == (StatusCode.UNAUTHENTICATED, "CALLER_UNKNOWN", False), why
        assert why in ended.message
        assert "caller" not in site.calls[-1]
    headers = shows(site, token(OTHER))
    ended = await site.ending(site.intercept(metadata=headers))
    assert ended.code is StatusCode.UNAUTHENTICATED
    assert not site.simulator.requests("intercept")
    assert refusals(await site.page("/metrics")) == len(tried) + 1


async def test_probes_and_the_schema_are_open(open_with_tokens):
    """Health is for those who start and stop replicas, and reflection tells what stands in the proto files."""
    site = await open_with_tokens()
    assert await site.serving() == "SERVING"
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    call = reflection_pb2_grpc.ServerReflectionStub(site.channel).ServerReflectionInfo(iter([asked]), timeout=20)
    replies = [reply async for reply in call]
    assert "qc_adapter.v1.QualityControl" in str(replies)


async def test_a_key_that_is_replaced_on_disk_takes_its_tokens_along(open_with_tokens, key_file):
    """The new key's tokens are taken, and those of the old one no more; a broken file changes nothing."""
    site = await open_with_tokens()
    old, new = token(KEY), token(OTHER, "two")
    key_file.write_bytes(key_set(jwk(KEY), jwk(OTHER, "two")))
    site.adapter.watched.look()
    assert [(await asks(site, one)).code for one in (old, new)] == [StatusCode.OK] * 2
    key_file.write_bytes(b"{")
    site.adapter.watched.look()
    assert [(await asks(site, one)).code for one in (old, new)] == [StatusCode.OK] * 2
    assert 'qc_reload_refused{what="jwks"} 1.0' in await site.page("/metrics")
    key_file.write_bytes(key_set(jwk(OTHER, "two")))
    site.adapter.watched.look()
    assert [(await asks(site, one)).code for one in (old, new)] == [StatusCode.UNAUTHENTICATED, StatusCode.OK]


async def test_keys_from_a_server_that_comes_late_and_rotates(open_with_tokens):
    """Until there are keys callers are told to come again; then a new key is fetched as soon as a token names it."""
    server = KeyServer()
    await server.start()
    server.status = 503
    try:
        site = await open_with_tokens(QC_JWT_JWKS_URL=f"http://127.0.0.1:{server.port}/jwks")
        site.adapter._keys._pause_seconds = 0.0
        ended = await asks(site, token(KEY))
        assert (ended.code, ended.reason) == (StatusCode.UNAVAILABLE, "CALLER_KEYS_UNAVAILABLE")
        assert ended.retry
        assert await site.serving() == "SERVING"
        server.status, server.body = 200, key_set(jwk(KEY))
        assert (await asks(site, token(KEY))).code is StatusCode.OK
        server.body = key_set(jwk(OTHER, "two"))
        assert (await asks(site, token(OTHER, "two"))).code is StatusCode.OK
        assert (await asks(site, token(KEY))).code is StatusCode.UNAUTHENTICATED
    finally:
        await server.stop()


async def test_a_stream_ends_with_its_token(open_with_tokens):
    """What was open when the token ended is ended too, with the reason; no timer is left."""
    site = await open_with_tokens()
    lasts = shows(site, token(KEY))
    request = sessions_pb2.SignInRequest(agent_id="101", phone_number="1", password="")
    await site.sessions.SignIn(request, timeout=20, metadata=lasts)
    ends = shows(site, token(KEY, exp=int(time.time()) - 28))
    asked = events_pb2.WatchRequest(agent_id="101")
    given_up = site.events.Watch(asked, timeout=20, metadata=lasts)
    await given_up.read()
    ended = await site.ending(site.events.Watch(asked, timeout=20, metadata=ends))
    assert (ended.code, ended.reason) == (StatusCode.UNAUTHENTICATED, "CALLER_UNKNOWN")
    assert "the token has ended" in ended.message
    assert ended.kinds[0] == "subscribed"
    assert site.calls[-1]["caller"] == f"jwt:{DESK}"
    given_up.cancel()
    loop = asyncio.get_running_loop()

    def left():
        timers = getattr(loop, "_scheduled", ())
        return [one for one in timers if not one.cancelled() and "Revocation" in repr(one)]

    await until(lambda: not left(), "no timer is left")


async def test_a_command_outlives_the_token_of_its_caller(open_with_tokens):
    """Only the stream ends, with an outcome that is open; under the same id it is joined, and was sent once."""
    site = await open_with_tokens()
    lasts = shows(site, token(KEY))
    for agent_id in ("101", "292"):
        request = sessions_pb2.SignInRequest(agent_id=agent_id, phone_number="1", password="")
        await site.sessions.SignIn(request, timeout=20, metadata=lasts)
    call_id = site.simulator.start_call("292")
    listen = quality_control_pb2.ListenRequest(agent_id="101", work_no="292")
    assert (await site.ending(site.commands.Listen(listen, timeout=20, metadata=lasts))).outcome == "CONFIRMED"
    ends = shows(site, token(KEY, exp=int(time.time()) - 28))
    followed = {"follow": quality_control_pb2.FOLLOW_UNTIL_RELEASED, "request_id": "one"}
    ended = await site.ending(site.intercept(metadata=ends, **followed))
    assert (ended.code, ended.reason, ended.outcome) == (StatusCode.UNAUTHENTICATED, "CALLER_UNKNOWN", "CONFIRMED")
    assert (ended.metadata["outcome"], ended.retry) == ("unknown", False)
    joined = site.intercept(metadata=lasts, **followed)
    assert (await joined.read()).HasField("accepted")
    site.simulator.end_call(call_id)
    assert (await site.ending(joined)).code is StatusCode.OK
    assert site.puts == 1


async def test_a_stream_ends_when_the_key_of_its_token_is_withdrawn(open_with_tokens, key_file, monkeypatch):
    """Whoever has a key that leaked may have made tokens for ever: its streams end with it, soon."""
    monkeypatch.setattr("qc_adapter.rpc.revocation._LOOK_SECONDS", 0.05)
    site = await open_with_tokens()
    lasts = shows(site, token(KEY, seconds=10**9))
    request = sessions_pb2.SignInRequest(agent_id="101", phone_number="1", password="")
    await site.sessions.SignIn(request, timeout=20, metadata=lasts)
    call = site.events.Watch(events_pb2.WatchRequest(agent_id="101"), timeout=20, metadata=lasts)
    await call.read()
    key_file.write_bytes(key_set(jwk(OTHER)))
    site.adapter.watched.look()
    ended = await site.ending(call)
    assert (ended.code, ended.reason) == (StatusCode.UNAUTHENTICATED, "CALLER_UNKNOWN")
    assert "withdrawn" in ended.message


async def test_without_tokens_and_certificates_nobody_is_asked(open_site):
    """On loopback anybody may call; a token that is shown all the same is not looked at."""
    site = await open_site()
    assert (await asks(site, "no.token.at-all")).code is StatusCode.OK
    assert "caller" not in site.calls[-1]


async def test_a_token_counts_more_than_the_certificate(open_with_tokens, tmp_path):
    """Behind a good certificate a good token names the caller, a bad one is refused, and without one it is the host."""
    authority = trustme.CA()
    served, mine = authority.issue_cert("localhost"), authority.issue_cert("desk.example")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    served.private_key_pem.write_to_path(tmp_path / "key.pem")
    served.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    files = {"CERT_FILE": "cert.pem", "KEY_FILE": "key.pem", "CLIENT_CA_FILE": "ca.pem"}
    site = await open_with_tokens(**{f"QC_TLS_{name}": str(tmp_path / file) for name, file in files.items()})
    target, request = f"localhost:{site.adapter.port}", sessions_pb2.ListRequest()
    ca = authority.cert_pem.bytes()
    with_certificate = grpc.ssl_channel_credentials(ca, mine.private_key_pem.bytes(), mine.cert_chain_pems[0].bytes())
    async with grpc.aio.secure_channel(target, with_certificate) as channel:
        sessions = sessions_pb2_grpc.InspectorSessionsStub(channel)
        for shown, caller in ((shows(site, token(KEY)), f"jwt:{DESK}"), ((), "dns:desk.example")):
            assert (await site.ending(sessions.List(request, timeout=20, metadata=shown))).code is StatusCode.OK
            assert site.calls[-1]["caller"] == caller
        for bad in (token(OTHER), token(KEY, seconds=-60), "no.token.at-all"):
            ended = await site.ending(sessions.List(request, timeout=20, metadata=shows(site, bad)))
            assert ended.code is StatusCode.UNAUTHENTICATED
    async with grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(ca)) as channel:
        events = events_pb2_grpc.InspectorEventsStub(channel)
        call = events.Watch(events_pb2.WatchRequest(agent_id="101"), timeout=20, metadata=shows(site, token(KEY)))
        assert (await site.ending(call)).code is StatusCode.UNAVAILABLE
