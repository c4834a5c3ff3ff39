"""Keys of callers' tokens from the server that publishes them: asked now and then, and when a token names a new one."""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import aiohttp
import structlog

from qc_adapter.access.keys import LARGEST_KEY_SET, read_keys
from qc_adapter.model.errors import CallerUnverifiable
from qc_adapter.watched import Unusable

if TYPE_CHECKING:
    from collections.abc import Callable

    from qc_adapter.access.keys import Key, KeySet
    from qc_adapter.settings import TokenSettings

#: Less than what `check --connect` waits for.
FETCH_SECONDS: Final = 4.0
_REFRESH_SECONDS: Final = 300.0
#: Between two requests, whatever tokens name: strangers must not make us a load for the server of keys.
_PAUSE_SECONDS: Final = 10.0
#: So many calls may wait for new keys at once; they hold nothing but their place.
_MOST_WAITING: Final = 100
_LONGEST_TOKEN: Final = 16 * 1024
#: OpenSSL: the certificate is for another host, or another address.
_OTHER_HOST: Final = (62, 64)


class Counts(Protocol):
    """What is counted of keys."""

    def reloaded(self, what: str, *, refused: bool) -> None: ...


async def fetch_keys(server: TokenSettings) -> KeySet:
    """
    Return the keys that are served; raises `Unusable`, which says what to change.

    The CA file and our own token are read each time: both rotate. No redirects and no proxies are followed: where the
    keys come from is what all trust in tokens hangs on.
    """
    try:
        async with asyncio.timeout(FETCH_SECONDS):
            return read_keys(await _body(server))
    except TimeoutError:
        raise Unusable(f"the server of keys did not answer within {FETCH_SECONDS:g} s") from None
    except aiohttp.ClientConnectorCertificateError as failure:
        raise Unusable(_untrusted(failure.certificate_error)) from None
    except aiohttp.ClientConnectorDNSError:
        raise Unusable("the name of the server of keys does not resolve: see QC_JWT_JWKS_URL") from None
    except aiohttp.ClientConnectorError as failure:
        why = failure.os_error.strerror or type(failure.os_error).__name__
        raise Unusable(f"the server of keys cannot be connected to ({why}): see QC_JWT_JWKS_URL") from None
    except (aiohttp.ClientError, ValueError) as failure:  # their texts may repeat what was received
        raise Unusable(f"the server of keys cannot be asked ({type(failure).__name__})") from None


async def _body(server: TokenSettings) -> bytes:
    try:
        # System CAs take their time to be read, and disks too.
        trust, token = await asyncio.to_thread(_trust_and_token, server)
    except OSError as failure:  # SSLError is one
        raise Unusable(f"QC_JWT_JWKS_CA_FILE or QC_JWT_JWKS_TOKEN_FILE: {failure.strerror or 'unreadable'}") from None
    headers = {"Accept": "application/jwk-set+json, application/json", "Accept-Encoding": "identity"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    async with (
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=trust, limit=1),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
        ) as client,
        client.get(server.jwks_url, headers=headers, allow_redirects=False) as reply,
    ):
        if reply.status != 200:
            raise Unusable(_refusal(reply.status))
        body = b""
        async for piece in reply.content.iter_any():
            body += piece
            if len(body) > LARGEST_KEY_SET:
                break  # `read_keys` says so
        return body


def _trust_and_token(server: TokenSettings) -> tuple[ssl.SSLContext, str]:
    token = ""
    if server.jwks_token_file:
        with Path(server.jwks_token_file).open("rb") as file:
            token = file.read(_LONGEST_TOKEN).decode("ascii", "replace").strip()
        if not token.isascii() or not token.isprintable():
            raise Unusable("QC_JWT_JWKS_TOKEN_FILE holds no token")
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # the default one heeds SSLKEYLOGFILE
    trust.minimum_version = ssl.TLSVersion.TLSv1_2
    if server.jwks_ca_file:
        trust.load_verify_locations(server.jwks_ca_file)
    else:
        trust.load_default_certs()
    return trust, token


def _untrusted(error: Exception) -> str:
    if getattr(error, "verify_code", 0) in _OTHER_HOST:
        return "the certificate of the server of keys is for another name than the one in QC_JWT_JWKS_URL"
    return "the certificate of the server of keys is not trusted: see QC_JWT_JWKS_CA_FILE"


def _refusal(status: int) -> str:
    if status in {401, 403}:
        return f"the server of keys refuses us (HTTP {status}): see QC_JWT_JWKS_TOKEN_FILE"
    if 300 <= status < 400:
        return f"the server of keys sends us elsewhere (HTTP {status}): set QC_JWT_JWKS_URL to where the keys are"
    return f"the server of keys answers HTTP {status}"


class ServedKeys:
    """
    The keys as they were served last.

    While the server is away, or serves what cannot be used, those in hand stay in use: that tokens stop to work because
    of it would harm more than a key that is withdrawn late. Log and metrics tell of it.
    """

    def __init__(
        self,
        server: TokenSettings,
        counts: Counts,
        *,
        jitter: Callable[[], float] = lambda: random.uniform(0.8, 1.2),  # noqa: S311 - no secret
        pause_seconds: float = _PAUSE_SECONDS,
    ) -> None:
        self._server = server
        self._counts = counts
        self._jitter = jitter
        self._pause_seconds = pause_seconds
        self._keys: KeySet = {}
        self.version = object()
        self._refused = ""
        self._asked_at: float | None = None
        self._fetching: asyncio.Task[None] | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self._waiting = 0
        self._log = structlog.get_logger()

    def start(self) -> None:
        """Begin to ask, in the running loop."""
        self._refreshing = asyncio.create_task(self._refresh(), name="keys of tokens")

    async def stop(self) -> None:
        """Ask no more; whoever waits for keys goes away unknown."""
        tasks = [task for task in (self._refreshing, self._fetching) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._refreshing = self._fetching = None

    async def find(self, kid: str) -> Key | None:
        """Return the key of that name, after a look whether it is new; raises `CallerUnverifiable` without any keys."""
        found = self._keys.get(kid)
        if found is None:
            await self._look()
            found = self._keys.get(kid)
        if found is None and not self._keys:
            raise CallerUnverifiable("the keys of tokens are not there yet")
        return found

    def holds(self, key: Key) -> bool:
        """Whether that key is among those that were served last."""
        return self._keys.get(key.kid) == key

    async def _look(self) -> None:
        """Have new keys fetched, or wait for those that are under way."""
        if self._refreshing is None or (self._fetching is None and not self._may_ask()):
            return
        if self._waiting >= _MOST_WAITING:
            raise CallerUnverifiable("too many calls wait for new keys of tokens")
        fetching = self._fetch()
        self._waiting += 1
        try:
            # Whoever gives up takes the keys from nobody else.
            await asyncio.wait((fetching,))
        finally:
            self._waiting -= 1

    def _may_ask(self) -> bool:
        return self._asked_at is None or time.monotonic() - self._asked_at >= self._pause_seconds

    def _fetch(self) -> asyncio.Task[None]:
        if self._fetching is None:
            self._asked_at = time.monotonic()
            self._fetching = asyncio.create_task(self._take(), name="fetch keys of tokens")
        return self._fetching

    async def _take(self) -> None:
        try:
            keys = await fetch_keys(self._server)
        except Unusable as failure:
            self._refuse(str(failure))
        except Exception as defect:  # noqa: BLE001 - it is told, and the next request may fare better
            self._log.error("reload_failed", what="jwks", exc_info=defect)
            self._refuse(f"a defect: {type(defect).__name__}")
        else:
            if self._refused or keys != self._keys:
                self._keys, self._refused, self.version = keys, "", object()
                self._counts.reloaded("jwks", refused=False)
                self._log.info("reloaded", what="jwks", count=len(keys))
        finally:
            self._fetching = None

    def _refuse(self, why: str) -> None:
        if why != self._refused:
            self._counts.reloaded("jwks", refused=True)
            self._log.warning("reload_refused", what="jwks", detail=why, count=len(self._keys))
        self._refused = why

    async def _refresh(self) -> None:
        while True:
            await asyncio.wait((self._fetch(),))
            seconds = self._pause_seconds if self._refused else _REFRESH_SECONDS
            await asyncio.sleep(seconds * self._jitter())
