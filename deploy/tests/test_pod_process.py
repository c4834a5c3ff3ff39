"""What the pods of the overlays would run, run here: the rendered settings, probes and times, hosts replaced."""

from __future__ import annotations

import asyncio
import json

import grpc
import pytest
import trustme

from bench.ports import free_port
from bench.redis_server import RedisServer
from deploy.tests.manifests import overlay, together
from deploy.tests.pod import running
from deploy.tests.settings_in_files import with_files
from qc_adapter.simulator import Simulator, SimulatorSettings
from qc_adapter.v1 import events_pb2, events_pb2_grpc, sessions_pb2, sessions_pb2_grpc
from qc_adapter.v1 import quality_control_pb2 as qc
from qc_adapter.v1 import quality_control_pb2_grpc as qc_grpc
from tests.support.tokens import KeyServer, ec_key, jwk, key_set, token

PROBES = ("startupProbe", "livenessProbe", "readinessProbe")


def local(gateway_url, store_url):
    """What the container of the local overlay starts."""
    manifests = overlay("local")
    environment = dict(manifests.environment)
    assert environment["QC_GATEWAY_URL"] == "http://simulator:8043"
    assert environment["QC_STORE_URL"] == "redis://redis:6379/0"
    return running(manifests, environment | {"QC_GATEWAY_URL": gateway_url, "QC_STORE_URL": store_url})


@pytest.fixture
def store_url(tmp_path):
    """A Redis of the test's own."""
    server = RedisServer(tmp_path)
    server.start()
    yield server.url
    server.stop()


async def sign_in(channel):
    """Sign inspector 101 in."""
    request = sessions_pb2.SignInRequest(agent_id="101", password="x", phone_number="40101")
    await sessions_pb2_grpc.InspectorSessionsStub(channel).SignIn(request, timeout=20)


async def read_to_the_end(stream):
    """Read until the stream ends."""
    while await stream.read() is not grpc.aio.EOF:
        pass


@pytest.mark.timeout(120)
async def test_sigterm_during_calls_ends_in_time_with_0(store_url):
    """Probes answer; after SIGTERM the pod is alive but not ready, a command still works, then streams are told."""
    settings = SimulatorSettings(port=0, poll_hold_seconds=10.0)
    async with Simulator(settings) as simulator, local(simulator.url, store_url) as pod:
        await pod.becomes("readinessProbe", 200)
        assert [await pod.probed(probe) for probe in PROBES] == [200, 200, 200]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{pod.ports['grpc']}") as channel:
            await sign_in(channel)
            watch = events_pb2_grpc.InspectorEventsStub(channel).Watch(events_pb2.WatchRequest(agent_id="101"))
            assert (await watch.read()).HasField("subscribed")
            ending = asyncio.create_task(pod.ended())
            await pod.becomes("readinessProbe", 503)
            assert await pod.probed("livenessProbe") == 200
            simulator.start_call("292")
            request = qc.ListenRequest(agent_id="101", work_no="292")
            request.options.follow = qc.FOLLOW_NONE
            updates = [one async for one in qc_grpc.QualityControlStub(channel).Listen(request, timeout=20)]
            assert updates[0].HasField("accepted")
            with pytest.raises(grpc.aio.AioRpcError) as told:
                await read_to_the_end(watch)
            assert told.value.code() is grpc.StatusCode.UNAVAILABLE
            status, lines, records = await ending
        assert not simulator.record.sign_outs
        assert (await pod.typed("audit", "verify", "-", given=records))[0] == 0
    assert status == 0
    assert lines[-1]["event"] == "stopped"


@pytest.mark.timeout(120)
async def test_a_gateway_that_is_away_takes_no_pod_out_of_service(store_url):
    """Calls are to get a clear answer, so the probe is content where the page for people is not; the end is 0 too."""
    async with local(f"http://127.0.0.1:{free_port()}", store_url) as pod:
        await pod.becomes("readinessProbe", 200)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{pod.ports['grpc']}") as channel:
            with pytest.raises(grpc.aio.AioRpcError) as told:
                await sign_in(channel)
        assert told.value.code() is grpc.StatusCode.UNAVAILABLE
        assert (await pod.status("/readyz"), await pod.probed("readinessProbe")) == (503, 200)
        status, lines, _ = await pod.ended()
    assert status == 0
    assert lines[-1]["event"] == "stopped"


class Site:
    """The files that are mounted into a pod with mutual TLS and the site's own policy, and the pod's variables."""

    def __init__(self, manifests, folder, store_url, **more):
        self.manifests = manifests
        self.ca = trustme.CA()
        server = self.ca.issue_cert(*manifests.get("Certificate", "qc-adapter")["spec"]["dnsNames"])
        self.policy_text = manifests.get("ConfigMap", "qc-adapter-policy")["data"]["policy.yaml"]
        given = {
            "store-url": store_url.encode(),
            "policy.yaml": self.policy_text.encode(),
            "ca.crt": self.ca.cert_pem.bytes(),
            "tls.crt": b"".join(one.bytes() for one in server.cert_chain_pems),
            "tls.key": server.private_key_pem.bytes(),
        }
        self.folder = folder
        self.environment = with_files(manifests.environment, folder, given | more)

    def _pair(self, name):
        pair = self.ca.issue_cert(name)
        certificate, key = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        pair.cert_chain_pems[0].write_to_path(certificate)
        pair.private_key_pem.write_to_path(key)
        return str(certificate), str(key)

    def caller(self, name):
        """Another caller of the same authority, as the variables of its commands."""
        return dict(zip(("QC_CERT_FILE", "QC_KEY_FILE"), self._pair(name), strict=True))

    def gateway(self):
        """A gateway whose certificate the mounted CA signed."""
        certificate, key = self._pair("127.0.0.1")
        return Simulator(SimulatorSettings(port=0, tls_port=0, tls_cert_file=certificate, tls_key_file=key))

    def allow(self, name):
        """Give a caller the rights of the pod, as somebody does who edits the ConfigMap."""
        text = self.policy_text.replace('["dns:qc-adapter.qc-adapter"', f'["dns:{name}", "dns:qc-adapter.qc-adapter"')
        assert text != self.policy_text
        path = self.folder / "new policy"
        path.write_text(text)
        path.replace(self.environment["QC_POLICY_FILE"])


@pytest.mark.timeout(120)
async def test_a_production_pod_knows_its_callers_and_keeps_a_record(store_url, tmp_path):
    """Commands in the pod work, a caller without a rule is refused until it gets one, and the record is whole."""
    site = Site(overlay("production"), tmp_path, store_url)
    desk = site.caller("desk.example")
    async with site.gateway() as simulator:
        gateway = {"QC_GATEWAY_URL": simulator.tls_url}
        environment = site.environment | gateway | {"QC_RELOAD_SECONDS": "0.2"}
        async with running(site.manifests, environment, grpc_host="0.0.0.0") as pod:
            await pod.becomes("readinessProbe", 200)
            code, _, why = await pod.typed("sign-in", "101", "--no-password", "--phone", "40101")
            assert (code, why) == (0, "")
            code, _, why = await pod.typed("sessions", **desk)
            assert (code, "CALLER_NOT_ALLOWED" in why) == (3, True)
            code, _, why = await pod.typed("sessions", QC_CERT_FILE="", QC_KEY_FILE="")
            assert (code, "--cert-file" in why) == (4, True)
            site.allow("desk.example")
            async with asyncio.timeout(30):
                while (await pod.typed("sessions", "101", **desk))[0] != 0:
                    pass
            status, lines, records = await pod.ended()
        assert (await pod.typed("audit", "verify", "-", given=records))[0] == 0
        assert (await pod.typed("audit", "verify", "-", given=records.replace(b"desk", b"disk")))[0] == 7
    [started] = [one for one in lines if one["event"] == "started"]
    assert (started["callers"], started["policy"], started["audit"]) == ("mutual_tls", True, "stderr")
    assert not [one for one in lines if one["event"] == "setting_doubtful"]
    recorded = [json.loads(one) for one in records.splitlines()]
    assert [(one["caller"], one["rpc"], one["outcome"]) for one in recorded if "rpc" in one][:2] == [
        ("dns:qc-adapter.qc-adapter", "SignIn", "done"),
        ("dns:desk.example", "List", "refused"),
    ]
    assert status == 0


@pytest.mark.timeout(120)
async def test_a_pod_with_tokens_alone_takes_its_own(store_url, tmp_path):
    """With the component tokens and no client CA commands in the pod show the pod's token, and nobody needs another."""
    manifests = together(tmp_path, "mutual-tls", "policy", "tokens", "gateway-ca")
    issuer, audience = (manifests.environment[f"QC_JWT_{name}"] for name in ("ISSUER", "AUDIENCE"))
    key, keys = ec_key(), KeyServer()
    keys.body = key_set(jwk(key))
    own = token(key, iss=issuer, aud=[audience], sub="system:serviceaccount:qc-adapter:qc-adapter")
    site = Site(manifests, tmp_path, store_url, **{"pod-token": own.encode()})
    await keys.start(site.ca.issue_cert("localhost"))
    try:
        async with site.gateway() as simulator:
            environment = site.environment | {
                "QC_GATEWAY_URL": simulator.tls_url,
                "QC_JWT_JWKS_URL": f"https://localhost:{keys.port}/openid/v1/jwks",
                "QC_TLS_CLIENT_CA_FILE": "",
            }
            async with running(manifests, environment, grpc_host="0.0.0.0") as pod:
                await pod.becomes("readinessProbe", 200)
                assert (await pod.typed("sessions"))[0] == 0
                code, _, why = await pod.typed("sessions", QC_TOKEN_FILE="")
                assert (code, "show a token" in why) == (3, True)
                _, lines, _ = await pod.ended()
    finally:
        await keys.stop()
    assert keys.shown == ["Bearer a token of the cluster"]
    [started] = [one for one in lines if one["event"] == "started"]
    assert started["callers"] == "tokens"
