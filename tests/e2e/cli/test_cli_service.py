"""The commands that run or check something: serve, check, explain, simulate, demo."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import signal
import socket
import ssl
import subprocess

import aiohttp
import grpc
import orjson
import pytest

from bench.abuse.attacks import Port, odd_deadlines
from qc_adapter.v1 import events_pb2, events_pb2_grpc
from tests.support.certificates import Authority

FREE_PORTS = {"QC_LISTEN": "127.0.0.1:0", "QC_OPS_LISTEN": "127.0.0.1:0"}


@pytest.fixture
def serving(simulator, start):
    """A function that starts `serve` against the simulator; returns the process and its `started` line."""

    async def begin(**environment):
        defaults = FREE_PORTS | {"QC_GATEWAY_URL": simulator.url, "QC_DRAIN_SECONDS": "0", "QC_GRACE_SECONDS": "2"}
        running = await start("serve", **(defaults | environment))
        return running, orjson.loads(await running.line_with('"started"'))

    return begin


async def test_sigterm_drains_serve(serving, qc):
    """Open streams end with UNAVAILABLE and a cursor, and the process ends with 0."""
    running, started = await serving()
    target = started["listen"]
    assert (await qc("sign-in", "101", "--no-password", "--phone", "1", "--target", target)).code == 0
    async with grpc.aio.insecure_channel(target) as channel:
        stub = events_pb2_grpc.InspectorEventsStub(channel)
        messages = aiter(stub.Watch(events_pb2.WatchRequest(agent_id="101"), timeout=30))
        assert (await anext(messages)).HasField("subscribed")
        running.send(signal.SIGTERM)
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await anext(messages)
    ended = await running.end()
    assert failure.value.code() is grpc.StatusCode.UNAVAILABLE
    assert ended.code == 0, ended.err
    names = [one["event"] for one in ended.objects]
    assert names.index("draining") < names.index("stopped")
    records = [orjson.loads(line)["event"] for line in ended.err.splitlines()]
    assert records == ["audit_began", "session_change", "audit_ended"]
    verified = await qc("audit", "verify", "-", "--json", given=ended.err)
    assert verified.code == 0, verified.out


async def test_nobody_can_have_serve_write_lines_without_end(serving):
    """What a stranger sends is no reason for the core of gRPC to write to standard error."""
    running, started = await serving(QC_AUDIT_LOG="off")
    port = int(started["listen"].rpartition(":")[2])
    seen = await odd_deadlines(Port("127.0.0.1", port, scale=0.03, hold_seconds=0.05))
    assert seen["ended"]
    running.send(signal.SIGTERM)
    assert (await running.end()).err == ""


async def test_ctrl_c_ends_serve_cleanly(serving):
    """By hand it ends as in the cluster."""
    running, _ = await serving()
    running.send(signal.SIGINT)
    ended = await running.end()
    assert ended.code == 0
    assert "Traceback" not in ended.out + ended.err


async def test_serve_says_that_a_port_is_taken(simulator, adapter, qc):
    """A second service on the port is no success."""
    ended = await qc(
        "serve", **(FREE_PORTS | {"QC_GATEWAY_URL": simulator.url, "QC_LISTEN": f"127.0.0.1:{adapter.port}"})
    )
    assert ended.code == 1
    assert "QC_LISTEN" in ended.err
    assert "Traceback" not in ended.err + ended.out


async def test_serve_says_that_a_certificate_is_none(simulator, qc, tmp_path):
    """It names the variables of the port that it is for, before anything starts."""
    none = tmp_path / "none.pem"
    none.write_text("none")
    push = {"QC_PUSH_LISTEN": "127.0.0.1:0", "QC_PUSH_URL": "https://adapter", "QC_PUSH_TOKEN": "canary0123456789"}
    tls = {"QC_PUSH_TLS_CERT_FILE": str(none), "QC_PUSH_TLS_KEY_FILE": str(none)}
    ended = await qc("serve", **(FREE_PORTS | {"QC_GATEWAY_URL": simulator.url} | push | tls))
    assert ended.code == 2
    assert "QC_PUSH_TLS_CERT_FILE" in ended.err
    assert "PEM" in ended.err
    assert "canary" not in ended.err + ended.out


async def test_strangers_write_nothing_to_standard_error(serving, tmp_path):
    """What is no TLS, and what trusts another CA, breaks off without a line that a stranger could repeat at will."""
    pair = Authority().issue("localhost")
    (tmp_path / "pair").write_bytes(pair.certificate + pair.key)
    tls = {name: str(tmp_path / "pair") for name in ("QC_TLS_CERT_FILE", "QC_TLS_KEY_FILE")}
    running, started = await serving(**tls, QC_AUDIT_LOG="off")
    assert (started["callers"], started["tls"]) == ("loopback_only", True)
    host, port = started["listen"].split(":")
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"\x16\x03\x01\x00\x05hello" * 9)
    with contextlib.suppress(ConnectionError):
        await reader.read()
    writer.close()
    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncio.open_connection(host, port, ssl=ssl.create_default_context())
    running.send(signal.SIGTERM)
    ended = await running.end()
    assert (ended.code, ended.err) == (0, "")


async def test_serve_warns_of_unknown_settings_only(serving):
    """A misspelt setting is told; what only callers use is none."""
    running, _ = await serving(QC_TARGET="127.0.0.1:1", QC_LOG_LEVLE="debug")
    running.send(signal.SIGTERM)
    warned = [one["detail"] for one in (await running.end()).objects if one["event"] == "setting_doubtful"]
    assert warned == ["QC_LOG_LEVLE is not a setting: did you mean QC_LOG_LEVEL?"]


async def test_check_can_try_store_and_gateway(simulator, redis_url, qc):
    """With --connect both are reached, or it is said which one is not."""
    good = await qc("check", "--connect", **FREE_PORTS, QC_GATEWAY_URL=simulator.url, QC_STORE_URL=redis_url)
    assert good.code == 0, good.out + good.err
    assert "gateway  127.0.0.1" in good.out
    nowhere = {"QC_GATEWAY_URL": "https://127.0.0.1:1", "QC_STORE_URL": "redis://127.0.0.1:1"}
    bad = await qc("check", "--connect", **FREE_PORTS, **nowhere)
    assert bad.code == 4
    assert "2 problems" in bad.err
    assert "gateway  cannot be connected to" in bad.out
    assert "store  the session store cannot be reached" in bad.out
    assert "  problem: check the port in QC_GATEWAY_URL" in bad.out


async def test_colours_are_for_terminals_only(script):
    """A terminal gets colours, unless NO_COLOR is set."""
    shown = []
    for extra in ({}, {"NO_COLOR": "1"}):
        ours, theirs = pty.openpty()
        environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
        process = await asyncio.create_subprocess_exec(
            script,
            "explain",
            "0",
            stdout=theirs,
            stderr=subprocess.DEVNULL,
            env=environment | {"TERM": "xterm"} | extra,
        )
        await process.wait()
        os.close(theirs)
        shown.append(_read_all(ours))
    assert b"\x1b[" in shown[0]
    assert b"\x1b[3" not in shown[1]


def _read_all(descriptor):
    found = b""
    try:
        while part := os.read(descriptor, 65536):
            found += part
    except OSError:
        return found  # the other side of the terminal is closed
    finally:
        os.close(descriptor)
    return found


async def test_simulate_says_what_it_offers(start):
    """Its curl lines work as they stand, and Ctrl-C ends it with 0."""
    running = await start("simulate", "--listen", "127.0.0.1:0", "--seed", "1")
    url = (await running.line_with("CC-Gateway simulator on")).split()[-1]
    async with aiohttp.ClientSession() as http, http.get(f"{url}/simulator") as reply:
        assert "POST /simulator/calls" in await reply.json()
    running.send(signal.SIGINT)
    ended = await running.end()
    assert ended.code == 0
    assert f"curl -s -X PUT {url}/agentgateway/resource/qualitycontrol/101/intercept/292" in ended.out
    assert ended.err == "Ctrl-C ends it.\n"


async def test_simulate_takes_a_scenario_and_switches(start, tmp_path):
    """What the file says is there at once; TLS has a certificate that can be trusted."""
    scenario, certificate = tmp_path / "s.json", tmp_path / "ca.pem"
    scenario.write_bytes(orjson.dumps({"agents": [{"agent_id": "333", "inspector": False}]}))
    running = await start(
        *("simulate", "--listen", "127.0.0.1:0", "--tls-port", "0", "--save-certificate", str(certificate)),
        *("--scenario", str(scenario), "--set", "event_time=true", "--no-recording"),
    )
    url = (await running.line_with("CC-Gateway simulator on")).split()[-1]
    assert url.startswith("https://")
    trust = ssl.create_default_context(cafile=certificate)
    async with aiohttp.ClientSession() as http, http.get(f"{url}/simulator/state", ssl=trust) as reply:
        assert (await reply.json())["agents"]["333"]["inspector"] is False
    running.send(signal.SIGTERM)
    assert (await running.end()).code == 0


async def test_simulate_runs_a_busy_call_centre(start):
    """It says what is going on, line by line, when it is asked to."""
    running = await start(
        *("simulate", "--listen", "127.0.0.1:0", "--agents", "50", "--calls-per-minute", "6000", "--nodes", "2"),
        *("--watch-seconds", "0.1", "--seed", "1"),
    )
    assert "20001 to 20050" in await running.line_with("work by themselves, with 6000 calls a minute")
    assert "requests/s" in await running.line_with("talking | ")
    running.send(signal.SIGINT)
    assert (await running.end()).code == 0


async def test_the_demo_tells_the_whole_story(qc):
    """From sign-in to metrics, with status 0."""
    ended = await qc("demo")
    assert ended.code == 0, ended.err
    for said in (
        "accepted",
        "AgentEvent_Talking",
        "AgentMediaEvent_Record",
        "CONFIRMED",
        '"method":"intercept"',
        'qc_requests_total{code="OK",gateway="default",method="intercept"} 1.0',
        "WRONG_INSPECTION_STATE",
        "intercepted 292 since",
        "by AgentState_SetRest_Success of agent 293",
        "for this machine only",
    ):
        assert said in ended.out
    assert ended.err == ""


async def test_the_demo_goes_round_ports_that_are_taken(start, qc):
    """With every usual port busy it takes free ones, keeps running, and Ctrl-C ends it."""
    taken = [hold(port) for port in (8043, 50051, 8080)]
    try:
        running = await start("demo", "--keep")
        target = (await running.line_with("adapter, gRPC")).split()[-1]
        assert target != "127.0.0.1:50051"
        await running.line_with("It keeps running")
        assert (await qc("sessions", "101", "--json", "--target", target)).objects[0]["agentId"] == "101"
        running.send(signal.SIGINT)
        ended = await running.end()
    finally:
        for one in taken:
            one.close()
    assert ended.code == 0
    assert ended.err == "ended\n"


def hold(port):
    """Listen on a port, unless somebody else does so already."""
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    with contextlib.suppress(OSError):
        holder.bind(("127.0.0.1", port))
        holder.listen()
    return holder


async def test_demo_serve_is_a_service_with_a_gateway(start, qc):
    """What `make run` starts serves calls, logs JSON, and ends with 0."""
    running = await start("demo", "--serve")
    target = orjson.loads(await running.line_with('"started"'))["listen"]
    assert (await qc("sign-in", "101", "--no-password", "--phone", "1", "--target", target)).code == 0
    running.send(signal.SIGINT)
    ended = await running.end()
    assert ended.code == 0
    assert {"started", "signed_in", "draining", "stopped"} <= {one["event"] for one in ended.objects}
    assert "qc-adapter intercept 101 292" in ended.err
    assert "Traceback" not in ended.err


async def test_a_reader_that_goes_away_is_no_defect(script):
    """`qc-adapter explain --all | head -1` prints no complaint."""
    ours, theirs = os.pipe()
    os.close(ours)
    process = await asyncio.create_subprocess_exec(
        script, "explain", "--all", "--json", stdout=theirs, stderr=subprocess.PIPE
    )
    os.close(theirs)
    _, err = await process.communicate()
    assert process.returncode == 1
    assert err == b""


async def test_serve_collects_garbage_rarely(serving, qc):
    """A hundred streams make more objects than Python's own thresholds let pass without a look; here there is none."""
    _, started = await serving()
    target, pages = started["listen"], f"http://127.0.0.1:{started['ops_port']}/metrics"
    assert (await qc("sign-in", "101", "--no-password", "--phone", "1", "--target", target)).code == 0

    async def looks():
        async with aiohttp.ClientSession() as http, http.get(pages) as page:
            lines = (await page.text()).splitlines()
        [line] = [one for one in lines if one.startswith('python_gc_collections_total{generation="0"}')]
        return float(line.split()[1])

    before = await looks()
    async with grpc.aio.insecure_channel(target) as channel:
        stub = events_pb2_grpc.InspectorEventsStub(channel)
        streams = [aiter(stub.Watch(events_pb2.WatchRequest(agent_id="101"), timeout=30)) for _ in range(100)]
        await asyncio.gather(*map(anext, streams))
        assert await looks() <= before + 1
