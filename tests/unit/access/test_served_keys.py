"""Keys from a server, on real sockets: fetched when they are needed, and kept when the server is not well."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path

import pytest
import trustme
from aiohttp import web

from qc_adapter.access.keys_url import ServedKeys
from qc_adapter.model.errors import CallerUnverifiable
from qc_adapter.settings import TokenSettings
from tests.support.tokens import AUDIENCE, ISSUER, KeyServer, ec_key, jwk, key_set, never
from tests.support.watching import leaving_nothing, recorded, until

FIRST, SECOND = (jwk(ec_key(), name) for name in ("first", "second"))
CANARY = "server-token-canary"


class Counts:
    """Notes what is counted."""

    def __init__(self):
        self.seen = []

    def reloaded(self, what, *, refused):
        self.seen.append((what, refused))


@pytest.fixture
def tape():
    with recorded() as made:
        yield made


@pytest.fixture
async def nothing_leaks():
    """After the test tasks and sockets are what they were."""
    async with leaving_nothing():
        yield


@pytest.fixture
async def server(nothing_leaks):
    made = KeyServer()
    made.body = key_set(FIRST)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def keys_of(nothing_leaks, tape):
    """A function that opens the keys of a server; they are closed at the end, and leave no task."""
    opened = []

    def begin(server, *, start=True, url="", pause_seconds=0.0, **files):
        url = url or f"http://127.0.0.1:{server.port}/jwks"
        settings = TokenSettings(ISSUER, AUDIENCE, jwks_url=url, **files)
        keys = ServedKeys(settings, Counts(), pause_seconds=pause_seconds, jitter=lambda: 1e6)
        keys.counts = keys._counts
        opened.append(keys)
        if start:
            keys.start()
        return keys

    yield begin
    for keys in opened:
        await keys.stop()
    assert [task for task in asyncio.all_tasks() if "keys" in task.get_name()] == []
    assert CANARY not in tape.getvalue().decode()


async def known(keys):
    """Wait until there are keys."""
    await until(lambda: keys._keys, "keys")


async def test_keys_are_there_before_anybody_asks(keys_of, server, tape):
    """They are fetched at the start, and nobody waits for another fetch."""
    keys = keys_of(server)
    await known(keys)
    assert await keys.find("first") is not None
    assert server.asked == 1
    assert keys.counts.seen == [("jwks", False)]
    assert [line["event"] for line in tape.lines] == ["reloaded"]


async def test_a_new_key_is_fetched_when_a_token_names_it(keys_of, server):
    """One fetch for all that wait for it; a key that the server took away is gone after it."""
    keys = keys_of(server)
    await known(keys)
    before = keys.version
    server.body = key_set(SECOND)
    found = await asyncio.gather(*(keys.find("second") for _ in range(20)))
    assert None not in found
    assert server.asked == 2
    assert keys.version is not before
    assert await keys.find("first") is None


async def test_strangers_make_no_load_for_the_server(keys_of, server):
    """Names of no key are looked up once in a while, not each time."""
    keys = keys_of(server, pause_seconds=1000)
    await known(keys)
    for number in range(50):
        assert await keys.find(f"unknown-{number}") is None
    assert server.asked == 1


async def test_few_calls_wait_for_new_keys(keys_of, server, monkeypatch):
    """When more come they are told to try again; one that gives up takes nothing from the others."""
    monkeypatch.setattr("qc_adapter.access.keys_url._MOST_WAITING", 3)
    leave = asyncio.Event()

    async def slow(_request):
        await leave.wait()
        return web.Response(body=key_set(FIRST))

    server.handle = slow
    keys = keys_of(server)
    waiting = [asyncio.create_task(keys.find("first")) for _ in range(3)]
    await until(lambda: keys._waiting == 3, "three that wait")
    with pytest.raises(CallerUnverifiable, match="too many"):
        await keys.find("first")
    waiting[0].cancel()
    leave.set()
    ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(ended[0], asyncio.CancelledError)
    assert None not in ended
    assert server.asked == 1


async def test_keys_stay_while_the_server_is_away(keys_of, server, tape):
    """What is in hand stays in use, log and metric say so once, and new keys are taken when it is back."""
    keys = keys_of(server)
    await known(keys)
    await server.stop()
    assert await keys.find("second") is None
    assert await keys.find("second") is None
    assert await keys.find("first") is not None
    assert keys.counts.seen == [("jwks", False), ("jwks", True)]
    server.body = key_set(FIRST, SECOND)
    await server.start()
    assert await keys.find("second") is not None
    assert keys.counts.seen[2:] == [("jwks", False)]
    refused = [line for line in tape.lines if line["event"] == "reload_refused"]
    assert [(line["what"], line["count"]) for line in refused] == [("jwks", 1)]


@pytest.fixture
def patience(monkeypatch):
    """A function that sets how long a server may take."""
    return lambda seconds: monkeypatch.setattr("qc_adapter.access.keys_url.FETCH_SECONDS", seconds)


async def garbage(_request):
    return web.Response(body=b"<html>keys</html>")


async def huge(_request):
    return web.Response(body=b" " * 300_000)


async def bomb(_request):
    return web.Response(body=gzip.compress(b" " * 10_000_000), headers={"Content-Encoding": "gzip"})


async def elsewhere(request):
    if request.path != "/jwks":
        return web.Response(body=key_set(FIRST))
    raise web.HTTPFound("/moved")


async def refusing(_request):
    raise web.HTTPForbidden(text=CANARY)


async def headers_without_end(_request):
    return web.Response(
        body=key_set(FIRST), headers={f"x-{number}": "y" * 7000 for number in range(3)} | {"x-long": "y" * 100_000}
    )


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (garbage, "no JSON"),
        (huge, "larger than"),
        (bomb, "no JSON"),
        (elsewhere, "elsewhere"),
        (refusing, "refuses us"),
        (headers_without_end, "cannot be asked"),
        (never, "did not answer"),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
async def test_an_answer_that_is_no_key_set_is_not_taken(keys_of, server, patience, answer, why):
    """No redirect is followed, nothing is unpacked, nothing is read without end; callers are told to come again."""
    if answer is never:
        patience(0.3)
    server.handle = answer
    keys = keys_of(server)
    with pytest.raises(CallerUnverifiable):
        await keys.find("first")
    assert why in keys._refused
    assert keys.counts.seen == [("jwks", True)]


async def test_a_server_is_trusted_by_its_certificate_and_shown_our_token(keys_of, tmp_path, monkeypatch):
    """By the CA of the file, with the token as it is at each request, and never by way of a proxy."""
    authority, other = trustme.CA(), trustme.CA()
    ca, wrong_ca, token_file = tmp_path / "ca.pem", tmp_path / "other.pem", tmp_path / "token"
    authority.cert_pem.write_to_path(ca)
    other.cert_pem.write_to_path(wrong_ca)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    token_file.write_text(f"{CANARY}\n")
    served = KeyServer()
    served.body = key_set(FIRST)
    await served.start(authority.issue_cert("localhost"))
    url = f"https://localhost:{served.port}/jwks"
    try:
        keys = keys_of(served, url=url, jwks_ca_file=str(ca), jwks_token_file=str(token_file))
        await known(keys)
        token_file.write_text(f"{CANARY}-2\n")
        await keys.find("second")
        assert served.shown == [f"Bearer {CANARY}", f"Bearer {CANARY}-2"]
        for wrong, why in (
            ({"jwks_ca_file": str(wrong_ca)}, "not trusted: see QC_JWT_JWKS_CA_FILE"),
            ({"url": url.replace("localhost", "127.0.0.1")}, "another name than the one in QC_JWT_JWKS_URL"),
            ({"url": "https://127.0.0.1:1/jwks"}, "cannot be connected to ("),
        ):
            keys = keys_of(served, **{"url": url, "jwks_ca_file": str(ca)} | wrong)
            with pytest.raises(CallerUnverifiable):
                await keys.find("first")
            assert why in keys._refused
        assert served.asked == 2
    finally:
        await served.stop()


@pytest.mark.parametrize("content", [None, b"two\nlines", "token-\u00e9".encode()], ids=["none", "lines", "not ASCII"])
async def test_a_token_file_that_holds_none_is_told(keys_of, server, tape, tmp_path, content):
    """The server is not asked without it, or with something that would break the request."""
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CallerUnverifiable):
        await keys_of(server, jwks_token_file=str(Path(path))).find("first")
    assert server.asked == 0
    assert "QC_JWT_JWKS_TOKEN_FILE" in tape.lines[0]["detail"]


async def test_keys_that_are_not_started_ask_nobody(keys_of, server):
    """Before the start and after the end no connection is made."""
    keys = keys_of(server, start=False)
    with pytest.raises(CallerUnverifiable):
        await keys.find("first")
    assert server.asked == 0
