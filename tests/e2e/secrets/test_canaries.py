"""No secret comes out of a real process, on a good day and on bad days, whatever the other side does with it."""

from __future__ import annotations

import asyncio
import signal

import grpc
import orjson
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from qc_adapter.v1 import events_pb2, quality_control_pb2, sessions_pb2
from qc_adapter.v1.sessions_pb2 import RE_SIGN_IN_SAME_CREDENTIALS
from tests.support.watching import until

MARKER = "request-of-the-canary-test"
OK = grpc.StatusCode.OK
UNREADABLE = grpc.StatusCode.FAILED_PRECONDITION


def sign_in_as(premises, agent_id, **more):
    password = {"password": premises.password, "phone_number": "1"}
    return premises.sessions.SignIn, sessions_pb2.SignInRequest(agent_id=agent_id, **password, **more)


def intercept(premises, agent_id="101", work_no="292", request_id="", **more):
    options = quality_control_pb2.CommandOptions(request_id=request_id)
    request = quality_control_pb2.InterceptRequest(agent_id=agent_id, work_no=work_no, options=options, **more)
    return premises.commands.Intercept, request


async def a_good_day(premises):
    """Sign-ins, commands, events, pushes, a look at everything."""
    assert await premises.call(*sign_in_as(premises, "101", re_sign_in=RE_SIGN_IN_SAME_CREDENTIALS)) is OK
    premises.simulator.start_call("292")
    listen = quality_control_pb2.ListenRequest(agent_id="101", work_no="292")
    assert await premises.call(premises.commands.Listen, listen) is OK
    assert await premises.call(*intercept(premises, request_id=MARKER)) is OK
    await premises.call(premises.events.Watch, events_pb2.WatchRequest(agent_id="101", cursor="oldest"), messages=4)
    assert await premises.call(premises.sessions.UpdateGuid, sessions_pb2.UpdateGuidRequest(agent_id="101")) is OK
    adopt = sessions_pb2.AdoptRequest(agent_id="103", guid=f"JSESSIONID={premises.adopted}", event_source=3)
    assert await premises.call(premises.sessions.Adopt, adopt) is OK
    assert await premises.call(premises.sessions.Get, sessions_pb2.GetRequest(agent_id="103")) is OK
    assert await premises.call(premises.sessions.List, sessions_pb2.ListRequest()) is OK
    await premises.push(premises.push_token, b"{}")
    await premises.push(premises.token, f'{{"guid":"{premises.adopted}"}}'.encode())


async def reflected(premises):
    """What the server tells of itself."""
    stub = reflection_pb2_grpc.ServerReflectionStub(premises.channel)
    names = ["qc_adapter.v1.InspectorSessions", premises.adopted]
    asked = [reflection_pb2.ServerReflectionRequest(list_services="")]
    asked += [reflection_pb2.ServerReflectionRequest(file_containing_symbol=name) for name in names]
    # A name that it does not know is repeated to who asked, and to nobody else.
    answers = [one async for one in stub.ServerReflectionInfo(iter(asked[:2]), metadata=premises.metadata())]
    premises.places["reflection"] = b"".join(one.SerializeToString() for one in answers)


async def bad_requests(premises):
    """Secrets in the wrong fields, and bytes that are no request."""
    guid, password = premises.adopted, premises.password
    for agent_id, work_no in ((guid, "292"), ("101", guid), (password, password), (f"odd/{guid}", "292")):
        assert await premises.call(*intercept(premises, agent_id, work_no)) is not OK
    assert await premises.call(*intercept(premises, call_id=f"{password} {guid}\n")) is not OK
    for wrong in (f"{guid}\r\nX: y", f"a b {guid}", guid + "x" * 5000):
        adopt = sessions_pb2.AdoptRequest(agent_id="104", guid=wrong)
        assert await premises.call(premises.sessions.Adopt, adopt) is not OK
    for cursor in (guid, password):
        watch = events_pb2.WatchRequest(agent_id="101", cursor=cursor)
        assert await premises.call(premises.events.Watch, watch) is not OK
    raw = premises.channel.unary_unary("/qc_adapter.v1.InspectorSessions/Adopt", request_serializer=lambda one: one)
    try:
        await raw(b"\xff" + guid.encode(), timeout=10)
    except grpc.aio.AioRpcError as error:
        premises.told.append(repr(error).encode())
    unknown = premises.channel.unary_unary("/qc_adapter.v1.Canary/Call", request_serializer=lambda one: one)
    try:
        await unknown(premises.token.encode(), timeout=10, metadata=premises.metadata())
    except grpc.aio.AioRpcError as error:
        premises.told.append(repr(error).encode())


async def callers_without_rights(premises):
    """Tokens that are none, one too many, a certificate alone, and a handler that fails with secrets in its hands."""
    adopt = sessions_pb2.AdoptRequest(agent_id="109", guid=premises.adopted)
    shown = (f"Bearer {premises.forged}", f"Bearer {premises.token}x", premises.token, f"Basic {premises.password}")
    for one in shown:
        code = await premises.call(premises.sessions.Adopt, adopt, shown=(("authorization", one),))
        assert code is grpc.StatusCode.UNAUTHENTICATED
    assert await premises.call(premises.sessions.Adopt, adopt, shown=()) is grpc.StatusCode.PERMISSION_DENIED
    assert await premises.call(premises.sessions.Adopt, adopt) is grpc.StatusCode.INTERNAL


async def an_odd_gateway(premises):
    """A gateway that repeats what it was told, as refusal, as garbage, as a page, and breaks off."""
    assert await premises.call(*sign_in_as(premises, "odd/101")) is OK
    for first in range(300, 335, 7):
        batch = [intercept(premises, "odd/101", str(number)) for number in range(first, first + 7)]
        await asyncio.gather(*(premises.call(*one, timeout=2) for one in batch))
    await premises.call(premises.sessions.UpdateGuid, sessions_pb2.UpdateGuidRequest(agent_id="odd/101"))
    await premises.call(premises.sessions.SignOut, sessions_pb2.SignOutRequest(agent_id="odd/101"))


async def records_of_strangers(premises):
    """Records that were damaged, moved, or sealed with a key that is not there."""
    with premises.redis.client() as client:
        stored = client.hgetall("qc:session:103")
        client.hset("qc:session:105", mapping=stored | {b"agent_id": b"105"})
        client.hset("qc:session:106", mapping={"agent_id": "106", "guid": f"{premises.adopted} {premises.password}"})
        sealed = b"0badc0de" + stored[b"sealed_guid"][8:]
        client.hset("qc:session:107", mapping=stored | {b"agent_id": b"107", b"sealed_guid": sealed})
        for agent_id in ("105", "106", "107"):
            assert await premises.call(*intercept(premises, agent_id)) is UNREADABLE
        assert await premises.call(premises.sessions.List, sessions_pb2.ListRequest()) is OK
        # What another system wrote lies there in plain text until it is read for; this one cannot be.
        client.delete("qc:session:106")


async def a_day_without_the_store(premises):
    """Redis is away, and everything is asked all the same; then it is back and empty."""
    premises.redis.stop()
    for call in (intercept(premises), sign_in_as(premises, "102"), sign_in_as(premises, "odd/102")):
        assert await premises.call(*call) is not OK
    await premises.page("/readyz")
    premises.redis.start()
    premises.listen_in()
    await until_found(premises, "/readyz", b'"store":{"ok":true', 10)


async def until_found(premises, path, what, seconds):
    """Wait for a page to say so."""
    async with asyncio.timeout(seconds):
        while True:
            await premises.page(path)
            name, found = list(premises.places.items())[-1]
            if what in found.replace(b" ", b""):
                return
            del premises.places[name]
            await asyncio.sleep(0.1)


async def test_no_secret_comes_out(premises):
    """Whatever happens: no spelling of a planted secret stands in any output, reply, trace, file or value in Redis."""
    premises.listen_in()
    await premises.serve(premises.stack)
    await a_good_day(premises)
    await reflected(premises)
    premises.look_into_redis("on a good day")
    wrong = {"QC_STORE_URL": f"redis://:{premises.password}@nowhere:no", "QC_SEAL_KEYS": f"{premises.seal_key}x"}
    wrong |= {"QC_PUSH_TOKEN": f"{premises.push_token} "}
    codes = await asyncio.gather(premises.run("check", "--connect", "--json"), premises.run("serve", **wrong))
    assert codes[1] != 0
    await bad_requests(premises)
    await callers_without_rights(premises)
    await an_odd_gateway(premises)
    await records_of_strangers(premises)
    for accept in ("text/plain", "application/openmetrics-text; version=1.0.0"):
        await premises.page("/metrics", Accept=accept)
    premises.look_into_redis("on bad days")
    await a_day_without_the_store(premises)
    premises.look_into_redis("that was empty")
    hanging = [asyncio.create_task(premises.call(*sign_in_as(premises, "102"))) for _ in range(3)]
    hanging += [asyncio.create_task(premises.call(*intercept(premises, "odd/101"))) for _ in range(3)]
    await asyncio.sleep(0)
    hanging[0].cancel()
    await until(lambda: premises.odd.heard, "requests")
    premises.process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(30):
        await asyncio.gather(*hanging, return_exceptions=True)
        assert await premises.process.wait() == 0
    emitted = premises.emitted()
    found = premises.canaries.found_in(emitted)
    assert not found, "\n".join(map(repr, found))
    # The places are those that they are taken for.
    assert {place for place, told in emitted.items() if MARKER.encode() in told} >= {
        "output serve.out",
        "redis monitor",
    }
    assert b"sealed_guid" in emitted["redis on a good day"]
    assert b"sealed_guid" in emitted["redis monitor"]
    assert b"QualityControl/Intercept" in emitted["traces"]
    assert b"call_failed" in emitted["output serve.out"]
    assert b"jwt:" in emitted["output serve.err"]  # who called, in the records
    assert b"InspectorSessions" in emitted["reflection"]
    assert b"900-003" in emitted["replies and errors"]
    assert b"0badc0de" in emitted["replies and errors"]
    assert b"qc_requests_total" in next(told for place, told in emitted.items() if "/metrics" in place)
    assert orjson.loads(emitted["output serve.out"].splitlines()[-1])["event"] == "stopped"
