"""What a log line looks like, and what can never be in one."""

from __future__ import annotations

import io
import json
import logging

import pytest
import structlog

from qc_adapter.model.errors import GatewayUnavailable
from qc_adapter.model.session import Secret, Session
from qc_adapter.telemetry import logs

GUID = "3c1e0f5a-99d4-4b0e-8a7c-6f1d2e3b4a5c.AgentGateway7"
SESSION_ID = "0a1b2c3d4e5f60718293a4b5c6d7e8f90123456789abcdef.AgentGateway0"
TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJY2FuYXJ5In0.c2lnbmVk-Y2FuYXJ5"
PASSWORD = "canary-hunter2"


@pytest.fixture
def written():
    stream = io.BytesIO()
    logs.configure("info", stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logs.reset()


def test_a_line_is_one_json_object(written):
    """Event, level, UTC time and the fields that were given."""
    structlog.get_logger().info("intercept_refused", agent_id="101", duration_ms=1.5, note="two\nlines")
    [line] = written()
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "intercept_refused",
        "level": "info",
        "agent_id": "101",
        "gateway": "default",
        "duration_ms": 1.5,
        "note": "two\nlines",
    }


def test_a_line_about_an_inspector_says_at_which_gateway(written):
    """The id is the one that the gateway knows; what a caller made up stays as it was."""
    for agent_id in ("101", "north/101", "North/101"):
        structlog.get_logger().info("signed_in", agent_id=agent_id)
    told = [(line["agent_id"], line.get("gateway")) for line in written()]
    assert told == [("101", "default"), ("101", "north"), ("North/101", None)]


def test_lines_below_the_level_are_not_written(written):
    """At info nothing of debug is seen."""
    structlog.get_logger().debug("poll_ended")
    assert written() == []


def test_each_line_says_when_it_was_written():
    """The time is UTC to the microsecond, also where the second has no fraction and where the next one begins."""
    times = iter([1_700_000_000_000_000_999, 1_700_000_000_999_999_999, 1_700_000_001_000_001_000])
    stamp = logs.Stamper(lambda: next(times))
    assert [stamp(None, "info", {})["timestamp"] for _ in range(3)] == [
        "2023-11-14T22:13:20.000000Z",
        "2023-11-14T22:13:20.999999Z",
        "2023-11-14T22:13:21.000001Z",
    ]


def test_libraries_log_in_the_same_form(written):
    """A warning of a library is an object too, with its logger's name."""
    logging.getLogger("aiohttp.client").warning("slow %s", "answer")
    [line] = written()
    assert (line["event"], line["logger"], line["level"]) == ("slow answer", "aiohttp.client", "warning")


def test_chatter_of_libraries_is_left_out(written):
    """At info the libraries are heard from warnings on."""
    logging.getLogger("redis").info("connected")
    assert written() == []


def test_a_caller_that_hangs_up_at_the_last_moment_is_no_error(written):
    """What grpc says of an answer that nobody was there to take is left out, its defects are not."""
    grpc_log = logging.getLogger("grpc._cython.cygrpc")
    grpc_log.error("ExecuteBatchError raised in core by servicer method [%s]", "/qc_adapter.v1.InspectorEvents/Watch")
    grpc_log.error("Unexpected [%s] raised by servicer method [%s]", "KeyError", "/any")
    [line] = written()
    assert line["event"] == "Unexpected [KeyError] raised by servicer method [/any]"


def test_an_exception_is_part_of_its_line(written):
    """The traceback is a field, not lines of its own."""
    try:
        _ = 1 // int("0")
    except ZeroDivisionError:
        structlog.get_logger().exception("handler_failed")
        logging.getLogger("grpc").exception("unexpected")
    ours, theirs = written()
    assert ours["exception"].endswith("ZeroDivisionError: integer division or modulo by zero")
    assert theirs["exception"].endswith("ZeroDivisionError: integer division or modulo by zero")


def test_a_value_that_is_not_json_does_not_lose_the_line(written):
    """A field of any type is shown by its type at least."""
    structlog.get_logger().info("odd", thing=object(), raw=b"x", agents={"b"}, failure=OSError("text"))
    [line] = written()
    assert (line["thing"], line["raw"], line["agents"], line["failure"]) == ("<object>", "<bytes>", ["b"], "<OSError>")


def test_an_error_of_ours_is_shown_with_its_message(written):
    """Domain errors are written by us and hold no secrets, so their text is kept."""
    structlog.get_logger().info("failed", failure=GatewayUnavailable("intercept", "nothing was sent"))
    assert written()[0]["failure"] == "GatewayUnavailable: nothing was sent"


def test_configuring_twice_writes_each_line_once():
    """A second configuration replaces the first one."""
    first, second = io.BytesIO(), io.BytesIO()
    try:
        logs.configure("info", first)
        logs.configure("info", second)
        logging.getLogger("grpc").warning("once")
        structlog.get_logger().info("twice")
    finally:
        logs.reset()
    assert first.getvalue() == b""
    assert second.getvalue().count(b"\n") == 2


def test_people_get_json_too_unless_they_sit_at_a_terminal():
    """Without a terminal the console form is not used, whatever was asked for."""
    stream = io.BytesIO()
    try:
        logs.configure("info", stream, json=False)
        structlog.get_logger().info("started")
    finally:
        logs.reset()
    assert json.loads(stream.getvalue())["event"] == "started"


def test_the_console_form_is_readable():
    """At a terminal a line is text, without secrets as well."""

    class Terminal(io.BytesIO):
        def isatty(self):
            return True

    stream = Terminal()
    try:
        logs.configure("info", stream, json=False)
        structlog.get_logger().info("started", guid=GUID, port=50051)
    finally:
        logs.reset()
    assert b"started" in stream.getvalue()
    assert GUID.encode() not in stream.getvalue()


@pytest.mark.parametrize(
    "fields",
    [
        {"guid": GUID},
        {"Guid": GUID, "Set-GUID": GUID, "Set-Cookie": f"JSESSIONID={GUID}"},
        {"password": PASSWORD, "service_token": PASSWORD, "serviceToken": PASSWORD, "Authorization": PASSWORD},
        {"value": Secret(PASSWORD)},
        {"values": [Secret(PASSWORD), {"deep": (Secret(PASSWORD),)}]},
        {"session": Session("101", Secret(GUID), cookies=Secret(PASSWORD))},
        {"sent": {"agent": "101", "headers": {"Guid": GUID}, "password": PASSWORD}},
        {"headers": {"Guid": GUID}},
        {"text": f"reply with Set-GUID: JSESSIONID={GUID}; path=/"},
        {"text": f"guid={PASSWORD} was refused"},
        {"text": f'{{"password": "{PASSWORD}", "phonenum": "40038"}}'},
        {"store": f"redis://me:{PASSWORD}@cache:6379/0"},
        {"text": f"sent authorization: Bearer {PASSWORD}"},
        {"text": "sent {'authorization': 'Basic " + PASSWORD + "'}"},
        {"text": f"{SESSION_ID}, JSESSIONID={SESSION_ID} and {SESSION_ID.upper()} are unknown"},
        {"text": f"the token {TOKEN} is too old"},
        {"failure": ValueError(PASSWORD)},
        {"raw": PASSWORD.encode()},
    ],
)
def test_a_planted_secret_never_shows(written, fields):
    """By its name, its type or its shape a secret is kept out of the line, and the line is kept."""
    structlog.get_logger().info("planted", **fields)
    [line] = written()
    assert line["event"] == "planted"
    assert "canary" not in json.dumps(line)
    assert not [one for one in ("3c1e0f5a", "0a1b2c3d", "y2fuyxj5") if one in json.dumps(line).lower()]


def test_a_secret_in_a_library_s_text_or_traceback_never_shows(written):
    """Texts by others are searched for the shapes of secrets."""
    library = logging.getLogger("aiohttp")
    library.warning("bad header Guid: %s", GUID)
    library.warning("cannot reach redis://:%s@cache", PASSWORD)
    library.warning("sent %r", {"Guid": PASSWORD, "password": PASSWORD})
    try:
        int(f"no such session {GUID}, password={PASSWORD}")
    except ValueError:
        library.exception("failed")
        structlog.get_logger().exception("failed")
    assert len(written()) == 5
    assert "canary" not in json.dumps(written())
    assert "3c1e0f5a" not in json.dumps(written())


def test_ids_that_look_like_guids_are_kept(written):
    """A caller's request id may be a UUID: it is what the line is found by."""
    structlog.get_logger().info("intercept_finished", request_id=GUID[:36], trace_id="ab" * 16)
    assert written()[0]["request_id"] == GUID[:36]
