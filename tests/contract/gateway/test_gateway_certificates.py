"""Certificates of and for the gateway that change, are pinned, or are of no use, over real sockets."""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import socket
import ssl
import warnings
from pathlib import Path

import pytest
import trustme
import uvloop

from qc_adapter.gateway import requests
from qc_adapter.gateway.client import GatewayClient
from qc_adapter.gateway.settings import GatewaySettings
from qc_adapter.gateway.transport import GatewayTransport
from qc_adapter.model.deadline import Deadline
from qc_adapter.model.errors import GatewayMisconfigured
from tests.support.handshakes import serve_one_handshake
from tests.support.scripted import ScriptedGateway

LISTEN = requests.listen("117", "291")
LONG_AGO = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


def soon():
    return Deadline.after(20)


@pytest.fixture(scope="module")
def authority():
    """The authority that signs gateways."""
    return trustme.CA()


@pytest.fixture(scope="module")
def other_authority():
    """The authority that will sign gateways."""
    return trustme.CA()


@pytest.fixture(scope="module")
def certificate(authority):
    """A certificate of the gateway, for its address."""
    return authority.issue_cert("127.0.0.1")


def der_of(certificate):
    """A certificate as it goes over the wire."""
    return ssl.PEM_cert_to_DER_cert(certificate.cert_chain_pems[0].bytes().decode())


def pin_of(certificate):
    """What an operator computes with `openssl x509 -outform der | sha256sum`."""
    return hashlib.sha256(der_of(certificate)).hexdigest()


def showing(certificate, *, clients=None):
    """A server's context that shows the certificate, and wants one that the authority signed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    if clients is not None:
        clients.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


@pytest.fixture
async def start():
    """Starts gateways with TLS."""
    made = []

    async def start(context):
        made.append(ScriptedGateway(tls=context))
        await made[-1].start()
        return made[-1]

    yield start
    for server in made:
        await server.stop()


@pytest.fixture
def files(tmp_path, authority):
    """The files of the settings: an authority, and the adapter's own pair."""

    class Files:
        ca_file = str(tmp_path / "ca.pem")
        cert_file = str(tmp_path / "own.pem")
        key_file = str(tmp_path / "own.key")

        def trust(self, *authorities):
            Path(self.ca_file).write_bytes(b"".join(one.cert_pem.bytes() for one in authorities))

        def show(self, certificate):
            Path(self.cert_file).write_bytes(certificate.cert_chain_pems[0].bytes())
            Path(self.key_file).write_bytes(certificate.private_key_pem.bytes())

        def touch(self):
            Path(self.ca_file).write_bytes(Path(self.ca_file).read_bytes())

        def spoil(self, how):
            if how == "half":
                Path(self.cert_file).write_bytes(authority.issue_cert("next.example").cert_chain_pems[0].bytes())
            elif how == "garbage":
                Path(self.key_file).write_text("-----BEGIN PRIVATE KEY-----\nno\n-----END PRIVATE KEY-----\n")
            elif how == "missing":
                Path(self.cert_file).unlink()
            else:
                Path(self.ca_file).write_text("\n")

        @property
        def pair(self):
            return {"cert_file": self.cert_file, "key_file": self.key_file}

    made = Files()
    made.trust(authority)
    return made


async def refused(client, session):
    """The words with which a command is refused; nothing of it was sent."""
    sent = []
    with pytest.raises(GatewayMisconfigured) as raised:
        await client.send(session, LISTEN, soon(), lambda: sent.append(True))
    assert sent == []
    return raised.value.message


async def test_a_pinned_certificate_needs_no_authority_and_no_name(start, bench, session):
    """A self-made certificate for another name, and over for years, is trusted by its pin, by command and poll."""
    odd = trustme.CA().issue_cert("gateway.example", not_after=LONG_AGO, not_before=LONG_AGO)
    server = await start(showing(odd))
    client = bench.client(server.url, pins=(pin_of(odd),))
    await client.send(session, LISTEN, soon())
    await client.poll(session, hold_seconds=10)
    assert len(server.heard) == 2


async def test_a_certificate_that_is_not_pinned_is_refused(start, bench, session, *, certificate, authority):
    """The right name and an authority of the system do not help: nothing is sent, and the words show what was seen."""
    server = await start(showing(certificate))
    client = bench.client(server.url, pins=("0" * 64, pin_of(authority.issue_cert("127.0.0.1"))))
    told = await refused(client, session)
    assert pin_of(certificate) in told
    with pytest.raises(GatewayMisconfigured, match="pinned"):
        await client.poll(session, hold_seconds=10)
    assert server.heard == []


async def test_two_pins_are_a_rotation(start, bench, session, *, certificate, authority):
    """With the pin of the next certificate beside the present one, the gateway may change over at any time."""
    following = authority.issue_cert("127.0.0.1")
    client_of = {"pins": (pin_of(certificate), pin_of(following))}
    context = showing(certificate)
    server = await start(context)
    client = bench.client(server.url, **client_of)
    server.script.append((server.reply(headers=[("Connection", "close")]), server.CLOSE))
    await client.send(session, LISTEN, soon())
    following.configure_cert(context)
    await client.send(session, LISTEN, soon())
    assert server.connections == 2


async def test_a_client_certificate_is_not_shown_to_whom_is_not_pinned(start, bench, session, *, files, authority):
    """Who has not the pinned certificate sees neither a request nor who asks."""
    seen = []
    context = showing(authority.issue_cert("127.0.0.1"), clients=authority)

    class Nosy(ssl.SSLObject):
        def do_handshake(self):
            super().do_handshake()
            seen.append(self.getpeercert(binary_form=True))

    context.sslobject_class = Nosy
    server = await start(context)
    files.show(authority.issue_cert("adapter.example"))
    await refused(bench.client(server.url, pins=("0" * 64,), **files.pair), session)
    await server.until(lambda g: g.open_connections == 0)
    assert [one for one in seen if one] == []


def test_a_pin_holds_on_uvloop(session, certificate):
    """The service may run on another event loop, with a TLS of its own: a pin is checked there too."""

    async def main():
        server = ScriptedGateway(tls=showing(certificate))
        await server.start()
        for pin, outcome in ((pin_of(certificate), None), ("0" * 64, GatewayMisconfigured)):
            settings = GatewaySettings(server.url, pins=(pin,))
            client = GatewayClient(GatewayTransport(settings), settings, lambda _call: None)
            if outcome is None:
                await client.send(session, LISTEN, soon())
            else:
                with pytest.raises(outcome, match="pinned"):
                    await client.send(session, LISTEN, soon())
            await client.close()
        assert len(server.heard) == 1
        await server.stop()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


async def test_an_expired_certificate_is_refused(start, bench, session, *, files, authority):
    """A certificate of the right authority that is over is not trusted, and the words say so."""
    over = authority.issue_cert("127.0.0.1", not_before=LONG_AGO, not_after=LONG_AGO)
    server = await start(showing(over))
    assert "expired" in await refused(bench.client(server.url, ca_file=files.ca_file), session)
    assert server.heard == []


async def test_another_authority_is_refused(start, bench, session, *, files, certificate, other_authority):
    """A gateway whose certificate another authority signed than the configured one is not trusted."""
    server = await start(showing(certificate))
    files.trust(other_authority)
    assert "not trusted" in await refused(bench.client(server.url, ca_file=files.ca_file), session)


@pytest.mark.parametrize("pinned", [False, True], ids=["authority", "pin"])
async def test_an_old_version_of_tls_is_refused(bench, session, *, files, certificate, pinned):
    """A gateway that speaks TLS 1.1 at most is not spoken to, also when its certificate is trusted."""
    context = showing(certificate)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    trust = {"pins": (pin_of(certificate),)} if pinned else {"ca_file": files.ca_file}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = asyncio.create_task(asyncio.to_thread(serve_one_handshake, listener, context))
        client = bench.client(f"https://127.0.0.1:{listener.getsockname()[1]}", **trust)
        assert "TLS 1.2" in await refused(client, session)
        await server


async def test_an_authority_is_changed_without_cutting_a_poll(start, bench, session, *, files, certificate):
    """With a new CA file new connections trust the new authority; a poll under way, and its event, are not touched."""
    new = trustme.CA()
    context = showing(certificate)
    server = await start(context)
    client = bench.client(server.url, ca_file=files.ca_file)
    told = asyncio.Event()
    server.script.append((told, server.reply(b'{"retcode":"0","event":{"eventType":"AgentState_Busy"}}')))
    poll = asyncio.ensure_future(client.poll(session, hold_seconds=10))
    await server.until(lambda g: len(g.heard) == 1)
    new.issue_cert("127.0.0.1").configure_cert(context)
    assert "not trusted" in await refused(client, session)
    files.trust(new)
    client.reload_trust()
    await client.send(session, LISTEN, soon())
    told.set()
    assert [event.event_type for event in (await poll).events] == ["AgentState_Busy"]
    assert server.connections == 2  # the poll's, and the one of the new authority; what was refused never stood


async def test_a_file_that_was_only_touched_changes_no_connection(start, bench, session, *, files, certificate):
    """The same certificates written again cost no new handshake."""
    server = await start(showing(certificate))
    client = bench.client(server.url, ca_file=files.ca_file)
    await client.send(session, LISTEN, soon())
    files.touch()
    client.reload_trust()
    await client.send(session, LISTEN, soon())
    assert server.connections == 1


async def test_a_client_certificate_is_rotated(
    start, bench, session, *, files, certificate, authority, other_authority
):
    """When the gateway trusts the next authority of clients, the pair that was put in place meanwhile is shown."""
    context = showing(certificate, clients=authority)
    server = await start(context)
    files.show(authority.issue_cert("adapter.example"))
    client = bench.client(server.url, ca_file=files.ca_file, **files.pair)
    await client.send(session, LISTEN, soon())
    changed = await start(showing(certificate, clients=other_authority))
    moved = bench.client(changed.url, ca_file=files.ca_file, **files.pair)
    files.show(other_authority.issue_cert("adapter.example"))
    for one in (client, moved):
        one.reload_trust()
    await moved.send(session, LISTEN, soon())
    assert len(changed.heard) == 1


@pytest.mark.parametrize("broken", ["half", "garbage", "missing", "no authority"])
async def test_what_is_of_no_use_changes_nothing(start, bench, session, *, files, certificate, authority, broken):
    """A certificate without its key, garbage, a file that is gone: refused with words, and the old ones stay in use."""
    server = await start(showing(certificate, clients=authority))
    files.show(authority.issue_cert("adapter.example"))
    client = bench.client(server.url, ca_file=files.ca_file, **files.pair)
    files.spoil(broken)
    with pytest.raises((ValueError, OSError)) as raised:
        client.reload_trust()
    assert "PRIVATE" not in str(raised.value)
    await client.send(session, LISTEN, soon())
    assert len(server.heard) == 1
    # The other half comes a moment later.
    files.trust(authority)
    files.show(authority.issue_cert("next.example"))
    client.reload_trust()
    await client.send(session, LISTEN, soon())
    assert server.connections == 2
