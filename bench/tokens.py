"""
What a caller's token costs the adapter: CPU time of a call with one and without, in batches that take turns.

Two adapters run side by side, one that takes tokens and one that does not. A pair of batches, one to each, sees the
same machine; the ratio is the median over the pairs. Beside it what a token costs when it is seen for the first time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import grpc
import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from bench.children import running
from qc_adapter.access.keys_file import KeysInFile
from qc_adapter.access.tokens import Tokens
from qc_adapter.v1 import quality_control_pb2 as pb
from qc_adapter.v1 import quality_control_pb2_grpc, sessions_pb2, sessions_pb2_grpc

if TYPE_CHECKING:
    from bench.children import Bench

ISSUER: Final = "https://kubernetes.default.svc.cluster.local"
AUDIENCE: Final = "qc-adapter"
SPARE_SECONDS: Final = 300.0
AT_ONCE: Final = 32
FIRST_INSPECTOR: Final = 1000
KEYS: Final = {"RS256": rsa.generate_private_key(65537, 2048), "ES256": ec.generate_private_key(ec.SECP256R1())}


def write_keys(path: Path) -> None:
    """Write the key set."""
    rows = [
        json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(KEYS["RS256"].public_key())) | {"kid": "RS256"},
        json.loads(jwt.algorithms.ECAlgorithm.to_jwk(KEYS["ES256"].public_key())) | {"kid": "ES256"},
    ]
    path.write_text(json.dumps({"keys": rows}))


def token(algorithm: str = "RS256", number: int = 0) -> str:
    """Return a token of the size that Kubernetes makes."""
    subject = f"system:serviceaccount:desk:desk-{number}"
    more = {"namespace": "desk", "pod": {"name": "desk-5c95fc3a-x2x4z", "uid": "0" * 36}, "warnafter": 1}
    claims = {"iss": ISSUER, "aud": [AUDIENCE], "sub": subject, "exp": int(time.time()) + 3600, "kubernetes.io": more}
    return jwt.encode(claims, KEYS[algorithm], algorithm, headers={"kid": algorithm})


class Side:
    """One of the two adapters, and the calls to it."""

    def __init__(self, bench: Bench, channel: grpc.aio.Channel, headers: tuple[tuple[str, str], ...]) -> None:
        self._bench = bench
        self._headers = headers
        self._sessions: Any = sessions_pb2_grpc.InspectorSessionsStub(channel)
        self._commands: Any = quality_control_pb2_grpc.QualityControlStub(channel)

    async def adopt(self) -> None:
        """Give the adapter a session for each caller."""
        for number in range(AT_ONCE):
            guid = f"{number:048x}.AgentGateway0"
            request = sessions_pb2.AdoptRequest(agent_id=str(FIRST_INSPECTOR + number), guid=guid)
            await self._sessions.Adopt(request, timeout=10, metadata=self._headers)

    async def intercepts(self, calls: int) -> float:
        """Return the CPU microseconds of an intercept."""
        left = iter(range(calls))

        async def one(number: int) -> None:
            request = pb.InterceptRequest(agent_id=str(FIRST_INSPECTOR + number), work_no="292")
            request.options.follow = pb.FOLLOW_NONE
            for _ in left:
                async for _update in self._commands.Intercept(request, timeout=60, metadata=self._headers):
                    pass

        return await self._spent(calls, *(one(number) for number in range(AT_ONCE)))

    async def lists(self, calls: int) -> float:
        """Return the CPU microseconds of the cheapest call there is: a list of nothing."""
        left = iter(range(calls))

        async def one() -> None:
            request = sessions_pb2.ListRequest()
            for _ in left:
                await self._sessions.List(request, timeout=60, metadata=self._headers)

        return await self._spent(calls, *(one() for _ in range(AT_ONCE)))

    async def _spent(self, calls: int, *callers: Any) -> float:
        before = self._bench.adapter.footprint().cpu_seconds
        await asyncio.gather(*callers)
        return (self._bench.adapter.footprint().cpu_seconds - before) / calls * 1e6


async def compare(name: str, plain: Any, shown: Any, calls: int, pairs: int) -> None:
    """Print the ratio of the second to the first."""
    await plain(calls // 2)
    await shown(calls // 2)
    seen = []
    for number in range(pairs):
        # Whoever is first in one pair is second in the next.
        if number % 2:
            second, first = await shown(calls), await plain(calls)
        else:
            first, second = await plain(calls), await shown(calls)
        seen.append((first, second))
    ratios = sorted(second / first for first, second in seen)
    plain_us, shown_us = (statistics.median(one[place] for one in seen) for place in (0, 1))
    print(
        f"{name:12}{plain_us:8.0f} CPU us a call without a token{shown_us:8.0f} with one; ratio "
        f"{statistics.median(ratios):.3f}, pairs {ratios[0]:.3f} to {ratios[-1]:.3f}",
        flush=True,
    )


async def alone(path: Path) -> None:
    """Print what the reader of tokens itself takes, without a call around it."""
    for algorithm in KEYS:
        tokens = Tokens(ISSUER, AUDIENCE, KeysInFile(str(path)))
        fresh = [f"Bearer {token(algorithm, number)}" for number in range(1000)]
        costs = []
        for _ in range(2):
            began = time.process_time()
            for one in fresh:
                await tokens.caller_of(one)
            costs.append((time.process_time() - began) / len(fresh) * 1e6)
        print(f"{algorithm:12}{costs[0]:8.1f} us for a token that is new{costs[1]:8.1f} us for one that is known")


async def run(options: argparse.Namespace) -> int:
    """Measure."""
    with tempfile.TemporaryDirectory(prefix="qc-load-") as folder:
        path = Path(folder, "jwks.json")
        write_keys(path)
        await alone(path)
        plain = {"QC_POLL_PAUSE_SECONDS": "0.2"}
        shown = {"QC_JWT_ISSUER": ISSUER, "QC_JWT_AUDIENCE": AUDIENCE, "QC_JWT_JWKS_FILE": str(path)}
        async with (
            asyncio.timeout(SPARE_SECONDS),
            running(None, plain, gateway="lean_gateway_child") as first,
            running(
                None, plain | ({} if options.ignored or options.control else shown), gateway="lean_gateway_child"
            ) as second,
            grpc.aio.insecure_channel(first.target) as to_first,
            grpc.aio.insecure_channel(second.target) as to_second,
        ):
            headers = (("authorization", f"Bearer {token()}"),)
            without = Side(first, to_first, ())
            with_one = Side(second, to_second, () if options.control else headers)
            # Before anybody is signed in: polls would be in the figures.
            await compare("List", without.lists, with_one.lists, 2 * options.calls, options.pairs)
            for side in (without, with_one):
                await side.adopt()
            await compare("Intercept", without.intercepts, with_one.intercepts, options.calls, options.pairs)
    return 0


def main() -> int:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=1500, help="in each batch")
    parser.add_argument("--pairs", type=int, default=31)
    parser.add_argument(
        "--ignored", action="store_true", help="the second takes no tokens: what the header itself costs"
    )
    parser.add_argument("--control", action="store_true", help="and is shown none: what the two differ by themselves")
    return asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
