"""The certificates of our own ports, replaced while they serve; and who is let in by them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl

import grpc
import pytest
from grpc import StatusCode

from bench.ports import free_port
from qc_adapter.app import Adapter
from qc_adapter.settings import read_settings
from qc_adapter.v1 import events_pb2, events_pb2_grpc, sessions_pb2, sessions_pb2_grpc
from tests.support.certificates import DAY, Authority, Mounted, as_caller, trusting
from tests.support.opening import pushing

#: Nothing listens there: these tests are about our own ports.
NOWHERE = "http://127.0.0.1:1"
SETTINGS = {
    "QC_GATEWAY_URL": NOWHERE,
    "QC_LISTEN": "127.0.0.1:0",
    "QC_OPS_LISTEN": "127.0.0.1:0",
    "QC_DRAIN_SECONDS": "0",
    "QC_GRACE_SECONDS": "1",
    "QC_RELOAD_SECONDS": "3600",  # tests look themselves
}
OURS, THEIRS, STRANGERS = Authority("ours"), Authority("theirs"), Authority("strangers")
FIRST, SECOND = OURS.issue("localhost"), OURS.issue("localhost", ends=2 * DAY)
DESK = THEIRS.issue("spiffe://example/desk")


class Ports:
    """An adapter with mutual TLS, whose files may be replaced."""

    def __init__(self, adapter, mounted, tape, stack):
        self.adapter, self._mounted, self._tape, self._stack = adapter, mounted, tape, stack

    def put(self, **files):
        """Put files in place of those that are there, and have them looked at; returns what the log says of it."""
        self._mounted.turn(**files, caller=DESK.key + DESK.certificate)
        return self.look()

    def look(self):
        """Have the files looked at; returns what the log says of it."""
        told = len(self._tape.lines)
        self.adapter.watched.look()
        return [line for line in self._tape.lines[told:] if line["event"].startswith("reload")]

    async def channel(self, credentials, **options):
        """A channel of its own, with a connection of its own."""
        given = [("grpc.use_local_subchannel_pool", 1), *options.items()]
        opened = grpc.aio.secure_channel(f"localhost:{self.adapter.port}", credentials, options=given)
        return await self._stack.enter_async_context(opened)

    async def called(self, channel):
        """Call on a channel; returns the status."""
        try:
            await sessions_pb2_grpc.InspectorSessionsStub(channel).List(sessions_pb2.ListRequest(), timeout=10)
        except grpc.aio.AioRpcError as error:
            return error.code()
        return StatusCode.OK

    async def calls(self, pair, authority=OURS):
        """Connect with that certificate, and call; returns the status."""
        channel = await self.channel(as_caller(authority, pair))
        try:
            return await self.called(channel)
        finally:
            await channel.close()

    async def shown(self, port=None, ciphers="DEFAULT", **more):
        """The certificate that a new connection is shown."""
        context = trusting(OURS, **more)
        context.set_ciphers(f"{ciphers}:@SECLEVEL=0")
        context.set_alpn_protocols(["h2"])
        context.load_cert_chain(self._mounted.path("caller"))
        _, writer = await asyncio.open_connection("127.0.0.1", port or self.adapter.port, ssl=context)
        try:
            return writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        finally:
            writer.transport.abort()  # gRPC answers no goodbye of TLS

    async def ends_at(self, use):
        """What the metric says of when the certificate in use ends."""
        name = f'qc_certificate_expiry_timestamp_seconds{{gateway="none",use="{use}"}} '
        return next(float(line.removeprefix(name)) for line in await self._metrics() if line.startswith(name))

    async def refused(self, what="server"):
        """Whether the metric says that the files on disk are not those in use."""
        return f'qc_reload_refused{{what="{what}"}} 1.0' in await self._metrics()

    async def _metrics(self):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.adapter.ops_port)
        writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
        page = await reader.read()
        writer.close()
        return page.decode().splitlines()


@pytest.fixture
async def open_ports(nothing_leaks, tape, tmp_path):
    """A function that starts an adapter with mutual TLS, and more settings."""
    async with contextlib.AsyncExitStack() as stack:

        async def opening(**environment):
            mounted = Mounted(tmp_path)
            mounted.turn(cert=FIRST.certificate, key=FIRST.key, ca=THEIRS.pem, caller=DESK.key + DESK.certificate)
            files = {"QC_TLS_CERT_FILE": "cert", "QC_TLS_KEY_FILE": "key", "QC_TLS_CLIENT_CA_FILE": "ca"}
            paths = {variable: mounted.path(name) for variable, name in files.items()}
            settings = read_settings(SETTINGS | paths | environment)
            adapter = await stack.enter_async_context(Adapter(settings))
            return Ports(adapter, mounted, tape, stack)

        yield opening


@pytest.fixture
async def ports(open_ports):
    """An adapter with mutual TLS."""
    return await open_ports()


async def watching(channel):
    """A stream of this channel that has begun."""
    await sessions_pb2_grpc.InspectorSessionsStub(channel).Adopt(
        sessions_pb2.AdoptRequest(agent_id="101", guid="guid-canary-1"), timeout=10
    )
    stream = events_pb2_grpc.InspectorEventsStub(channel).Watch(events_pb2.WatchRequest(agent_id="101"))
    assert (await stream.read()).HasField("subscribed")
    return stream


async def to_its_end(stream):
    """Read what still comes."""
    while await stream.read() is not grpc.aio.EOF:
        pass


async def test_a_new_certificate_is_shown_to_new_connections_only(open_ports):
    """A rotated pair costs no stream and no call; who connects afterwards sees it, and the metric tells its end."""
    ports = await open_ports(QC_BOOKMARK_SECONDS="0.1")
    channel = await ports.channel(as_caller(OURS, DESK))
    stream = await watching(channel)
    assert await ports.shown() == FIRST.der
    assert await ports.ends_at("server") == FIRST.ends_at
    [line] = ports.put(cert=SECOND.certificate, key=SECOND.key, ca=THEIRS.pem)
    assert (line["event"], line["what"]) == ("reloaded", "server")
    assert await ports.shown() == SECOND.der
    assert await ports.shown() == SECOND.der  # it is not only the first one
    assert await ports.ends_at("server") == SECOND.ends_at
    assert await ports.called(channel) is StatusCode.OK
    for _ in range(5):  # more than can have come before
        assert await stream.read() is not grpc.aio.EOF
    stream.cancel()


async def test_a_new_client_ca_decides_about_new_connections(ports):
    """With another CA callers of the old one come no more, and those of the new one do; open connections stay."""
    stranger = STRANGERS.issue("spiffe://example/desk")
    channel = await ports.channel(as_caller(OURS, DESK))
    assert await ports.called(channel) is StatusCode.OK
    assert await ports.calls(stranger) is StatusCode.UNAVAILABLE
    ports.put(cert=FIRST.certificate, key=FIRST.key, ca=THEIRS.pem + STRANGERS.pem)
    assert [await ports.calls(one) for one in (DESK, stranger)] == [StatusCode.OK] * 2
    ports.put(cert=FIRST.certificate, key=FIRST.key, ca=STRANGERS.pem)
    assert await ports.calls(DESK) is StatusCode.UNAVAILABLE
    assert await ports.calls(stranger) is StatusCode.OK
    assert await ports.called(channel) is StatusCode.OK


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda one: one.name)
async def test_a_session_of_before_does_not_get_past_a_new_client_ca(ports, tmp_path, version):
    """A caller that the new CA does not know cannot resume the TLS session that the old one let it begin."""
    context = trusting(OURS, minimum_version=version, maximum_version=version)
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(tmp_path / "caller")

    def resumed(session=None):
        """Connect, and return the session and whether it was resumed; None when we are not let in."""
        with socket.create_connection(("127.0.0.1", ports.adapter.port)) as raw, contextlib.suppress(OSError):
            raw.settimeout(10)
            with context.wrap_socket(raw, session=session) as connection:
                connection.sendall(PREFACE)
                if connection.recv(100):
                    return connection.session, connection.session_reused
        return None

    session, _ = await asyncio.to_thread(resumed)
    assert (await asyncio.to_thread(resumed, session))[1] is True
    ports.put(cert=FIRST.certificate, key=FIRST.key, ca=STRANGERS.pem)
    assert await asyncio.to_thread(resumed, session) is None
    assert await asyncio.to_thread(resumed) is None


def _files(pair):
    return {"cert": pair.certificate, "key": pair.key}


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"cert": SECOND.certificate}, "do not fit together"),
        ({"key": SECOND.key}, "do not fit together"),
        ({"cert": b"-----BEGIN CERTIFICATE-----\nAAAA\n"}, "no certificates in PEM form"),
        ({"cert": b""}, "no certificates in PEM form"),
        ({"key": FIRST.key[:80]}, "the key is none in PEM form"),
        ({"ca": b""}, "no certificates in PEM form"),
        ({"ca": THEIRS.ended_pem}, "all authorities in the file have ended"),
        (_files(OURS.issue("localhost", begins=-9 * DAY, ends=-DAY)), "the certificate has ended"),
        (_files(OURS.issue("localhost", begins=DAY, ends=9 * DAY)), "not valid yet"),
    ],
    ids=["other-cert", "other-key", "spoilt-cert", "no-cert", "half-key", "no-ca", "ended-ca", "ended", "early"],
)
async def test_what_cannot_be_used_changes_nothing(ports, files, says):
    """The old files stay in use, log and metric say so once, and the first pair that can be used is taken."""
    good = {"cert": FIRST.certificate, "key": FIRST.key, "ca": THEIRS.pem}
    [line] = ports.put(**good | files)
    assert (line["event"], line["what"]) == ("reload_refused", "server")
    assert says in line["detail"]
    assert ports.look() == []  # it is tried again, and told once
    assert await ports.refused()
    assert await ports.shown() == FIRST.der
    assert await ports.calls(DESK) is StatusCode.OK
    assert await ports.ends_at("server") == FIRST.ends_at
    [line] = ports.put(cert=SECOND.certificate, key=SECOND.key, ca=THEIRS.pem)
    assert line["event"] == "reloaded"
    assert await ports.shown() == SECOND.der
    assert not await ports.refused()
    assert await ports.calls(DESK) is StatusCode.OK


async def test_who_has_no_certificate_of_the_client_ca_is_not_let_in(ports):
    """None, one of another CA, one that has ended or is not valid yet: the handshake fails; and so without TLS."""
    good, ended = DESK, THEIRS.issue("spiffe://example/desk", begins=-9 * DAY, ends=-DAY)
    early, other = THEIRS.issue("a.example", begins=DAY, ends=9 * DAY), OURS.issue("a.example")
    seen = [await ports.calls(pair) for pair in (good, None, other, ended, early)]
    assert seen == [StatusCode.OK, *[StatusCode.UNAVAILABLE] * 4]
    plain = grpc.aio.insecure_channel(f"localhost:{ports.adapter.port}")
    assert await ports.called(plain) is StatusCode.UNAVAILABLE
    await plain.close()


async def test_a_caller_is_known_by_its_certificate(ports, tape):
    """The names of the certificate are the caller's in the log; one that names nobody is told what to change."""
    assert await ports.calls(DESK) is StatusCode.OK
    assert await ports.calls(THEIRS.issue("Desk.example")) is StatusCode.OK
    nobody = [THEIRS.issue(common_name="spiffe://example/desk"), THEIRS.issue("*.example")]
    nobody.append(THEIRS.issue("spiffe://example/desk", "spiffe://example/other"))
    assert [await ports.calls(one) for one in nobody] == [StatusCode.UNAUTHENTICATED] * 3
    lines = [line for line in tape.lines if line["event"] == "call_finished"]
    assert [line.get("caller") for line in lines[:3]] == ["spiffe://example/desk", "dns:desk.example", None]
    assert {line["reason"] for line in lines[2:]} == {"CALLER_UNKNOWN"}  # told at once, then in sum


async def test_a_connection_does_not_outlive_its_certificate(ports, monkeypatch):
    """When the certificate has ended, calls on the connection that it opened are refused, and its streams end."""
    monkeypatch.setattr("qc_adapter.rpc.revocation._LOOK_SECONDS", 0.05)
    channel = await ports.channel(as_caller(OURS, DESK))
    stream = await watching(channel)
    # As two days later: the certificate lasts one.
    monkeypatch.setattr("qc_adapter.rpc.callers.LEEWAY_SECONDS", -2 * DAY.total_seconds())
    assert await ports.called(channel) is StatusCode.UNAUTHENTICATED
    with pytest.raises(grpc.aio.AioRpcError, match="the certificate has ended"):
        await to_its_end(stream)


async def test_callers_can_tell_us_from_others(ports):
    """A caller that trusts another CA, or looks for another name, does not talk with us."""
    assert await ports.calls(DESK, STRANGERS) is StatusCode.UNAVAILABLE
    named = {"grpc.ssl_target_name_override": "adapter.example"}
    assert await ports.called(await ports.channel(as_caller(OURS, DESK), **named)) is StatusCode.UNAVAILABLE


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
async def test_only_tls_from_12_on_with_ephemeral_keys_and_aead_is_spoken(ports):
    """A caller with every right gets no connection by an older version, or by ciphers without ECDHE and GCM."""

    async def connects(version, ciphers="ALL"):
        try:
            await ports.shown(minimum_version=version, maximum_version=version, ciphers=ciphers)
        except (ssl.SSLError, OSError):
            return False
        return True

    old, new = (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1), (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
    assert [await connects(version) for version in (*old, *new)] == [False, False, True, True]
    assert not await connects(ssl.TLSVersion.TLSv1_2, "ALL:!AESGCM")
    assert not await connects(ssl.TLSVersion.TLSv1_2, "ALL:!ECDHE")


async def test_the_push_port_shows_a_new_certificate_too(open_ports, tmp_path):
    """New connections see the new pair, also those that name no host; what cannot be used changes nothing."""
    port = free_port()
    (tmp_path / "push").mkdir()
    files = Mounted(tmp_path / "push")
    files.turn(cert=FIRST.certificate, key=FIRST.key)
    tls = {"QC_PUSH_TLS_CERT_FILE": files.path("cert"), "QC_PUSH_TLS_KEY_FILE": files.path("key")}
    url = f"https://127.0.0.1:{port}/events"
    ports = await open_ports(**pushing(port, QC_PUSH_URL=url, QC_HEARTBEAT_SECONDS="30") | tls)
    standing = await asyncio.open_connection("127.0.0.1", port, ssl=trusting(OURS))
    assert await ports.shown(port) == FIRST.der
    files.turn(cert=SECOND.certificate, key=FIRST.key)
    [line] = ports.look()
    assert (line["event"], line["what"]) == ("reload_refused", "push")
    assert await ports.refused("push")
    assert await ports.shown(port) == FIRST.der
    files.turn(cert=SECOND.certificate, key=SECOND.key)
    [line] = ports.look()
    assert (line["event"], line["what"]) == ("reloaded", "push")
    assert await ports.shown(port) == SECOND.der
    assert await ports.ends_at("push") == SECOND.ends_at
    reader, writer = standing
    writer.write(b"POST /events HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 401")
    writer.close()
    with contextlib.suppress(ssl.SSLError):
        await writer.wait_closed()


async def test_files_of_any_form_that_is_understood_are_served(ports):
    """Whatever stands around the PEM blocks, gRPC gets what was understood: what is taken is what is shown."""
    mark, text = b"\xef\xbb\xbf", b"subject=localhost\n"
    key = SECOND.key.replace(b"\n", b"\r\n")
    [line] = ports.put(cert=mark + SECOND.certificate + text + OURS.pem, key=text + key, ca=mark + THEIRS.pem)
    assert line["event"] == "reloaded"
    assert await ports.shown() == SECOND.der
    assert await ports.calls(DESK) is StatusCode.OK


async def test_a_certificate_that_has_ended_is_served_until_there_is_a_better_one(open_ports, tmp_path):
    """A replica that starts with it serves, for those who do not look; the alert stands; the renewed one is taken."""
    ended = OURS.issue("localhost", begins=-9 * DAY, ends=-DAY)
    for name, content in {"old-cert": ended.certificate, "old-key": ended.key}.items():
        (tmp_path / name).write_bytes(content)
    names = {"QC_TLS_CERT_FILE": "old-cert", "QC_TLS_KEY_FILE": "old-key"}
    ports = await open_ports(**{variable: str(tmp_path / name) for variable, name in names.items()})
    assert await ports.shown(verify_mode=ssl.CERT_NONE) == ended.der
    assert await ports.ends_at("server") == ended.ends_at
    (tmp_path / "old-cert").write_bytes(FIRST.certificate)  # not all at once, as people do it
    assert [line["event"] for line in ports.look()] == ["reload_refused"]
    (tmp_path / "old-key").write_bytes(FIRST.key)
    assert [line["event"] for line in ports.look()] == ["reloaded"]
    assert await ports.shown() == FIRST.der


async def test_the_start_says_what_protects_the_port(open_ports, tape):
    """The line of the start tells what callers are asked for."""
    await open_ports()
    [started] = [line for line in tape.lines if line["event"] == "started"]
    assert (started["callers"], started["tls"]) == ("mutual_tls", True)
    assert (started["policy"], started["audit"]) == (False, "stderr")
