"""A whole site of real processes in which secrets are planted, and everything that comes out of it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import secrets
import sys
import threading
from pathlib import Path
from urllib.parse import quote

import aiohttp
import grpc
import orjson
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from bench.ports import free_port
from bench.redis_server import RedisServer
from qc_adapter.store.seal import new_key
from qc_adapter.v1 import (
    events_pb2_grpc,
    quality_control_pb2_grpc,
    sessions_pb2_grpc,
)
from tests.support.canary import Canaries
from tests.support.certificates import Authority, as_caller
from tests.support.collector import Collector
from tests.support.opening import simulated
from tests.support.scripted import ScriptedGateway, reply
from tests.support.tokens import AUDIENCE, DESK, ISSUER, ec_key, jwk, key_set, token
from tests.support.wire import Wire

#: The service with a defect: a handler fails, with all that it knows in its words and in its hands.
_DEFECTIVE = """
import sys
from qc_adapter.cli import main
from qc_adapter.sessions.service import SessionService
adopt = SessionService.adopt
async def defective(self, agent_id, guid, source):
    if agent_id == "109":
        raise RuntimeError(f"cannot use {guid!r}, guid={guid.reveal()}") from KeyError(guid.reveal())
    return await adopt(self, agent_id, guid, source)
SessionService.adopt = defective
sys.argv[0] = "qc-adapter"
sys.exit(main())
"""
POLICY = """
version: 1
callers:
  desk:
    identities: ["jwt:%s"]
    allow: [{methods: [QualityControl, InspectorSessions, InspectorEvents], inspectors: all, targets: all}]
"""


#: What another system writes itself is in its own command, and lies in plain text until it is read for.
_STRANGER = b"HSET qc:session:106"


def _dump(client):
    """All keys and values of a Redis, its slow commands and its clients."""
    readers = {b"string": client.get, b"hash": client.hgetall, b"set": client.smembers, b"stream": client.xrange}
    readers[b"zset"] = lambda key: client.zrange(key, 0, -1, withscores=True)
    slow = [one for one in client.slowlog_get(10_000) if _STRANGER not in one["command"]]
    found = [slow, client.client_list()]
    for key in client.keys("*"):
        found += [key, readers[client.type(key)](key)]
    # Bytes in a repr would hide what is not ASCII behind escapes; nothing planted is.
    return repr(found).encode()


class EchoingGateway(ScriptedGateway):
    """A gateway that repeats in every answer all that it was told, and is wrong in a new way each time."""

    guid = f"{secrets.token_hex(24)}.AgentGateway7"
    cookie = f"cookiecanary{secrets.token_hex(12)}"

    async def _next(self, heard):
        if heard.verb == "PUT" and ("/login" in heard.target or heard.target.count("/") == 4):
            signed_in = [("Set-Cookie", f"route={self.cookie}; Path=/"), ("Set-GUID", f"JSESSIONID={self.guid}")]
            return reply(b'{"message":"","retcode":"0","result":{}}', headers=signed_in)
        told = f"{heard.headers} {heard.body.decode()} JSESSIONID={self.guid}"
        guid, cookie = self.guid.encode(), self.cookie.encode()
        short = (
            f"session {self.guid}", f"no {self.cookie} here", self.cookie.upper(), f"in {guid.hex()} and on",
            base64.b64encode(guid).decode(), f"%22{self.cookie}%22", base64.b64encode(b"." + cookie).decode(),
        )[len(self.heard) % 7]  # fmt: skip
        said = orjson.dumps({"message": short, "retcode": "900-003", "result": told})
        ways = [
            said,
            orjson.dumps({"message": told, "retcode": told[-60:]}),
            f"<html>{told}</html>".encode(),
            f'{{"message":"{told}'.encode(),
            told.encode(),
        ]
        if heard.verb == "GET":
            await asyncio.sleep(0.2)  # polls are answered all the time
        turn = len(self.heard)
        if turn % 7 == 0:
            return self.RESET
        head = [("X-Told", quote(told)), ("Location", f"/login?guid={heard.header('guid')}")]
        status = ("200 OK", "500 Internal Server Error", "302 Found", "200 OK", "403 Forbidden")[turn // 5 % 5]
        return reply(ways[turn % 5], status=status, headers=head)


class Premises:
    """The processes, what is planted in them, and what they emit."""

    def __init__(self, directory):
        self.directory = directory
        self.home = directory / "home"
        self.out = directory / "out"
        for made in (self.home, self.out, directory / "redis"):
            made.mkdir()
        self.password, self.forged = f"pwcanary{secrets.token_hex(12)}", f"eyJcanary.{secrets.token_hex(24)}.sig"
        key, self.authority = ec_key(), Authority()
        self.token = token(key)
        ours, theirs = self.authority.issue("localhost"), self.authority.issue("dns-of-a-caller.example")
        self.credentials = as_caller(self.authority, theirs)
        self.push_token, self.seal_key = f"pushcanary{secrets.token_hex(12)}", new_key().reveal()
        self.redis = RedisServer(directory / "redis", password=f"storecanary{secrets.token_hex(12)}")
        self.adopted = f"{secrets.token_hex(24)}.AgentGateway3"
        audit_key, header = f"auditcanary{secrets.token_hex(24)}", f"headercanary{secrets.token_hex(12)}"
        self.odd, self.collector, self.wire = EchoingGateway(), Collector(), Wire()
        self.canaries = Canaries(
            password=self.password, token=self.token.rpartition(".")[2], forged=self.forged,
            push_token=self.push_token, seal_key=self.seal_key,
            store_password=self.redis.url.split(":")[2].split("@")[0], audit_key=audit_key, traces_header=header,
            guid=self.adopted, odd_guid=self.odd.guid, odd_cookie=self.odd.cookie,
            **{f"line {number} of the key": line for number, line in enumerate(ours.key.decode().splitlines()[1:-1])},
        )  # fmt: skip
        files = {"cert": ours.certificate, "key": ours.key, "ca": self.authority.pem, "keys": key_set(jwk(key))}
        files["policy"] = (POLICY % DESK).encode()
        for name, content in files.items():
            (directory / name).write_bytes(content)
        self.environment = {
            "QC_AUDIT_KEY": audit_key, "QC_PUSH_TOKEN": self.push_token, "QC_SEAL_KEYS": self.seal_key,
            "OTEL_EXPORTER_OTLP_HEADERS": f"api-key={header}", "OTEL_BSP_SCHEDULE_DELAY": "10",
            "QC_LOG_LEVEL": "debug", "QC_LISTEN": "127.0.0.1:0", "QC_OPS_LISTEN": "127.0.0.1:0",
            "QC_GATEWAYS": "odd", "QC_POLL_HOLD_SECONDS": "1", "QC_POLL_PAUSE_SECONDS": "0.05",
            "QC_GATEWAY_TIMEOUT_SECONDS": "2", "QC_CONFIRM_WITHIN_SECONDS": "0.2", "QC_DRAIN_SECONDS": "0",
            "QC_GRACE_SECONDS": "2", "QC_TLS_CERT_FILE": f"{directory}/cert", "QC_TLS_KEY_FILE": f"{directory}/key",
            "QC_TLS_CLIENT_CA_FILE": f"{directory}/ca", "QC_JWT_ISSUER": ISSUER, "QC_JWT_AUDIENCE": AUDIENCE,
            "QC_JWT_JWKS_FILE": f"{directory}/keys", "QC_POLICY_FILE": f"{directory}/policy",
        }  # fmt: skip
        #: What callers were told, by rpc.
        self.told = []
        self.places = {}
        self._monitored = []

    async def open(self, stack):
        """Start everything but the adapter."""
        self.redis.start()
        stack.callback(self.redis.stop)
        self.simulator = await stack.enter_async_context(simulated())
        await self.wire.start(int(self.simulator.url.rsplit(":", 1)[1]))
        stack.push_async_callback(self.wire.refuse)
        await self.odd.start()
        stack.push_async_callback(self.odd.stop)
        self.collector.start()
        stack.callback(self.collector.stop)
        port = free_port()
        self.push_url = f"http://127.0.0.1:{port}/events"
        self.environment |= {
            "QC_STORE_URL": self.redis.url, "QC_GATEWAY_URL": self.wire.url, "QC_GATEWAY_ODD_URL": self.odd.url,
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.collector.url, "QC_PUSH_LISTEN": f"127.0.0.1:{port}",
            "QC_PUSH_URL": self.push_url,
        }  # fmt: skip

    def listen_in(self):
        """Keep every command that Redis is sent from now on, also those in scripts."""
        with self.redis.client() as client:
            client.config_set("slowlog-log-slower-than", 0)
            client.config_set("slowlog-max-len", 10_000)

        def listen():
            # A server that goes away ends it.
            ends = (RedisConnectionError, OSError)
            with contextlib.suppress(*ends), self.redis.client() as client, client.monitor() as monitor:
                while True:
                    told = monitor.connection.read_response()
                    if _STRANGER not in told.replace(b'"', b""):
                        self._monitored.append(told)

        threading.Thread(target=listen, daemon=True).start()

    def look_into_redis(self, name):
        """Search what stands in Redis now, and what it was sent."""
        with self.redis.client() as client:
            self.places[f"redis {name}"] = _dump(client)

    async def serve(self, stack, **environment):
        """Start the adapter and return when it serves."""
        self.process = await self._begin("serve", "serve", environment)
        stack.push_async_callback(self.kill)
        log = self.out / "serve.out"
        async with asyncio.timeout(30):
            while b'"event":"started"' not in log.read_bytes():
                assert self.process.returncode is None, log.read_text()
                await asyncio.sleep(0.02)
        started = next(line for line in map(orjson.loads, log.read_bytes().splitlines()) if line["event"] == "started")
        self.ops = f"http://127.0.0.1:{started['ops_port']}"
        self._look_at_process()
        address = f"localhost:{started['listen'].rpartition(':')[2]}"
        self.channel = await stack.enter_async_context(grpc.aio.secure_channel(address, self.credentials))
        self.commands = quality_control_pb2_grpc.QualityControlStub(self.channel)
        self.sessions = sessions_pb2_grpc.InspectorSessionsStub(self.channel)
        self.events = events_pb2_grpc.InspectorEventsStub(self.channel)

    def _look_at_process(self):
        process = Path(f"/proc/{self.process.pid}")
        self.places["process arguments"] = (process / "cmdline").read_bytes()

    async def run(self, *arguments, **environment):
        """Run a command to its end; what it prints is searched."""
        process = await self._begin(arguments[0], *arguments, environment=environment)
        async with asyncio.timeout(30):
            return await process.wait()

    async def _begin(self, name, *arguments, environment=None):
        if environment is None:
            *arguments, environment = arguments
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("QC_", "OTEL_"))}
        with (self.out / f"{name}.out").open("ab") as out, (self.out / f"{name}.err").open("ab") as err:
            return await asyncio.create_subprocess_exec(
                sys.executable, "-c", _DEFECTIVE, *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=out, stderr=err,
                cwd=self.home, env=kept | self.environment | environment,
            )  # fmt: skip

    async def kill(self):
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    def metadata(self):
        """What a caller with a token sends along."""
        return (("authorization", f"Bearer {self.token}"), ("x-canary", self.forged))

    async def call(
        self, method, request, *, timeout=10, messages=100, shown=None  # noqa: ASYNC109 - the caller's deadline
    ):  # fmt: skip
        """Call, read so many messages, and keep all that was told; returns the status code."""
        call = method(request, timeout=timeout, metadata=self.metadata() if shown is None else shown)
        code = grpc.StatusCode.OK
        try:
            if isinstance(call, grpc.aio.UnaryStreamCall):
                for _ in range(messages):
                    message = await call.read()
                    if message is grpc.aio.EOF:
                        break
                    self.told.append(message.SerializeToString())
                call.cancel()
            else:
                self.told.append((await call).SerializeToString())
        except grpc.aio.AioRpcError as error:
            code = error.code()
            self.told += [repr(error).encode(), repr(error.trailing_metadata()).encode()]
            self.told += [value for _, value in error.trailing_metadata() or () if isinstance(value, bytes)]
        return code

    async def page(self, path, **headers):
        """Search a page of the ops port."""
        async with aiohttp.ClientSession() as client, client.get(self.ops + path, headers=headers) as answer:
            self.places[f"ops {path} {' '.join(headers.values())} {len(self.places)}"] = await answer.read()

    async def push(self, token, body):
        """Push as a gateway does; what is answered is searched."""
        headers = {"serviceToken": token, "Authorization": f"Bearer {token}"}
        async with aiohttp.ClientSession() as client, client.post(self.push_url, data=body, headers=headers) as answer:
            self.told.append(await answer.read())
            return answer.status

    def emitted(self):
        """Everything that came out, by where; whoever adds a way out adds it here, or to `places` before."""
        for value in self.wire.secrets:
            self.canaries.plant("crossed the wire", value)
        places = dict(self.places)
        places |= {f"output {path.name}": path.read_bytes() for path in self.out.iterdir()}
        places |= {f"file {path}": path.read_bytes() for path in self.home.rglob("*") if path.is_file()}
        places["file names"] = repr(list(self.home.rglob("*"))).encode()
        places["replies and errors"] = b"\n".join(self.told)
        places["traces"] = self.collector.raw
        places["redis monitor"] = repr(self._monitored).encode()
        return places


@pytest.fixture
async def premises(tmp_path):
    """The premises without an adapter, and a stack that closes them."""
    async with contextlib.AsyncExitStack() as stack:
        made = Premises(tmp_path)
        made.stack = stack
        await made.open(stack)
        yield made
