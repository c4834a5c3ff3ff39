"""The OTEL_ variables: what turns traces on and off, what is refused, and what is only doubtful."""

from __future__ import annotations

import sys

import pytest
from opentelemetry.util.re import parse_env_headers

from qc_adapter.settings import InvalidSettings, read_settings
from qc_adapter.telemetry.export import Export, TracingSettings

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
LEAST = {"QC_GATEWAY_URL": "https://gateway:8043"}
ON = LEAST | {ENDPOINT: "http://collector:4317"}


def problems(environment):
    """The names of the variables that are complained about, and all the text."""
    with pytest.raises(InvalidSettings) as refused:
        read_settings(environment)
    return {problem.variable for problem in refused.value.problems}, str(refused.value)


def test_an_endpoint_turns_traces_on():
    """Nothing else is needed; by default the caller decides, and everything is recorded where none did."""
    assert read_settings(LEAST).tracing is None
    settings = read_settings(ON)
    assert settings.tracing == TracingSettings("http://collector:4317", "parentbased_always_on", 1.0)
    assert settings.warnings == ()


def test_the_endpoint_of_traces_comes_before_the_general_one():
    """As the standard says."""
    both = ON | {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "traces:4317"}
    assert read_settings(both).tracing.endpoint == "traces:4317"


@pytest.mark.parametrize("off", [{"OTEL_SDK_DISABLED": "True"}, {"OTEL_TRACES_EXPORTER": "none"}, {ENDPOINT: " "}])
def test_traces_can_be_turned_off(off):
    """Then nothing about them is looked at, and nothing is doubtful."""
    settings = read_settings(ON | {"OTEL_TRACES_SAMPLER": "nonsense"} | off)
    assert (settings.tracing, settings.warnings) == (None, ())


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        (ENDPOINT, "collector"),
        (ENDPOINT, "ftp://collector:4317"),
        (ENDPOINT, "http://:4317"),
        (ENDPOINT, "http://collector:port"),
        (ENDPOINT, "http://collector:70000"),
        (ENDPOINT, "http://user:canary@collector:4317"),
        ("OTEL_TRACES_SAMPLER", "sometimes"),
        ("OTEL_TRACES_SAMPLER_ARG", "10%"),
        ("OTEL_TRACES_SAMPLER_ARG", "1.1"),
        ("OTEL_TRACES_SAMPLER_ARG", "nan"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
        ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "zip"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "canary"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "Authorization: Basic canary=="),
        ("OTEL_EXPORTER_OTLP_HEADERS", "tenant=qc,my key=canary"),
        ("OTEL_EXPORTER_OTLP_HEADERS", 'authorization="canary"'),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=canary;q=1"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=canary%0A"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=canary%C3%A9"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "Key-Bin=canary"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/there/is/none"),
        ("OTEL_BSP_SCHEDULE_DELAY", "0"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "many"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "511"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused(variable, value):
    """It is named like any other mistake in the settings, before the SDK stumbles over it."""
    names, text = problems(ON | {"OTEL_TRACES_SAMPLER": "traceidratio"} | {variable: value})
    assert names <= {variable, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"}
    assert names
    assert "canary" not in text


@pytest.mark.parametrize(
    "headers",
    ["", "api-key=canary", "Authorization=Basic Y2FuYXJ5==, tenant_1 = a:b@c/d,", "x-y.z=Bearer%20canary%2C%22", "a="],
)
def test_the_sdk_writes_no_header_into_the_log(headers, caplog):
    """Of what is allowed here it reads every header, and complains about none, for it would quote the secret."""
    assert read_settings(ON | {"OTEL_EXPORTER_OTLP_HEADERS": headers}).tracing is not None
    read = parse_env_headers(headers, liberal=True)
    assert len(read) == len([pair for pair in headers.split(",") if pair])
    assert caplog.records == []


@pytest.mark.parametrize("endpoint", ["https://collector", "http://[::1]:4317", "collector:4317", "HTTP://c:1/"])
def test_an_endpoint_may_be_written_in_several_ways(endpoint):
    """With a scheme, which says whether there is TLS, or as gRPC writes it."""
    assert read_settings(ON | {ENDPOINT: endpoint}).tracing.endpoint == endpoint


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
    ],
)
def test_what_is_right_for_another_exporter_is_doubtful(variable, value):
    """Such a variable may be set for a whole cluster: the service starts without traces, and says so."""
    settings = read_settings(ON | {variable: value})
    assert settings.tracing is None
    (warning,) = settings.warnings
    assert warning.startswith(f"{variable} is '{value}'")
    assert "traces are off" in warning


@pytest.mark.parametrize("missing", ["opentelemetry.sdk", "opentelemetry.exporter"])
def test_without_the_sdk_traces_are_off_and_it_is_said_how_to_get_it(monkeypatch, missing):
    """The extra may be missing: that is a doubt that names it, and no crash."""
    for name in [name for name in sys.modules if name.startswith(missing)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    settings = read_settings(ON)
    assert settings.tracing is None
    (warning,) = settings.warnings
    assert warning.startswith(f"{ENDPOINT} is set")
    assert "pip install qc-adapter[tracing]" in warning


def test_what_the_sdk_cannot_read_costs_traces_and_not_the_service(monkeypatch):
    """A variable of the SDK that is not looked at here has a wrong value: there is no provider, and no exception."""
    monkeypatch.setenv("OTEL_SPAN_EVENT_COUNT_LIMIT", "many")
    assert Export(read_settings(ON).tracing, "only").provider is None
