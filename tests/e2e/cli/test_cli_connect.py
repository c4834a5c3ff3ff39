"""What `check --connect` finds out about a deployment, and what it says to change."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import ssl
from datetime import UTC, datetime, timedelta

import pytest
import trustme

from bench.redis_server import RedisServer
from qc_adapter.cli.connect.around import look_around
from qc_adapter.cli.connect.findings import Level, connected
from qc_adapter.model.session import Secret, Session
from qc_adapter.sessions.records import Records
from qc_adapter.sessions.redis import RedisSessionStore
from qc_adapter.settings import read_settings
from qc_adapter.simulator import Fault
from qc_adapter.store.opening import open_link
from qc_adapter.store.seal import Seal, new_key
from tests.support.certificates import DAY, Authority
from tests.support.scripted import ScriptedGateway

OWN = {"QC_LISTEN": "127.0.0.1:0", "QC_OPS_LISTEN": "127.0.0.1:0"}
NOWHERE = "http://127.0.0.1:1"
#: No name server is asked for it.
NO_NAME = "gateway..example"


@pytest.fixture
def look():
    """A function that looks around with settings, and returns what was found of one part."""

    async def found(part, **environment):
        settings = read_settings(OWN | {"QC_GATEWAY_URL": NOWHERE} | environment)
        return [finding for finding in await look_around(settings) if finding.part == part]

    return found


def worst(findings):
    """The one thing that is not well."""
    [finding] = [one for one in findings if one.level is not Level.GOOD]
    assert finding.change
    return finding


@pytest.fixture(scope="module")
def authority():
    return trustme.CA(organization_name="Call centre CA")


@pytest.fixture
def ca_file(authority, tmp_path):
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return str(tmp_path / "ca.pem")


@pytest.fixture
async def plain_gateway():
    """A gateway without TLS."""
    gateway = ScriptedGateway()
    await gateway.start()
    yield gateway
    await gateway.stop()


@pytest.fixture
async def tls_gateway(authority):
    """A function that starts a gateway with a certificate for those names."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(*names, **more):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            authority.issue_cert(*names, **more).configure_cert(context)
            gateway = ScriptedGateway(tls=context)
            await gateway.start()
            stack.push_async_callback(gateway.stop)
            return gateway

        yield start


# --- the gateway


async def test_a_gateway_is_known_by_its_retcode(look, simulator):
    """It answers with one even to whom it refuses; no inspector is named, and nobody's silence is interrupted."""
    found = await look("gateway", QC_GATEWAY_URL=simulator.url)
    assert [one.level for one in found] == [Level.GOOD, Level.GOOD]
    assert "a CC-Gateway answers" in found[-1].text
    [request] = simulator.requests("getAgentStatus")
    assert simulator.record.received == 1
    assert (request.operation, request.agent_id, request.guid, request.executed) == (
        "getAgentStatus", "100", "unchecked", False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("fault", "says", "change"),
    [
        ({"action": "html", "status": 403}, "HTTP 403", "allow list"),
        ({"action": "html", "status": 404}, "no CC-Gateway at that path", "QC_GATEWAY_URL to host and port"),
        ({"action": "html", "status": 200}, "is no CC-Gateway", "another web server"),
        ({"action": "html", "status": 502}, "HTTP 502", "gateway looked at"),
        ({"action": "empty200"}, "empty body", "another web server"),
        ({"action": "foreign_json", "body": {"status": "UP"}}, "no retcode", "another web server"),
        ({"action": "redirect", "location": "https://portal.example/login?secret=1"}, "to portal.example", "portal"),
        ({"action": "reset_before"}, "reset", "the gateway itself"),
    ],
    ids=lambda value: "-".join(map(str, value.values()))[:20] if isinstance(value, dict) else "",
)
async def test_what_is_no_gateway_is_told(look, simulator, fault, says, change):
    """Whatever else answers there is named, with what to change; a page is not quoted."""
    simulator.add_fault(Fault(**fault))
    finding = worst(await look("gateway", QC_GATEWAY_URL=simulator.url))
    assert finding.level is Level.PROBLEM
    assert says in finding.text
    assert change in finding.change
    assert "secret" not in finding.text


@pytest.mark.parametrize(
    ("head", "level", "says"),
    [
        (b"302 Found\r\nLocation: http://[", Level.PROBLEM, "HTTP 302 sends the request elsewhere"),
        (b"200 OK\r\nDate: Mon, 01 Jan 99999999999999999999 00:00:00 GMT", Level.GOOD, "a CC-Gateway answers"),
    ],
    ids=["location", "date"],
)
async def test_a_header_that_nobody_can_read_is_no_defect_of_the_check(look, head, level, says):
    """What a header says amiss is passed over, and the verdict on the gateway stands."""
    body = b'{"retcode": "100-006"}'

    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 " + head + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        found = await look("gateway", QC_GATEWAY_URL=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    assert (found[-1].level, len(found)) == (level, 2)
    assert says in found[-1].text


async def test_an_address_that_drops_packets_does_not_hide_the_next_one(monkeypatch):
    """A host with several addresses, or of both IP versions, is reached by the one that answers, as by serve."""
    monkeypatch.setattr("qc_adapter.cli.connect.findings._ADDRESS_SECONDS", 0.05)
    with contextlib.ExitStack() as stack:
        deaf = stack.enter_context(socket.socket())
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for _ in range(4):  # its queue is full: what comes now is dropped, and nobody is told
            filling = stack.enter_context(socket.socket())
            filling.setblocking(False)
            filling.connect_ex(deaf.getsockname())
        good = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        addresses = [(socket.AF_INET, one.getsockname()) for one in (deaf, good)]
        async with asyncio.timeout(5):
            stack.enter_context(made := await connected(addresses))
        assert made.getpeername() == good.getsockname()


async def test_a_gateway_that_does_not_answer_is_not_waited_for(look, simulator, monkeypatch):
    """The look ends in time, and says at what."""
    monkeypatch.setattr("qc_adapter.cli.connect.findings.LOOK_SECONDS", 0.3)
    simulator.add_fault(Fault("hang", operation="getAgentStatus"))
    finding = worst(await look("gateway", QC_GATEWAY_URL=simulator.url))
    assert finding.text == "an HTTP request: no answer within 0.3 s"
    assert "QC_GATEWAY_URL" in finding.change


async def test_a_handshake_that_hangs_is_not_waited_for(look, monkeypatch):
    """What takes connections and says nothing speaks something else, or is stuck."""
    monkeypatch.setattr("qc_adapter.cli.connect.findings.LOOK_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        finding = worst(await look("gateway", QC_GATEWAY_URL=f"https://127.0.0.1:{silent.getsockname()[1]}"))
    assert "the TLS handshake" in finding.text
    assert "no answer within 1 s" in finding.text


async def test_a_store_whose_tls_does_not_fit_is_told(look, tls_gateway):
    """What is wrong with TLS is said as such, and not by the number that it has for the operating system."""
    port = (await tls_gateway("127.0.0.1")).url.rpartition(":")[2]
    finding = worst(await look("store", QC_STORE_URL=f"rediss://127.0.0.1:{port}/0"))
    assert "its certificate is not trusted: unable to get local issuer certificate" in finding.text
    assert "?ca_file=" in finding.change

    async def no_tls(reader, writer):
        await reader.read(1)
        writer.write(b"-ERR Protocol error\r\n")
        writer.close()

    server = await asyncio.start_server(no_tls, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        finding = worst(await look("store", QC_STORE_URL=f"rediss://127.0.0.1:{port}/0"))
    assert "the TLS handshake failed: " in finding.text
    assert "redis://" in finding.change


@pytest.mark.parametrize(
    ("url", "says", "change"),
    [(NOWHERE, "Connection refused", "check the port"), (f"https://{NO_NAME}", "does not resolve", "check the host")],
)
async def test_a_gateway_that_cannot_be_reached_is_told(look, url, says, change):
    """A wrong port and a wrong name are told apart."""
    finding = worst(await look("gateway", QC_GATEWAY_URL=url))
    assert finding.level is Level.PROBLEM
    assert says in finding.text
    assert change in finding.change


async def test_a_trusted_gateway_is_told_with_its_end(look, tls_gateway, ca_file):
    """Authority and name fit: how long the certificate lasts is told."""
    gateway = await tls_gateway("127.0.0.1")
    found = await look("gateway", QC_GATEWAY_URL=gateway.url, QC_GATEWAY_CA_FILE=ca_file)
    assert {one.level for one in found} == {Level.GOOD}
    assert any("certificate ends in" in one.text for one in found)
    assert len(gateway.heard) == 1


async def test_a_certificate_that_ends_soon_is_a_warning(look, tls_gateway, ca_file):
    """Three weeks are left to renew it, and the rest is still looked at."""
    gateway = await tls_gateway("127.0.0.1", not_after=datetime.now(UTC) + timedelta(days=10, hours=1))
    finding = worst(await look("gateway", QC_GATEWAY_URL=gateway.url, QC_GATEWAY_CA_FILE=ca_file))
    assert (finding.level, finding.text) == (Level.WARNING, "the gateway's certificate ends in 10 days")
    assert len(gateway.heard) == 1


@pytest.mark.parametrize(
    ("names", "more", "trusted", "says", "change"),
    [
        (["127.0.0.1"], {}, False, "not trusted", "QC_GATEWAY_CA_FILE to a file with the CA that signed it"),
        (["gw.example"], {}, True, "127.0.0.1", "QC_GATEWAY_URL to a host that the certificate is for (gw.example)"),
        (["127.0.0.1"], {"not_after": datetime(2020, 1, 1, tzinfo=UTC)}, True, "expired", "renewed"),
    ],
    ids=["wrong CA", "wrong name", "expired"],
)
async def test_why_a_gateway_is_not_trusted_is_told(look, tls_gateway, ca_file, *, names, more, trusted, says, change):
    """Each reason has another remedy; nothing is sent to whom we do not trust."""
    gateway = await tls_gateway(*names, **more)
    files = {"QC_GATEWAY_CA_FILE": ca_file} if trusted else {}
    finding = worst(await look("gateway", QC_GATEWAY_URL=gateway.url, **files))
    assert finding.level is Level.PROBLEM
    assert says in finding.text
    assert change in finding.change
    assert gateway.heard == []


def fingerprint(gateway, *, colons=False):
    """The SHA-256 of the certificate that a gateway shows, as openssl prints it."""
    shown = ssl.get_server_certificate(("127.0.0.1", gateway.port))
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(shown)).hexdigest()
    return ":".join(digest[at : at + 2] for at in range(0, 64, 2)).upper() if colons else digest


async def test_what_a_gateway_shows_is_told(look, tls_gateway, ca_file):
    """Version and SHA-256 stand there, so that an operator can compare them and pin the certificate."""
    gateway = await tls_gateway("127.0.0.1")
    found = await look("gateway", QC_GATEWAY_URL=gateway.url, QC_GATEWAY_CA_FILE=ca_file)
    [told] = [one.text for one in found if "SHA-256" in one.text]
    assert await asyncio.to_thread(fingerprint, gateway) in told
    assert "TLSv1.3" in told


async def test_a_pinned_gateway_is_told(look, tls_gateway):
    """A pin as openssl prints it needs no authority, no name and no date: that it is over is a warning only."""
    gateway = await tls_gateway("gw.example", not_after=datetime(2020, 1, 1, tzinfo=UTC))
    pin = await asyncio.to_thread(fingerprint, gateway, colons=True)
    finding = worst(await look("gateway", QC_GATEWAY_URL=gateway.url, QC_GATEWAY_PIN=pin))
    assert finding.level is Level.WARNING
    assert "ended" in finding.text
    assert len(gateway.heard) == 1


async def test_a_pin_that_does_not_fit_is_told(look, tls_gateway):
    """The problem shows the SHA-256 that was seen, and the change names the setting; nothing is sent."""
    gateway = await tls_gateway("127.0.0.1")
    finding = worst(await look("gateway", QC_GATEWAY_URL=gateway.url, QC_GATEWAY_PIN="0" * 64))
    assert finding.level is Level.PROBLEM
    seen = await asyncio.to_thread(fingerprint, gateway)
    assert seen in finding.text
    assert f"QC_GATEWAY_PIN={seen}" in finding.change
    assert gateway.heard == []


def shake_hands(listener, context):
    """Take connections until the listener is closed, on plain sockets: asyncio's server does not send its alert."""
    with contextlib.suppress(OSError):
        while True:
            raw, _ = listener.accept()
            with raw, raw.dup() as beneath:
                with contextlib.suppress(OSError), context.wrap_socket(raw, server_side=True) as spoken:
                    spoken.recv(4096)
                with contextlib.suppress(OSError):
                    while beneath.recv(4096):  # closing with bytes unread would overtake the alert
                        pass


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["TLS 1.2", "TLS 1.3"])
async def test_a_gateway_that_wants_our_certificate_is_told(look, authority, ca_file, version):
    """With TLS 1.3 it says so only when the request comes: give it a certificate that it trusts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = version
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = asyncio.create_task(asyncio.to_thread(shake_hands, listener, context))
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        finding = worst(await look("gateway", QC_GATEWAY_URL=url, QC_GATEWAY_CA_FILE=ca_file))
        listener.shutdown(socket.SHUT_RDWR)  # wakes the one that waits to accept
        await server
    assert finding.level is Level.PROBLEM
    assert "certificate" in finding.text
    assert finding.change.startswith("set QC_GATEWAY_CERT_FILE and QC_GATEWAY_KEY_FILE")


async def test_plain_and_tls_are_told_apart(look, simulator, tls_gateway):
    """An address with the wrong scheme says so, in both directions."""
    plain = worst(await look("gateway", QC_GATEWAY_URL=simulator.url.replace("http:", "https:")))
    assert "does not speak TLS" in plain.text
    gateway = await tls_gateway("127.0.0.1")
    encrypted = worst(await look("gateway", QC_GATEWAY_URL=gateway.url.replace("https:", "http:")))
    assert "begin with https" in encrypted.change


async def test_a_clock_that_is_wrong_is_a_warning(look, plain_gateway):
    """The reply's Date tells it; half a minute is much for GUIDs and events."""
    late = (datetime.now(UTC) - timedelta(minutes=5)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    plain_gateway.script.append(plain_gateway.reply(headers=[("Date", late)]))
    finding = worst(await look("gateway", QC_GATEWAY_URL=plain_gateway.url))
    assert finding.level is Level.WARNING
    assert "behind ours" in finding.text


async def test_each_gateway_is_looked_at(look, simulator):
    """With several, each has its own findings under its name, whatever becomes of the others."""
    both = {"QC_GATEWAY_URL": simulator.url, "QC_GATEWAYS": "north", "QC_GATEWAY_NORTH_URL": NOWHERE}
    assert {one.level for one in await look("gateway default", **both)} == {Level.GOOD}
    assert "QC_GATEWAY_NORTH_URL" in worst(await look("gateway north", **both)).change


# --- the store


async def test_a_good_redis_is_told(look, own_redis_server):
    """Version, writes and records; nothing stays there."""
    with own_redis_server.client() as client:
        client.config_set("appendonly", "yes")
        found = await look("store", QC_STORE_URL=own_redis_server.url)
        assert [one.level for one in found] == [Level.GOOD] * 3
        assert found[0].text.startswith("answers: Redis ")
        assert found[-1].text == "0 sessions are stored"
        assert all(0 < client.pttl(key) <= 1000 for key in client.scan_iter())


async def test_what_redis_may_forget_is_a_warning(look, own_redis_server):
    """Eviction and a missing append-only file cost sessions one day, not today."""
    with own_redis_server.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
    bad = [one for one in await look("store", QC_STORE_URL=own_redis_server.url) if one.level is not Level.GOOD]
    assert [one.level for one in bad] == [Level.WARNING] * 2
    assert "allkeys-lru" in bad[0].text
    assert "noeviction" in bad[0].change
    assert "appendonly" in bad[1].change


async def test_a_replica_is_a_problem(look, own_redis_server, tmp_path):
    """What answers is not the master: the URL has to be changed."""
    folder = tmp_path / "replica"
    folder.mkdir()
    replica = RedisServer(folder, replica_of=own_redis_server.port)
    replica.start()
    try:
        bad = [one for one in await look("store", QC_STORE_URL=replica.url) if one.level is Level.PROBLEM]
    finally:
        replica.stop()
    [finding] = bad
    assert finding.text.startswith("this server is a replica")
    assert "redis+sentinel" in finding.change


async def test_a_master_without_enough_replicas_takes_no_writes(look, own_redis_server):
    """It answers and is of no use: writing is tried."""
    with own_redis_server.client() as client:
        client.config_set("appendonly", "yes")
        client.config_set("min-replicas-to-write", 1)
    assert "takes no writes" in worst(await look("store", QC_STORE_URL=own_redis_server.url)).text


@pytest.mark.parametrize("password", ["wrong", ""])
async def test_a_wrong_password_is_told(look, locked_redis_server, password):
    """None and a wrong one are told, and it is not repeated."""
    user_info = f":{password}@" if password else ""
    url = f"redis://{user_info}127.0.0.1:{locked_redis_server.port}/0"
    finding = worst(await look("store", QC_STORE_URL=url))
    assert finding.level is Level.PROBLEM
    assert "user and password in QC_STORE_URL" in finding.change
    assert "wrong" not in finding.text


async def test_a_user_who_may_not_ask_is_a_warning(look, own_redis_server):
    """INFO may be forbidden: what it would tell is named, and the rest is still looked at."""
    with own_redis_server.client() as client:
        client.acl_setuser("adapter", enabled=True, nopass=True, keys=["qc:*"], commands=["+@all", "-info"])
    found = await look("store", QC_STORE_URL=f"redis://adapter:x@127.0.0.1:{own_redis_server.port}/0")
    assert "INFO is not allowed" in worst(found).text
    assert found[-1].text == "0 sessions are stored"


async def test_records_that_cannot_be_read_are_counted(look, redis_url, redis_server):
    """How many there are, how many of them are no use, whose and why; and what gateways they are for."""
    with redis_server.client() as client:
        client.hset("qc:session:101", mapping={"agent_id": "101", "guid": "canary-guid"})
        client.hset("qc:session:102", mapping={"agent_id": "103", "guid": "canary-guid"})
        client.set("qc:session:104", "text")
        client.hset("qc:session:north/7", mapping={"agent_id": "7", "gateway": "north", "guid": "canary-guid"})
    found = await look("store", QC_STORE_URL=redis_url)
    texts = [one.text for one in found]
    assert "4 sessions are stored" in texts
    [unreadable] = [one for one in found if "cannot be read" in one.text]
    assert (unreadable.level, unreadable.text[:10]) == (Level.WARNING, "2 sessions")
    assert "qc:session:102" in unreadable.text
    assert "sessions are stored for gateways that are not set: 1 at north" in texts
    assert "canary" not in "".join(texts)


async def test_keys_that_sessions_are_sealed_with_are_counted(look, redis_url, redis_server):
    """Before a key is taken away, this says that no session needs it; a key that is missing already is a problem."""
    old, new = new_key(), new_key()
    [was], [now] = Seal([old]).names, Seal([new]).names
    link = open_link(redis_url)
    for agent_id, key in (("101", old), ("102", old), ("103", new)):
        await RedisSessionStore(link, Records(Seal([key]))).put(Session(agent_id, Secret("canary-guid")))
    await link.close()
    with redis_server.client() as client:
        client.hset("qc:session:104", mapping={"agent_id": "104", "guid": "canary-guid"})
    both = await look("store", QC_STORE_URL=redis_url, QC_SEAL_KEYS=f"{new.reveal()},{old.reveal()}")
    [told] = [one.text for one in both if "present key" in one.text]
    for part in (f"1 sealed with the present key {now}", f"2 sealed with another key {was}", "1 in plain text"):
        assert part in told
    found = await look("store", QC_STORE_URL=redis_url, QC_SEAL_KEYS=new.reveal())
    [missing] = [one for one in found if one.level is Level.PROBLEM]
    assert f"2 with {was}" in missing.text
    assert "canary" not in repr(both) + repr(found)


async def test_replicas_that_cannot_read_sealed_sessions_are_told(look, redis_url, redis_server):
    """Beside them nobody begins to seal; where somebody does already that is a problem, and what to do is said."""
    key = new_key()
    with redis_server.client() as client:
        client.zadd("qc:replicas", {"older": 2e12})
        waits = await look("store", QC_STORE_URL=redis_url, QC_SEAL_KEYS=key.reveal())
        wanted = await look("store", QC_STORE_URL=redis_url, QC_SEAL_KEYS=key.reveal(), QC_STORE_PLAIN="0")
        client.set("qc:sealing", "")
        hidden = await look("store", QC_STORE_URL=redis_url, QC_SEAL_KEYS=key.reveal())
        client.set("qc:keys:older", "")
        fine = await look("store", QC_STORE_URL=redis_url, QC_SEAL_KEYS=key.reveal())
    assert "sessions are not sealed beside" in waits[-1].text
    assert not [one for one in (*wanted, *fine) if "release" in one.text]
    [problem] = [one for one in hidden if one.level is Level.PROBLEM]
    assert ("1 replicas of a release" in problem.text, "QC_STORE_PLAIN=1" in problem.change) == (True, True)


async def test_a_store_that_is_away_is_told(look):
    """A dead port and a wrong name have their remedies."""
    dead = worst(await look("store", QC_STORE_URL="redis://127.0.0.1:1"))
    assert "Connection refused" in dead.text
    assert "QC_STORE_URL" in dead.change
    away = {"QC_STORE_URL": f"redis://{NO_NAME}", "QC_STORE_PLAIN": "1"}
    assert "does not resolve" in worst(await look("store", **away)).text


async def test_a_store_that_is_stuck_is_not_waited_for(look, own_redis_server, monkeypatch):
    """A Redis that takes connections and answers nothing is told in time."""
    monkeypatch.setattr("qc_adapter.cli.connect.store._LINK_SECONDS", 0.2)
    own_redis_server.freeze()
    try:
        finding = worst(await look("store", QC_STORE_URL=own_redis_server.url))
    finally:
        own_redis_server.thaw()
    assert "no answer within 0.2 s" in finding.text


async def test_a_sentinel_is_asked_for_the_master(look, own_sentinel, own_redis_server):
    """A master that nothing can replace is a warning; a name that it does not know is a problem."""
    with own_redis_server.client() as client:
        client.config_set("appendonly", "yes")
    url = f"redis+sentinel://127.0.0.1:{own_sentinel.port}"
    bad = [one for one in await look("store", QC_STORE_URL=f"{url}/calls") if one.level is not Level.GOOD]
    assert [one.level for one in bad] == [Level.WARNING] * 2
    assert "no replica" in bad[0].text
    assert "min-replicas-to-write" in bad[1].text
    unknown = worst(await look("store", QC_STORE_URL=f"{url}/other"))
    assert (unknown.level, "master's name" in unknown.change) == (Level.PROBLEM, True)


# --- our own side


async def test_a_taken_port_is_a_problem(look):
    """Serve would not start: which variable and why."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = await look("ports", QC_LISTEN=f"127.0.0.1:{port}")
    finding = worst(found)
    assert finding.level is Level.PROBLEM
    assert f"QC_LISTEN 127.0.0.1:{port}" in finding.text
    assert len(found) == 2
    assert "no address" in worst(await look("ports", QC_OPS_LISTEN=f"{NO_NAME}:0")).text


async def test_beside_an_adapter_that_serves_its_ports_may_be_taken(look, adapter):
    """In a pod the ports are those of the process that is asked about."""
    own = {"QC_LISTEN": f"127.0.0.1:{adapter.port}", "QC_OPS_LISTEN": f"127.0.0.1:{adapter.ops_port}"}
    [finding] = await look("ports", **own)
    assert (finding.level, "an adapter serves here" in finding.text) == (Level.GOOD, True)


@pytest.fixture
def pushed(authority, tmp_path):
    """The environment of an adapter that is pushed to, with a certificate for those names."""

    def environment(*names, url="https://localhost:8443/events", **more):
        authority.issue_cert(*names, **more).private_key_and_cert_chain_pem.write_to_path(tmp_path / "push.pem")
        file = str(tmp_path / "push.pem")
        return {
            "QC_PUSH_LISTEN": "127.0.0.1:0",
            "QC_PUSH_URL": url,
            "QC_PUSH_TOKEN": "canary0123456789",
            "QC_PUSH_TLS_CERT_FILE": file,
            "QC_PUSH_TLS_KEY_FILE": file,
        }

    return environment


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST"])
async def test_a_push_url_fits_its_certificate(look, pushed, name):
    """Resolved, and the certificate is for it."""
    assert [one.level for one in await look("push", **pushed(name))] == [Level.GOOD, Level.GOOD]


@pytest.mark.parametrize(
    ("url", "names", "fits"),
    [
        ("https://127.0.0.1:8443/events", ["127.0.0.1"], True),
        ("https://127.0.0.1:8443/events", ["localhost"], False),
        ("https://localhost:8443/events", ["*.localhost", "127.0.0.1"], False),
        (f"https://{NO_NAME}:8443/events", ["*..example"], False),
    ],
)
async def test_a_push_url_that_does_not_fit_is_a_warning(look, pushed, url, names, fits):
    """The gateway would refuse it, unless something stands before the port."""
    found = await look("push", **pushed("adapter.example", *(names if fits else ["other.example"]), url=url))
    assert any("not for" in one.text for one in found) is not fits
    assert all(one.level is not Level.PROBLEM for one in found)


async def test_our_own_certificates_are_looked_at(look, pushed):
    """One that is over is a problem, one that ends soon a warning, by the variable and the file."""
    over = pushed("localhost", not_after=datetime(2020, 1, 1, tzinfo=UTC))
    finding = worst(await look("certificates", **over))
    assert finding.level is Level.PROBLEM
    assert finding.text.startswith("QC_PUSH_TLS_CERT_FILE (")
    soon = pushed("localhost", not_after=datetime.now(UTC) + timedelta(days=20, hours=1))
    assert worst(await look("certificates", **soon)).level is Level.WARNING


@pytest.mark.parametrize(
    ("names", "level", "says"),
    [
        (["adapter.example", "b.example"], Level.GOOD, "is for adapter.example, b.example"),
        ([], Level.WARNING, "is for no host at all: every caller refuses it"),
    ],
    ids=["names", "none"],
)
async def test_whom_the_port_is_for_is_told(look, tmp_path, names, level, says):
    """By what names callers may reach us, and that they need a certificate themselves."""
    root = Authority()
    pair = root.issue(*names, common_name="adapter.example", ends=100 * DAY)
    contents = {"CERT": pair.certificate, "KEY": pair.key, "CLIENT_CA": root.pem}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    tls = {f"QC_TLS_{name}_FILE": str(tmp_path / name) for name in contents}
    own, ca, for_whom, callers = await look("certificates", **tls)
    assert [one.level for one in (own, ca, callers)] == [Level.GOOD] * 3
    assert (for_whom.level, for_whom.text) == (level, f"QC_TLS_CERT_FILE {says}")
    assert "QC_TLS_CLIENT_CA_FILE signs (mutual TLS)" in callers.text


async def test_authorities_that_have_all_ended_let_nobody_in(look, tmp_path):
    """One of several that is over is a warning; when none is left it is a problem, for nobody can call."""
    authority = Authority()
    pair = authority.issue("adapter.example", ends=100 * DAY)
    ca = tmp_path / "ca"
    tls = {"QC_TLS_CLIENT_CA_FILE": str(ca)}
    for name, content in {"CERT": pair.certificate, "KEY": pair.key}.items():
        (tmp_path / name).write_bytes(content)
        tls[f"QC_TLS_{name}_FILE"] = str(tmp_path / name)
    ca.write_bytes(authority.ended_pem + authority.pem)
    assert worst(await look("certificates", **tls)).level is Level.WARNING
    ca.write_bytes(authority.ended_pem)
    found = await look("certificates", **tls)
    assert [one.text for one in found if one.level is Level.PROBLEM] == [
        "QC_TLS_CLIENT_CA_FILE: all authorities in the file have ended: nobody would be let in"
    ]


# --- the command


async def test_warnings_do_not_fail(qc, simulator, redis_url):
    """All that is found is printed, one JSON object each; only problems make it end with 4."""
    environment = OWN | {"QC_GATEWAY_URL": simulator.url, "QC_STORE_URL": redis_url}
    ended = await qc("check", "--connect", "--json", **environment)
    assert (ended.code, ended.err) == (0, "")
    found = [one for one in ended.objects if "part" in one]
    assert {one["part"] for one in found} == {"store", "gateway", "ports"}
    assert {one["level"] for one in found} == {"good", "warning"}  # the tests' Redis keeps nothing on disk
    assert all(("change" in one) is (one["level"] == "warning") for one in found)
