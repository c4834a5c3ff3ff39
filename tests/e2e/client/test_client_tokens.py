"""A client whose token ends: with the next one it goes on where it was, without one it says so."""

from __future__ import annotations

import contextlib
import time

import pytest
from grpc import StatusCode

from qc_adapter.app import Adapter
from qc_adapter.client import CallFailed, OutcomeUnknown, QualityControlClient
from qc_adapter.settings import read_settings
from qc_adapter.v1 import quality_control_pb2 as pb
from qc_adapter.v1 import sessions_pb2, sessions_pb2_grpc
from tests.support.opening import _SETTINGS, simulated
from tests.support.tokens import AUDIENCE, ISSUER, ec_key, jwk, key_set, token

KEY = ec_key()
ACCEPTED = pb.CommandUpdate(cursor="c-1", accepted=pb.CommandAccepted())
OUTCOME = pb.CommandUpdate(cursor="c-2", outcome=pb.CommandOutcome(state=pb.CommandOutcome.CONFIRMED))


@pytest.fixture
def token_file(tmp_path):
    path = tmp_path / "token"
    path.write_text("first")
    return path


@pytest.fixture
def ended(status):
    """How a stream ends whose token has ended."""
    return status(StatusCode.UNAUTHENTICATED, "CALLER_UNKNOWN", (("outcome", "unknown"),))


@pytest.fixture
async def client(replica, quick, token_file):
    """A client of the scripted replica."""
    target = f"127.0.0.1:{replica.port}"
    async with QualityControlClient(target, token_file=token_file, timing=quick, jitter=lambda: 1.0) as made:
        yield made


async def test_a_watch_goes_on_with_the_next_token(replica, log, client, token_file, ended):
    """Right after the last event, once for each new token; with an old one it ends."""
    replica.watches = [[1, ended], [1, ended], [1, ended]]
    log.append("a", "b", "c")
    names = []
    async with client.watch("101", "oldest") as watch:
        for next_token in ("second", "third", "third"):
            names.append((await anext(watch)).event.event_type)
            token_file.write_text(next_token)
        with pytest.raises(CallFailed) as failed:
            await anext(watch)
    assert names == ["a", "b", "c"]
    assert (failed.value.reason, failed.value.cursor) == ("CALLER_UNKNOWN", "c-3")
    assert len(replica.requests) == 3


async def test_a_command_is_joined_with_the_next_token(replica, client, token_file, ended):
    """Under the same request id, so that it runs once."""
    replica.commands = [[ACCEPTED, ended], [ACCEPTED, OUTCOME]]
    async with client.updates("Intercept", pb.InterceptRequest(agent_id="101", work_no="292")) as updates:
        assert (await anext(updates)).HasField("accepted")
        token_file.write_text("second")
        assert (await anext(updates)).HasField("outcome")
    assert len({request.options.request_id for request in replica.requests}) == 1
    assert len(replica.requests) == 2


async def test_a_command_whose_token_ended_may_have_run(replica, client, ended, status):
    """Without another token nobody can tell; what was refused at the door has not run."""
    replica.commands = [[ended]]
    with pytest.raises(OutcomeUnknown):
        await client.intercept("101", "292")
    replica.commands = [
        [ACCEPTED, status(StatusCode.UNAVAILABLE)],
        [status(StatusCode.UNAUTHENTICATED, "CALLER_UNKNOWN")],
    ]
    with pytest.raises(OutcomeUnknown):
        await client.intercept("101", "292")
    replica.commands = [[status(StatusCode.UNAUTHENTICATED, "CALLER_UNKNOWN")]]
    with pytest.raises(CallFailed) as failed:
        await client.intercept("101", "292")
    assert (failed.type, failed.value.outcome) == (CallFailed, "")


async def test_a_token_that_is_not_there_sends_nothing(replica, client, token_file):
    """The error says which file; the replica hears nothing."""
    token_file.unlink()
    for call in (client.intercept("101", "292"), anext(client.watch("101"))):
        with pytest.raises(CallFailed, match="cannot be read"):
            await call
    assert replica.requests == []


async def test_a_watch_of_a_real_adapter_outlives_its_token(nothing_leaks, tmp_path, token_file):
    """The adapter ends the stream when the token ends; stubs of the caller's own show tokens too."""
    keys = tmp_path / "jwks.json"
    keys.write_bytes(key_set(jwk(KEY)))
    settings = {"QC_JWT_ISSUER": ISSUER, "QC_JWT_AUDIENCE": AUDIENCE, "QC_JWT_JWKS_FILE": str(keys)}
    broken = []
    async with contextlib.AsyncExitStack() as stack:
        simulator = await stack.enter_async_context(simulated())
        environment = _SETTINGS | settings | {"QC_GATEWAY_URL": simulator.url}
        adapter = await stack.enter_async_context(Adapter(read_settings(environment)))
        client = await stack.enter_async_context(
            QualityControlClient(f"127.0.0.1:{adapter.port}", token_file=token_file)
        )
        token_file.write_text(token(KEY))
        sessions = sessions_pb2_grpc.InspectorSessionsStub(client.channel)
        await sessions.SignIn(sessions_pb2.SignInRequest(agent_id="101", phone_number="1"), timeout=20)
        token_file.write_text(token(KEY, exp=int(time.time()) - 28))
        async with client.watch("101", subscribed=True, on_broken=broken.append) as watch:
            await anext(watch)
            token_file.write_text(token(KEY))
            async for message in watch:
                if message.HasField("subscribed"):
                    break
    assert [one.failure.reason for one in broken] == ["CALLER_UNKNOWN"]
