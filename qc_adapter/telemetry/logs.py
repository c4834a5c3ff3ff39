"""One JSON object a line for everything that is logged, by us or by a library."""

from __future__ import annotations

import logging
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import orjson
import structlog

from qc_adapter.model.inspector import DEFAULT_GATEWAY, GATEWAY_NAME
from qc_adapter.telemetry.correlation import current_trace
from qc_adapter.telemetry.redaction import redact, scrub

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

    from structlog.typing import Processor

Level = Literal["debug", "info", "warning", "error"]

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_HEADER_READER = "opentelemetry.trace"
_GRPC = "grpc._cython.cygrpc"
#: What it says of a header that is no text, and quotes as a whole; and of an answer whose caller is gone already.
_OF_CALLERS = ("Invalid encoding on", "ExecuteBatchError raised in core")


def configure(level: Level = "info", stream: BinaryIO | None = None, *, json: bool = True) -> None:
    """
    Route all logs of the process to the stream, standard output by default.

    With `json=False` and a terminal the lines are made for people. May be called again; `reset` undoes it.
    """
    out = sys.stdout.buffer if stream is None else stream
    render = _to_json if json or not out.isatty() else _to_console()
    processors: list[Processor] = [
        structlog.processors.add_log_level,
        Stamper(),
        structlog.processors.format_exc_info,
        name_gateway,
        name_trace,
        redact,
        render,
    ]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.BytesLoggerFactory(out),
        cache_logger_on_first_use=True,
    )
    _route_libraries(processors, out, _LEVELS[level])


class Stamper:
    """Says when, in UTC; the second is put together once for all of its lines."""

    __slots__ = ("_clock_ns", "_second", "_text")

    def __init__(self, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._clock_ns = clock_ns
        self._second, self._text = -1, ""

    def __call__(self, _logger: Any, _name: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Stamp a line."""
        second, nanos = divmod(self._clock_ns(), 1_000_000_000)
        if second != self._second:
            self._second, self._text = second, datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        line["timestamp"] = f"{self._text}.{nanos // 1000:06d}Z"
        return line


def reset() -> None:
    """Go back to how logging is before `configure`."""
    structlog.reset_defaults()
    root = logging.getLogger()
    for handler in [one for one in root.handlers if isinstance(one, LibraryLogs)]:
        root.removeHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger(_HEADER_READER).setLevel(logging.NOTSET)
    logging.getLogger(_GRPC).removeFilter(_is_of_us)


class LibraryLogs(logging.Handler):
    """Writes what libraries log in the form of our own lines."""

    def __init__(self, processors: list[Processor], out: BinaryIO) -> None:
        super().__init__()
        self._processors = processors
        self._writer = structlog.BytesLogger(out)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record. What it says is a text by others, so all of it is searched for secrets."""
        try:
            line: Any = {"event": scrub(record.getMessage()), "logger": record.name}
            if record.exc_info:
                line["exc_info"] = record.exc_info
            for process in self._processors:
                line = process(None, record.levelname.lower(), line)
            self._writer.msg(line)
        except Exception:  # noqa: BLE001 - the rule of logging: a failing log line never fails its caller
            self.handleError(record)


def _route_libraries(processors: list[Processor], out: BinaryIO, level: int) -> None:
    """Send the standard library's logging the same way; libraries are heard from warnings on."""
    reset_level = max(level, logging.WARNING) if level != logging.DEBUG else logging.INFO
    root = logging.getLogger()
    for handler in [one for one in root.handlers if isinstance(one, LibraryLogs)]:
        root.removeHandler(handler)
    root.addHandler(LibraryLogs(processors, out))
    root.setLevel(reset_level)
    # It warns of each tracestate that it cannot read: what a caller sends would be a line of ours.
    logging.getLogger(_HEADER_READER).setLevel(logging.ERROR)
    # It quotes headers that are no text: a token with one wrong byte in it, or as much as an attacker likes. And it
    # takes a caller that hangs up at the last moment for an error, with a page of places in the code.
    logging.getLogger(_GRPC).addFilter(_is_of_us)


def _is_of_us(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(_OF_CALLERS)


def name_gateway(_logger: Any, _name: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Say of each line about an inspector at which gateway; the id then is the one that the gateway knows."""
    agent_id = line.get("agent_id")
    if isinstance(agent_id, str):
        gateway, slash, number = agent_id.rpartition("/")
        if not slash:
            line["gateway"] = DEFAULT_GATEWAY
        elif GATEWAY_NAME.fullmatch(gateway):
            line["gateway"], line["agent_id"] = gateway, number
    return line


def name_trace(_logger: Any, _name: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Say of each line that is written for a call in which trace that is, by a library as well."""
    trace = current_trace()
    if trace is not None:
        line.setdefault("trace_id", trace.trace_id)
    return line


def _to_json(_logger: Any, _name: str, line: MutableMapping[str, Any]) -> bytes:
    """Return the line as bytes. `redact` left nothing that needs more than plain JSON."""
    return orjson.dumps(line, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS, default=_type_name)


def _to_console() -> Processor:
    render = structlog.dev.ConsoleRenderer()

    def to_bytes(logger: Any, name: str, line: MutableMapping[str, Any]) -> bytes:
        return str(render(logger, name, line)).encode()

    return to_bytes


def _type_name(value: Any) -> str:
    return f"<{type(value).__name__}>"
