"""An issuer of tokens with keys of its own, and the server that publishes them, on real sockets."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import time

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

ISSUER = "https://issuer.example"
AUDIENCE = "qc-adapter"
DESK = "system:serviceaccount:desk:desk"
_ALGORITHMS = {"EC": jwt.algorithms.ECAlgorithm, "RSA": jwt.algorithms.RSAAlgorithm, "OKP": jwt.algorithms.OKPAlgorithm}


def ec_key(curve=None):
    """A fresh private key; these are made fast."""
    return ec.generate_private_key(curve or ec.SECP256R1())


def rsa_key(bits=2048):
    """A fresh private key."""
    return rsa.generate_private_key(65537, bits)


def ed_key():
    """A fresh private key."""
    return ed25519.Ed25519PrivateKey.generate()


def jwk(key, kid="one", **more):
    """The key as a row of a key set; of a private key the public part."""
    public = key.public_key()
    kind = {"EllipticCurvePublicKey": "EC", "ECPublicKey": "EC", "RSAPublicKey": "RSA"}.get(
        type(public).__name__, "OKP"
    )
    return {**json.loads(_ALGORITHMS[kind].to_jwk(public)), "kid": kid, "use": "sig"} | more


def key_set(*rows):
    """A key set as it is served."""
    return json.dumps({"keys": list(rows)}).encode()


def claims(seconds=600, **more):
    """What stands in a good token; a claim that is None is left out."""
    made = {"iss": ISSUER, "aud": [AUDIENCE], "sub": DESK, "exp": int(time.time() + seconds)} | more
    return {name: value for name, value in made.items() if value is not None}


def token(key, kid="one", algorithm="ES256", headers=None, **more):
    """A signed token."""
    payload = json.dumps(claims(**more)).encode()  # not by `jwt.encode`, which has its own mind of claims
    return jwt.PyJWS().encode(payload, key, algorithm, headers={"typ": "JWT", "kid": kid} | (headers or {}))


def part(value):
    """A part of a token, from bytes or from what JSON can hold."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def forged(header, payload, signature=b""):
    """A token that no library would make."""
    return ".".join((part(header), part(payload), part(signature)))


class KeyServer:
    """A server of keys that answers as it is told: `body` with `status`, or what `handle` does."""

    def __init__(self):
        self.body = key_set()
        self.status = 200
        self.headers = {}
        self.handle = None
        self.shown = []
        self.port = 0
        self._runner = None

    @property
    def asked(self):
        """How often it was asked."""
        return len(self.shown)

    async def start(self, certificate=None):
        """Listen, on the same port as before if there was one; with TLS if there is a certificate."""
        context = None
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            certificate.configure_cert(context)
        app = web.Application()
        app.router.add_get("/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=context)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self):
        """Go away."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _answer(self, request):
        self.shown.append(request.headers.get("Authorization", ""))
        if self.handle is not None:
            return await self.handle(request)
        return web.Response(body=self.body, status=self.status, headers=self.headers)


async def never(_request):
    """Take a request and say nothing."""
    await asyncio.Event().wait()
