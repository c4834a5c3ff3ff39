"""The door of the client helper: one object for all replicas, which opens watches and runs commands."""

from __future__ import annotations

import asyncio
import random
import uuid
from typing import TYPE_CHECKING, Any, Final, Self

from qc_adapter.client.channel import open_channel, replicas_of
from qc_adapter.client.command import CommandResult, CommandUpdates, fitting_timeout_seconds
from qc_adapter.client.operations import Operations
from qc_adapter.client.rotation import Proofs
from qc_adapter.client.timing import Timing
from qc_adapter.client.token import Showing, Shown, Token, check_way
from qc_adapter.client.watch import OnExpired, Plan, Watch
from qc_adapter.v1 import events_pb2_grpc, quality_control_pb2_grpc
from qc_adapter.v1 import quality_control_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import TracebackType

    import grpc

    from qc_adapter.client.rotation import CertificateFiles, RotatingChannel
    from qc_adapter.client.watch import Broken

_CLOSE_SECONDS: Final = 5.0


class QualityControlClient(Operations):
    """
    Calls adapters; `async with QualityControlClient(target) as client`.

    `target` is any target of gRPC, "host:port", "host:port,host:port", or a sequence of those. Calls take turns among
    the replicas that answer. Names in a list of several are looked up once: where replicas come and go use
    "dns:///name:port".

    `credentials` are gRPC's, or the files that hold them: whoever renews those need not tell us. Then new streams and
    calls use what is in the files, and a watch or command whose certificate has ended goes on with the next one.

    With `token` or `token_file` each call shows that token; the file is read anew each time. A watch or command whose
    token has ended goes on with the next one. A token is sent to another machine over TLS only, or with
    `token_unencrypted`, where something else encrypts the way.
    """

    def __init__(
        self,
        target: str | Sequence[str],
        credentials: grpc.ChannelCredentials | CertificateFiles | None = None,
        *,
        token: str | None = None,
        token_file: str | Path | None = None,
        token_unencrypted: bool = False,
        channel_options: Sequence[tuple[str, str | int]] = (),
        timing: Timing | None = None,
        jitter: Callable[[], float] | None = None,
    ) -> None:
        self._replicas = replicas_of(target)
        self._credentials = credentials
        self._token = None if token is None and token_file is None else Token(token, token_file)
        self._token_unencrypted = token_unencrypted
        self._options = tuple(channel_options)
        self._timing = timing or Timing()
        self._jitter = jitter or _half_to_one
        self._channel: grpc.aio.Channel | RotatingChannel | None = None

    @property
    def channel(self) -> grpc.aio.Channel:
        """The channel, for stubs of your own; their calls show the token too."""
        opened: Any = self._opened
        return opened if self._token is None else Showing(opened, self._token)  # type: ignore[return-value]

    @property
    def _opened(self) -> Any:
        if self._channel is None:
            raise RuntimeError("the client is not open: use it as `async with QualityControlClient(...) as client`")
        return self._channel

    async def open(self) -> None:
        """
        Make ready to call.

        Raises OSError or ValueError when a list of several replicas or a file cannot be used, `TokenExposed` when a
        token would be sent unencrypted.
        """
        if self._token is not None:
            check_way(self._replicas, encrypted=self._credentials is not None or self._token_unencrypted)
        self._channel = await open_channel(self._replicas, self._credentials, self._options)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; what still waits for them ends with `CallFailed`, reason CLIENT_CLOSED."""
        if self._channel is not None:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._channel.close()

    def watch(
        self,
        agent_id: str,
        cursor: str = "",
        *,
        on_expired: OnExpired = OnExpired.GAP,
        patience_seconds: float = 300.0,
        bookmarks: bool = False,
        subscribed: bool = False,
        retry_first_failure: bool = True,
        on_broken: Callable[[Broken], None] | None = None,
    ) -> Watch:
        """
        Return the inspector's events and gaps from now on, from "oldest", or right after a cursor.

        `bookmarks` and `subscribed` show those messages too. Without `retry_first_failure` it is an error when the
        first stream cannot be opened. `on_broken` is told of each stream that ended and is resumed.
        """
        begin: Any = events_pb2_grpc.InspectorEventsStub(self._opened).Watch
        proofs = Proofs(Shown(self._token), self._opened)
        return Watch(
            lambda request: begin(request, metadata=proofs.headers()),
            agent_id=agent_id,
            cursor=cursor,
            on_expired=on_expired,
            plan=Plan(patience_seconds, bookmarks, subscribed, retry_first_failure, on_broken, proofs.renewed),
            timing=self._timing,
            jitter=self._jitter,
        )

    def updates(
        self, rpc: str, request: Any, *, timeout_seconds: float | None = None, retry_first_failure: bool = True
    ) -> CommandUpdates:
        """
        Return the updates of a command, as they come; `rpc` is its name in the contract: "Intercept".

        The command begins with the first update that is waited for. Without `timeout_seconds` the deadline fits what is
        followed: `confirm_within` and 20 s, none until the release. Without `retry_first_failure` a failure that did
        nothing is told at once.
        """
        named = type(request)()
        named.CopyFrom(request)
        named.options.request_id = named.options.request_id or str(uuid.uuid4())
        call = getattr(quality_control_pb2_grpc.QualityControlStub(self._opened), rpc)
        proofs = Proofs(Shown(self._token), self._opened)
        return CommandUpdates(
            lambda message, seconds: call(message, timeout=seconds, metadata=proofs.headers()),
            named,
            renewed=proofs.renewed,
            timeout_seconds=fitting_timeout_seconds(named.options) if timeout_seconds is None else timeout_seconds,
            retry_first_failure=retry_first_failure,
            timing=self._timing,
            jitter=self._jitter,
        )

    async def run(
        self,
        rpc: str,
        request: Any,
        *,
        timeout_seconds: float | None = None,
        on_update: Callable[[pb.CommandUpdate], None] | None = None,
    ) -> CommandResult:
        """Run a command to its end; raises `CallFailed`, and `OutcomeUnknown` when it may have been executed."""
        events, gaps = [], []
        accepted, outcome = None, None
        async with self.updates(rpc, request, timeout_seconds=timeout_seconds) as updates:
            async for update in updates:
                match update.WhichOneof("update"):
                    case "accepted":
                        accepted = update.accepted
                    case "event":
                        events.append(update.event)
                    case "gap":
                        gaps.append(update.gap)
                    case "outcome":
                        outcome = update.outcome
                if on_update is not None:
                    on_update(update)
        return CommandResult(updates.request_id, updates.cursor, accepted, outcome, tuple(events), tuple(gaps))


def _half_to_one() -> float:
    return random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret
