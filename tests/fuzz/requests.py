"""Requests of callers: bytes through the chain around every call, the decoding and the checks of every rpc."""
# ruff: noqa: PT017 - an error of the reader is one of its answers, and has rules too

from __future__ import annotations

import io
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import grpc
import orjson
import structlog
from grpc import StatusCode
from hypothesis import strategies as st

from qc_adapter.commands.model import Accepted
from qc_adapter.events.hub import Hub
from qc_adapter.events.inlet import MemoryInlet
from qc_adapter.model.errors import CursorExpired, InvalidCursor
from qc_adapter.model.inspector import is_inspector_id
from qc_adapter.model.session import EventSource, Secret, Session
from qc_adapter.rpc.calls import CallInterceptor
from qc_adapter.rpc.inspector_events import InspectorEvents
from qc_adapter.rpc.inspector_sessions import InspectorSessions
from qc_adapter.rpc.observers import CallLog
from qc_adapter.rpc.parse import Parser
from qc_adapter.rpc.quality_control import QualityControl
from qc_adapter.sessions.memory import MemorySessionStore
from qc_adapter.telemetry import logs
from qc_adapter.v1 import (
    events_pb2,
    events_pb2_grpc,
    quality_control_pb2,
    quality_control_pb2_grpc,
    sessions_pb2,
    sessions_pb2_grpc,
)
from tests.fuzz.replies import envelopes
from tests.fuzz.target import CANARY, Target, chosen, head_and_rest, run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

_LARGEST_STATUS = 4096
_LONGEST_LINE = 2000
_FILES = (quality_control_pb2, sessions_pb2, events_pb2)
#: The type of the request by the path of the method.
REQUESTS: dict[str, Any] = {
    f"/{service.full_name}/{method.name}": getattr(file, method.input_type.name)
    for file in _FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
#: What callers keep secret of themselves, and send.
_SECRETS = ("password", "guid")
_KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
_ALLOWED = {StatusCode.OK, StatusCode.INVALID_ARGUMENT}
#: A well-formed cursor of a log that is no more.
_EXPIRED = StatusCode.OUT_OF_RANGE


class _Aborted(Exception):
    """What gRPC raises from `abort`."""


class Caller:
    """What gRPC would tell of a call, and what the caller was told."""

    def __init__(self, request: bytes, metadata: tuple[tuple[str, str], ...] = ()) -> None:
        self._requests = [request]
        self._metadata = metadata
        self.code = StatusCode.OK
        self.told = b""
        #: The messages of a stream.
        self.written: list[Any] = []
        self._over: list[Callable[[Caller], None]] = []

    def add_done_callback(self, tell: Callable[[Caller], None]) -> None:
        self._over.append(tell)

    def end(self) -> None:
        """The call is over: all that it held is given back."""
        for tell in self._over:
            tell(self)

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self._metadata

    async def read(self) -> Any:
        return self._requests.pop() if self._requests else grpc.aio.EOF

    async def write(self, message: Any) -> None:
        self.written.append(message)
        assert len(self.written) < 1000

    def auth_context(self) -> dict[str, Any]:
        return {}

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    def time_remaining(self) -> float:
        return -1.0  # a stream that has nothing more to say ends at once

    def set_code(self, code: StatusCode) -> None:
        self.code = code

    def set_details(self, message: str) -> None:
        self.told += message.encode()

    def set_trailing_metadata(self, metadata: Any) -> None:
        self.told += b"".join(value for _, value in metadata)

    async def abort(self, code: StatusCode, message: str, trailing_metadata: Any = ()) -> None:
        self.set_code(code)
        self.set_details(message)
        self.set_trailing_metadata(trailing_metadata)
        raise _Aborted


class Domain:
    """Stands for everything behind the checks, and looks at what gets so far."""

    def __init__(self) -> None:
        self.store = MemorySessionStore()

    async def run(self, command: Any, _deadline: Any) -> AsyncIterator[Any]:
        request = command.request
        assert is_inspector_id(command.agent_id)
        assert request.path.isascii()
        assert not set(request.path) & set("?#; \\\r\n%")
        assert ".." not in request.path
        assert 0 < command.confirm_within_seconds <= 300
        assert len(command.request_id) <= 132
        yield Accepted("c-1", command.method, "", 0.0)

    def between(self, *_arguments: Any) -> list[Any]:
        return []

    async def get(self, agent_id: str) -> Session:
        assert is_inspector_id(agent_id)
        return Session(agent_id, Secret("g"), EventSource.NONE)

    async def sign_in(self, agent_id: str, orders: Any, **_how: Any) -> Any:
        session = await self.get(agent_id)
        assert len(orders.form.password.reveal()) <= 32
        return SimpleNamespace(session=session, must_change_password=False, password_days_left=None)

    async def sign_out(self, agent_id: str, **_how: Any) -> None:
        await self.get(agent_id)

    async def adopt(self, agent_id: str, guid: Secret, _source: Any) -> Session:
        await self.store.put(Session(agent_id, guid))
        return await self.get(agent_id)

    async def update_guid(self, agent_id: str, _deadline: Any) -> Session:
        return await self.get(agent_id)

    async def list(self, after: str, size: int, *_wanted: Any) -> tuple[list[Any], str]:
        assert after == "" or is_inspector_id(after)
        assert 0 < size <= 1000
        return [await self.get("101")], ""

    async def statuses(self, _agent_ids: Any) -> dict[str, Any]:
        return {}

    async def kept(self, _agent_ids: Any) -> dict[str, Any]:
        return {}

    def event_delivered(self, *_what: Any) -> None:
        pass

    event_read = gap = event_delivered


class _Registry:
    """Takes what the generated code registers."""

    def __init__(self) -> None:
        self.handlers: dict[str, Any] = {}

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        pass

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        self.handlers |= {f"/{service}/{name}": handler for name, handler in handlers.items()}


@cache
def _chain() -> CallInterceptor:
    """Return the interceptor of all inputs: what it sets a timer for stays until the timer ends."""
    return CallInterceptor({}, [CallLog()])


class Door:
    """The servicers behind their interceptor, with our log around them and nothing else."""

    def __init__(self) -> None:
        domain, parser, registry = Domain(), Parser({"default": 59999, "north": 999999}, 10.0), _Registry()
        self.hub = Hub(capacity=64)
        inlet = MemoryInlet(domain.store, self.hub)
        any_domain: Any = domain
        events = InspectorEvents(
            parser, sessions=domain, follows=self.hub, hub=self.hub, inlet=inlet, counts=domain, bookmark_seconds=1.0
        )
        any_registry: Any = registry
        quality_control_pb2_grpc.add_QualityControlServicer_to_server(
            QualityControl(parser, any_domain, domain), any_registry
        )
        sessions = InspectorSessions(parser, any_domain, domain, any_domain)
        sessions_pb2_grpc.add_InspectorSessionsServicer_to_server(sessions, any_registry)
        events_pb2_grpc.add_InspectorEventsServicer_to_server(events, any_registry)
        self._interceptor = _chain()
        self._handlers = registry.handlers
        self.domain = domain

    async def call(self, path: str, caller: Caller) -> list[bytes]:
        """Run one call and return its messages as they would go out."""
        details: Any = SimpleNamespace(method=path)

        async def found(_details: Any) -> Any:
            return self._handlers.get(path)

        handler: Any = await self._interceptor.intercept_service(found, details)
        answers: list[bytes] = []
        try:
            # Who reads the request is for the chain to choose: gRPC, or itself.
            request = None if handler.request_streaming else await caller.read()
            handle = next(one for one in (getattr(handler, kind) for kind in _KINDS) if one is not None)
            answer = await handle(request, caller)
            told = caller.written if handler.response_streaming else [answer]
            answers += map(handler.response_serializer, told)
        except _Aborted:
            pass
        finally:
            caller.end()
        return answers


def check_request(data: bytes) -> None:
    """
    Whatever the bytes, a call is served or ends with INVALID_ARGUMENT; a cursor may be expired, a session not there.

    The status fits into a trailer, the log has one line, and neither holds a password or GUID of the request.
    """
    head, body = head_and_rest(data)
    path = chosen(head, sorted(REQUESTS))
    kind = REQUESTS[path]
    run(_serve(path, body))
    planted = _planted(kind, body)
    if planted is not None:
        run(_serve(path, planted))


def _planted(kind: Any, body: bytes) -> bytes | None:
    """Return the request with the canary in the place of its secrets."""
    try:
        message = kind.FromString(body)
    except Exception:  # noqa: BLE001 - it was told to the caller already
        return None
    fields = [name for name in _SECRETS if getattr(message, name, "")]
    for name in fields:
        setattr(message, name, CANARY + getattr(message, name)[: len(CANARY)])
    return message.SerializeToString() if fields else None


async def _serve(path: str, body: bytes) -> None:
    lines = io.BytesIO()
    logs.configure("debug", lines)
    structlog.configure(cache_logger_on_first_use=False)
    try:
        door, caller = Door(), Caller(body)
        await door.domain.store.put(Session("101", Secret("g"), EventSource.NONE))
        answers = await door.call(path, caller)
    finally:
        logs.reset()
    told = caller.told + b"".join(answers) + lines.getvalue()
    assert CANARY.encode() not in told
    allowed = _ALLOWED | ({_EXPIRED} if path.endswith("/Watch") else set())
    if path.endswith("/Feed"):
        allowed |= {StatusCode.FAILED_PRECONDITION}  # nobody else is signed in here
    if path.endswith("/Watch"):
        allowed |= {StatusCode.DEADLINE_EXCEEDED}  # how a stream without events ends here
    assert caller.code in allowed, (caller.code, caller.told, lines.getvalue())
    assert len(caller.told) <= _LARGEST_STATUS, len(caller.told)
    [line] = lines.getvalue().splitlines()
    assert len(line) <= _LONGEST_LINE
    assert orjson.loads(line)["event"] == "call_finished"


_ids = st.sampled_from(["101", "292", "north/101", "/101", "default/101", "59999", "0", "", "101\n", "9" * 40])
_texts = _ids | st.text(max_size=12)


def _filled(kind: Any) -> st.SearchStrategy[bytes]:
    """Return requests of that type with fields that are often right."""

    def value(field: Any) -> st.SearchStrategy[Any]:
        if field.name == "body":
            return envelopes()
        if field.type == field.TYPE_BYTES:
            return st.binary(max_size=30)
        if field.type == field.TYPE_STRING:
            if field.name in {"cursor", "page_token", "request_id", "call_id"}:
                return _texts | st.sampled_from(["oldest", "0123456789ab-7", "a" * 129, "1456401416-3", ".."])
            return _texts
        if field.type == field.TYPE_BOOL:
            return st.booleans()
        if field.type == field.TYPE_ENUM:
            return st.integers(-1, 6)
        if field.message_type is not None:
            return message(field.message_type)
        unsigned = field.type in {field.TYPE_UINT32, field.TYPE_UINT64}
        return st.integers(0, 3) | st.integers(0 if unsigned else -(2**31), 2**31 - 1)

    def message(descriptor: Any) -> st.SearchStrategy[dict[str, Any]]:
        return st.fixed_dictionaries(
            {},
            optional={
                field.name: st.lists(value(field), max_size=4) if field.is_repeated else value(field)
                for field in descriptor.fields
            },
        )

    return message(kind.DESCRIPTOR).map(lambda fields: kind(**fields).SerializeToString())


def _requests() -> st.SearchStrategy[bytes]:
    def of(path: str) -> st.SearchStrategy[bytes]:
        bodies = _filled(REQUESTS[path]) | st.binary(max_size=20)
        return bodies.map(lambda body: path.encode() + b"\n" + body)

    return st.sampled_from(sorted(REQUESTS)).flatmap(of)


def check_cursor(data: bytes) -> None:
    """A text of a caller is a place in the log, or an error that says so; it is the same place when it comes again."""
    text = data.decode("utf-8", "replace")
    hub = Hub(capacity=4)
    feed = hub.feed("101")
    for known in (text, f"{feed.epoch}-{text}"):
        try:
            place = feed.locate(known)
        except InvalidCursor:
            continue
        except CursorExpired as expired:
            assert feed.locate(expired.go_on) >= 0
            continue
        assert feed.locate(feed.cursor(place)) == place


def _cursors() -> st.SearchStrategy[bytes]:
    return (st.text(max_size=20) | st.from_regex(r"[0-9a-f]{12}-[0-9]{1,16}") | st.integers().map(str)).map(
        lambda text: text.encode("utf-8", "replace")
    )


TARGETS = (Target("request", check_request, _requests), Target("cursor", check_cursor, _cursors))
