"""Push as a receiver sees it: headers, both shapes, bad answers, TLS. A real receiver on a real port."""

import asyncio
import json
import ssl

import pytest
from aiohttp import web

from qc_adapter.simulator import Fault
from tests.support.simulated import until


class Receiver:
    """A callback that keeps what it gets, and answers what it was told to."""

    def __init__(self):
        self.got = []
        self.answers = []
        self.usual = (200, b'{"message":"success","retcode":"0"}')
        self.at_once = asyncio.Event()
        self.at_once.set()
        self.url = ""

    async def handle(self, http):
        self.got.append((dict(http.headers), json.loads(await http.read())))
        await self.at_once.wait()
        status, body = self.answers.pop(0) if self.answers else self.usual
        return web.Response(status=status, body=body)

    def events(self):
        return [event["eventType"] for _, body in self.got for event in body["eventList"]]


@pytest.fixture
async def receivers():
    """Starts receivers; with a TLS context if one is given."""
    runners = []

    async def start(context=None):
        receiver = Receiver()
        runner = web.ServerRunner(web.Server(receiver.handle, access_log=None), shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        receiver.url = f"http{'s' if context else ''}://127.0.0.1:{runner.addresses[0][1]}/push"
        runners.append(runner)
        return receiver

    yield start
    for runner in runners:
        await runner.cleanup()


@pytest.fixture
async def receiver(receivers):
    """A plain receiver."""
    return await receivers()


def by(receiver):
    """Return the members of a sign-in that asks for pushes."""
    return {"callBackUri": receiver.url, "serviceToken": "token-1"}


async def test_events_are_pushed_with_the_headers_of_the_gateway(simulators, receiver):
    """S21: who signs in with callback and token gets his events there, with his GUID and his token."""
    client = await simulators()
    guid = await client.sign_in(**by(receiver))
    await until(lambda: receiver.events() == ["AgentOther_InService", "AgentState_Ready"])
    headers, body = receiver.got[0]
    assert (headers["Guid"], headers["service_token"]) == (guid, "token-1")
    assert headers["Content-Type"] == "application/json; charset=UTF-8"
    assert body["workNo"] == "101"
    await until(lambda: client.simulator.pushes_of("101")["delivered"] == 2)
    assert client.simulator.state()["agents"]["101"]["push"]["callback"] == receiver.url


async def test_old_shape_on_the_wire(simulators, receiver):
    """S21: the older shape is a choice."""
    client = await simulators(push_shape="old")
    await client.sign_in(**by(receiver))
    await until(lambda: len(receiver.got) == 2)
    assert [body["event"]["eventType"] for _, body in receiver.got] == ["AgentOther_InService", "AgentState_Ready"]


@pytest.mark.parametrize(
    "answer",
    [(403, b"<html>"), (500, b""), (200, b""), (200, b'{"retcode":"1"}'), (200, b"[]"), (200, b'{"retcode":false}')],
    ids=["403", "500", "empty", "refused", "list", "false"],
)
async def test_bad_answer_brings_the_same_events_again(simulators, receiver, answer):
    """S21: anything but HTTP 200 with retcode 0 is a failure; the same events come again."""
    client = await simulators(push_retry_seconds=0.02)
    receiver.answers = [answer]
    await client.sign_in(**by(receiver))
    await until(lambda: client.simulator.pushes_of("101")["delivered"] == 2)
    assert client.simulator.pushes_of("101")["failures"] == 1
    first, second = (body["eventList"] for _, body in receiver.got[:2])
    assert second[: len(first)] == first


async def test_number_zero_is_a_success(simulators, receiver):
    """S21: a callback that answers the number 0 has taken the events."""
    client = await simulators()
    receiver.usual = (200, b'{"retcode":0}')
    await client.sign_in(**by(receiver))
    await until(lambda: client.simulator.pushes_of("101")["delivered"] == 2)
    assert client.simulator.pushes_of("101")["failures"] == 0


@pytest.mark.parametrize("silent", [True, False], ids=["no-answer", "nobody-there"])
async def test_failing_callback_signs_out(simulators, receiver, silent):
    """S21: a callback that says nothing, or is not there, costs the sign-in when it fails for too long."""
    client = await simulators(push_retry_seconds=0.02, push_fail_seconds=0.06, push_timeout_seconds=0.05)
    receiver.at_once.clear()
    url = receiver.url if silent else "http://127.0.0.1:1/push"
    guid = await client.sign_in(callBackUri=url, serviceToken="t")
    await until(lambda: client.simulator.record.sign_outs)
    receiver.at_once.set()
    assert client.simulator.record.sign_outs[0].reason == "push_failed"
    assert await client.code("POST", "/onlineagent/101/handshake", guid) == "100-006"


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
async def test_first_push_and_the_sign_in_reply(simulators, receiver, before):
    """S13, S21: the first events come after the sign-in reply, or before it if so chosen."""
    client = await simulators(push_before_reply=before)
    receiver.at_once.clear()
    sign_in = asyncio.create_task(client.sign_in(**by(receiver)))
    await until(lambda: receiver.got)
    if before:
        assert not sign_in.done()
    else:
        await sign_in
    receiver.at_once.set()
    assert (await sign_in) == receiver.got[0][0]["Guid"]


async def test_heartbeat_brings_the_new_guid(simulators, receiver):
    """S15, S21: a push agent's heartbeat brings the new GUID, and his pushes carry it; a poll is refused."""
    client = await simulators(guid_interval_seconds=0)
    old = await client.sign_in(**by(receiver))
    reply = await client.send("POST", "/onlineagent/101/handshake", old)
    new = reply.headers["Set-GUID"].removeprefix("JSESSIONID=")
    await until(lambda: client.simulator.pushes_of("101")["delivered"] == 2)
    client.simulator.inject("101", {"eventType": "Own"})
    await until(lambda: "Own" in receiver.events())
    assert receiver.got[-1][0]["Guid"] == new != old
    assert await client.code("GET", "/agentevent/101", new) == "000-001"


async def test_answer_lost_after_the_callback_had_it(simulators, receiver):
    """A fault loses the answer of a callback that took the events, so they come twice; another loses the push."""
    client = await simulators(push_retry_seconds=0.02)
    client.simulator.add_fault(Fault("reset_after", operation="pushEvent"))
    client.simulator.add_fault(Fault("delay", operation="pushEvent", seconds=0.01))
    await client.sign_in(**by(receiver))
    await until(lambda: client.simulator.pushes_of("101")["delivered"] == 2)
    assert receiver.events().count("AgentOther_InService") == 2
    client.simulator.add_fault(Fault("reset_before", operation="pushEvent"))
    client.simulator.inject("101", {"eventType": "Late"})
    await until(lambda: client.simulator.pushes_of("101")["delivered"] == 3)
    assert receiver.events().count("Late") == 1
    assert client.simulator.pushes_of("101")["failures"] == 2


@pytest.mark.parametrize("trust", ["file", "all", "none"])
async def test_https_callback_is_checked(simulators, receivers, tmp_path, trust):
    """An https callback is trusted by its authority, by everyone's leave, or not at all."""
    from qc_adapter.simulator.certificates import self_signed

    certificate, key = self_signed("127.0.0.1")
    (tmp_path / "ca.pem").write_bytes(certificate)
    (tmp_path / "key.pem").write_bytes(key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "ca.pem", tmp_path / "key.pem")
    receiver = await receivers(context)
    choices = {"file": {"push_ca_file": str(tmp_path / "ca.pem")}, "all": {"push_trust_all": True}, "none": {}}
    client = await simulators(**choices[trust])
    await client.sign_in(**by(receiver))
    counted = "failures" if trust == "none" else "delivered"
    await until(lambda: client.simulator.pushes_of("101")[counted] > 0)
    assert bool(receiver.got) is (trust != "none")
