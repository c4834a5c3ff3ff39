"""A client whose certificate is renewed in its files: what runs goes on, and what begins shows the new one."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from grpc import StatusCode

from qc_adapter.client import CallFailed, CertificateFiles, QualityControlClient
from tests.support.certificates import Authority, Mounted

ROOT = Authority("all")
OWN = ROOT.issue("localhost")
FIRST, SECOND = ROOT.issue("spiffe://example/desk"), ROOT.issue("spiffe://example/desk")


@pytest.fixture
async def guarded(replica):
    """A replica that wants certificates."""
    await replica.stop()
    replica.port = 0
    pair = (OWN.key, OWN.certificate)
    await replica.start(grpc.ssl_server_credentials([pair], ROOT.pem, require_client_auth=True))
    return replica


@pytest.fixture
def mounted(tmp_path):
    """The caller's files, as Kubernetes mounts them."""
    made = Mounted(tmp_path)
    made.turn(ca=ROOT.pem, cert=FIRST.certificate, key=FIRST.key)
    return made


@pytest.fixture
async def client(guarded, mounted, quick):
    """A client with those files."""
    files = CertificateFiles(mounted.path("ca"), mounted.path("cert"), mounted.path("key"))
    target = f"localhost:{guarded.port}"
    async with QualityControlClient(target, files, timing=quick, jitter=lambda: 1.0) as opened:
        yield opened


def ended(status):
    """What an adapter says when the certificate of a stream has ended."""
    return status(StatusCode.UNAUTHENTICATED, "CALLER_UNKNOWN")


def shown(replica):
    """The certificates of all watches so far, with line ends as they were issued."""
    return [one.strip() for one in replica.certificates]


def connections(port):
    """The connections of this process to that port, by the kernel."""
    to_port = f":{port:04X}"
    lines = [line.split() for file in ("tcp", "tcp6") for line in Path("/proc/net", file).read_text().splitlines()[1:]]
    return [line for line in lines if line[2].endswith(to_port) and line[3] == "01"]


async def test_a_watch_outlives_its_certificate(client, guarded, mounted, log, status):
    """When the adapter ends the stream for its certificate, the watch goes on with the renewed one, without a gap."""
    guarded.watches = [[1, ended(status)]]
    log.append("a", "b")
    async with client.watch("101", "oldest") as events:
        assert (await anext(events)).event.event_type == "a"
        mounted.turn(ca=ROOT.pem, cert=SECOND.certificate, key=SECOND.key)
        assert (await anext(events)).event.event_type == "b"
        assert events.gaps == 0
    assert shown(guarded) == [FIRST.certificate.strip(), SECOND.certificate.strip()]


async def test_a_certificate_that_is_not_renewed_ends_the_watch(client, guarded, log, status):
    """With the same files it would be refused for ever: the reader is told."""
    guarded.watches = [[1, ended(status)]]
    log.append("a")
    async with client.watch("101", "oldest") as events:
        await anext(events)
        with pytest.raises(CallFailed) as failed:
            await anext(events)
    assert failed.value.reason == "CALLER_UNKNOWN"
    assert len(guarded.requests) == 1


async def test_streams_that_run_are_not_cut_for_a_new_certificate(client, guarded, mounted, log, until):
    """What began on the old connection stays there, and that closes with the last of it."""
    log.append("a")
    async with client.watch("101", "oldest") as new:
        async with client.watch("101", "oldest") as old:
            await anext(old)
            mounted.turn(ca=ROOT.pem, cert=SECOND.certificate, key=SECOND.key)
            await anext(new)
            assert shown(guarded) == [FIRST.certificate.strip(), SECOND.certificate.strip()]
            log.append("b")
            assert [(await anext(one)).event.event_type for one in (old, new)] == ["b", "b"]
            assert len(connections(guarded.port)) == 2
        await until(lambda: len(connections(guarded.port)) == 1, "the end of the old connection")
        log.append("c")
        assert (await anext(new)).event.event_type == "c"


async def test_half_of_a_new_pair_changes_nothing(client, guarded, mounted, log):
    """A certificate whose key is not there yet is not used; with the key it is."""
    log.append("a")
    mounted.turn(ca=ROOT.pem, cert=SECOND.certificate, key=FIRST.key)
    for expected, files in ((FIRST, None), (SECOND, {"cert": SECOND.certificate, "key": SECOND.key})):
        if files:
            mounted.turn(ca=ROOT.pem, **files)
        async with client.watch("101", "oldest") as events:
            await anext(events)
        assert shown(guarded)[-1] == expected.certificate.strip()


async def test_a_client_that_closes_ends_what_runs_on_old_connections(client, guarded, mounted, log, until):
    """No stream and no connection outlives the client."""
    log.append("a")
    old, new = client.watch("101", "oldest"), client.watch("101", "oldest")
    await anext(old)
    mounted.turn(ca=ROOT.pem, cert=SECOND.certificate, key=SECOND.key)
    await anext(new)
    await client.close()
    for one in (old, new):
        with pytest.raises(CallFailed, match="CLIENT_CLOSED"):
            await anext(one)
    await until(lambda: not guarded.open, "the end of all calls")


@pytest.mark.parametrize(("cert", "key"), [(FIRST, SECOND), (FIRST, None)], ids=["other-key", "no-key"])
async def test_files_that_cannot_be_used_are_told_at_once(tmp_path, cert, key):
    """Nothing is called with a pair that does not fit, and a missing half is named."""
    (tmp_path / "cert").write_bytes(cert.certificate)
    if key:
        (tmp_path / "key").write_bytes(key.key)
    files = CertificateFiles(None, tmp_path / "cert", tmp_path / "key" if key else None)
    with pytest.raises(ValueError, match=r"are no certificate and its key|belong together"):
        await QualityControlClient("localhost:1", files).open()
