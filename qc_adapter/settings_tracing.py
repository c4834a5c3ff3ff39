"""The OTEL_ variables that decide on traces; a value that nobody can have meant is refused like any other setting."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from qc_adapter.environment import Variable, listen, readable_file, seconds, whole_number
from qc_adapter.telemetry.export import INSTALL, TracingSettings, installed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qc_adapter.environment import Reading

_RATIOS: Final = ("traceidratio", "parentbased_traceidratio")
_SAMPLERS: Final = ("always_on", "always_off", "parentbased_always_on", "parentbased_always_off", *_RATIOS)
_EXPORTER: Final = "OTEL_TRACES_EXPORTER"
_MOST: Final = 10**9
#: What both the SDK and gRPC take. A name with -bin at its end would be for bytes.
_HEADER: Final = re.compile(r"(?![^=]*-bin=)[A-Za-z0-9_.-]+=[ !#-+\--:<-\[\]-~]*", re.IGNORECASE)


def _endpoint(text: str) -> str:
    wrong = "must be http://host:port, https://host:port or host:port, for example http://collector:4317"
    if "://" not in text:
        if text:
            try:
                listen(text)
            except ValueError:
                raise ValueError(wrong) from None
        return text
    try:
        parts = urlsplit(text)
        known = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        known = False
    if not known or not text.isascii() or " " in text:
        raise ValueError(wrong)
    if "@" in parts.netloc:
        raise ValueError("must not have a user or password: OTEL_EXPORTER_OTLP_HEADERS is the place for them")
    return text


def _sampler(text: str) -> str:
    if text.lower() not in _SAMPLERS:
        raise ValueError(f"must be one of {', '.join(_SAMPLERS)}")
    return text.lower()


def _ratio(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise ValueError("must be a number from 0 to 1: the share of the traces that are recorded")
    return value


def _compression(text: str) -> str:
    if text.lower() not in {"", "gzip"}:
        raise ValueError("must be gzip or not set")
    return text


def _headers(text: str) -> str:
    for pair in filter(None, map(str.strip, text.split(","))):
        name, equals, value = map(str.strip, pair.partition("="))
        sent = unquote(value)
        # What the SDK cannot read it would write into the log as it stands, the secret in it as well.
        if not (_HEADER.fullmatch(name + equals + value) and sent.isascii() and sent.isprintable()):
            raise ValueError(
                "must be name=value, with commas between several: a name of letters, digits, '-', '_' and '.', "
                "not ending in -bin; in a value ',', ';', '\"' and '\\' are written as %2C, %3B, %22 and %5C"
            )
    return text


def _number(text: str) -> int | None:
    return whole_number(1, _MOST)(text) if text else None


def _seconds(text: str) -> float | None:
    return seconds(text) if text else None


SAMPLER: Final = Variable("OTEL_TRACES_SAMPLER", "parentbased_always_on", "which traces", _sampler)
RATIO: Final = Variable("OTEL_TRACES_SAMPLER_ARG", "1", "share of the traces", _ratio)
ENDPOINTS: Final = tuple(
    Variable(name, "", "the collector", _endpoint)
    for name in ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
)
_QUEUE: Final = Variable("OTEL_BSP_MAX_QUEUE_SIZE", "2048", "spans in hand", whole_number(1, _MOST))
_BATCH: Final = Variable("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "512", "spans sent at once", whole_number(1, _MOST))
#: The SDK reads these by itself, and some wrong values of them would end the process.
_FOR_THE_SDK: Final[tuple[Variable[Any], ...]] = (
    Variable("OTEL_BSP_SCHEDULE_DELAY", "", "ms between batches", _number),
    *(
        variable
        for part in ("OTEL_EXPORTER_OTLP", "OTEL_EXPORTER_OTLP_TRACES")
        for variable in (
            Variable(f"{part}_TIMEOUT", "", "seconds for a batch", _seconds),
            Variable(f"{part}_COMPRESSION", "", "gzip", _compression),
            Variable(f"{part}_HEADERS", "", "what the collector wants to see", _headers, secret=True),
            Variable(f"{part}_CERTIFICATE", "", "CA of the collector", readable_file),
            Variable(f"{part}_CLIENT_KEY", "", "our key", readable_file),
            Variable(f"{part}_CLIENT_CERTIFICATE", "", "our certificate", readable_file),
        )
    ),
)


def read_tracing(environment: Mapping[str, str], reading: Reading) -> tuple[TracingSettings | None, list[str]]:
    """
    Return where traces go, None for nowhere, and what is doubtful about it.

    What is right for another exporter is no mistake, but a doubt: these variables are often set for a whole cluster.
    """
    named = [variable for variable in ENDPOINTS if reading.text(variable)]
    if not named or _text(environment, "OTEL_SDK_DISABLED").lower() == "true":
        return None, []
    exporter = _text(environment, _EXPORTER).lower() or "otlp"
    if exporter == "none":
        return None, []
    if exporter not in {"otlp", "otlp_proto_grpc"}:
        return None, [f"{_EXPORTER} is {exporter[:20]!a}, which is not supported: traces are off"]
    for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if protocol := _text(environment, name).lower():
            if protocol != "grpc":
                what = (
                    f"{name} is {protocol[:20]!a}: traces are off, for they go out by OTLP over gRPC only (port 4317)"
                )
                return None, [what]
            break
    tracing = _read(named[0], reading)
    if not installed():
        return None, [f"{named[0].name} is set and the OpenTelemetry SDK is not installed: traces are off; {INSTALL}"]
    return tracing, []


def _read(endpoint: Variable[str], reading: Reading) -> TracingSettings:
    for variable in _FOR_THE_SDK:
        reading.value(variable)
    queue, batch = reading.value(_QUEUE), reading.value(_BATCH)
    if reading.sound(_QUEUE, _BATCH) and batch > queue:
        reading.complain(_BATCH.name, str(batch), f"must be at most {_QUEUE.name} ({queue})")
    sampler = reading.value(SAMPLER)
    ratio = reading.value(RATIO) if sampler in _RATIOS else 1.0
    return TracingSettings(reading.value(endpoint), sampler, ratio)


def _text(environment: Mapping[str, str], name: str) -> str:
    return environment.get(name, "").strip()
