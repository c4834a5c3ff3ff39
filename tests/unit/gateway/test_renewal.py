"""GUIDs and cookies in reply headers."""

from __future__ import annotations

import pytest

from qc_adapter.gateway.renewal import read_renewal
from qc_adapter.gateway.wire import ReplyHeaders
from qc_adapter.model.session import Renewal, Secret

GUID = "0a" * 24 + ".AgentGateway0"


def headers(*lines):
    return ReplyHeaders(tuple((name.encode(), value.encode("latin-1")) for name, value in lines))


@pytest.mark.parametrize(
    "line",
    [
        ("Set-GUID", f"JSESSIONID={GUID}"),
        ("set-guid", GUID),
        ("SET-GUID", f"jsessionid={GUID}"),
        ("Set-Guid", f"JSESSIONID={GUID}; Path=/"),
    ],
)
def test_a_guid_comes_in_any_case_and_with_or_without_its_prefix(line):
    """A40, A41: the GUID is what is left without the prefix; its suffix stays."""
    assert read_renewal(headers(line)).renewal == Renewal(guid=Secret(GUID))


@pytest.mark.parametrize("value", ["JSESSIONID=jsessionid=", "JSESSIONID= jsessionid=;x", "jsessionid=" * 3])
def test_a_prefix_without_a_guid_is_none(value):
    """However often the prefix stands there, it is no GUID: to store it would end the reader of a session."""
    assert read_renewal(headers(("Set-GUID", value)), Secret(GUID)).renewal is None


@pytest.mark.parametrize("named", ["JSESSIONID=JSESSIONID=", "JSESSIONID= jsessionid="])
def test_a_guid_is_the_same_however_often_it_is_named(named):
    """What is kept in memory is what the store keeps, which takes a prefix off too."""
    assert read_renewal(headers(("Set-GUID", named + GUID))).renewal == Renewal(guid=Secret(GUID))


@pytest.mark.parametrize(
    "value",
    ["a\r\nX: y", "a\nb", "a\x00b", "a\x7fb", "a b", "ä" * 3, "x" * 4097],
    ids=["crlf", "lf", "nul", "del", "space", "foreign letter", "too long"],
)
def test_a_guid_that_no_header_may_carry_is_refused(value):
    """A50: such a GUID is ignored and reported."""
    reading = read_renewal(headers(("Set-GUID", value)), Secret(GUID))
    assert reading.renewal is None
    assert reading.refused


def test_what_the_session_has_is_no_renewal():
    """A43: no header, an empty one or the present values change nothing."""
    present = (Secret(GUID), Secret("lb=1"))
    for lines in ([], [("Set-GUID", "")], [("Set-GUID", GUID), ("Set-Cookie", "lb=1; Path=/")]):
        reading = read_renewal(headers(*lines), *present)
        assert (reading.renewal, reading.refused) == (None, False)


def test_cookies_are_merged_without_their_attributes():
    """New cookies join or replace the present ones; attributes are dropped."""
    reading = read_renewal(
        headers(("Set-Cookie", "lb=2; Path=/; HttpOnly"), ("set-cookie", "JSESSIONID=abc;Secure")),
        cookies=Secret("lb=1; other=x"),
    )
    assert reading.renewal == Renewal(cookies=Secret("lb=2; other=x; JSESSIONID=abc"))


def test_a_cookie_taken_back_is_dropped():
    """Max-Age of 0 ends a cookie."""
    reading = read_renewal(headers(("Set-Cookie", "lb=; Max-Age=0")), cookies=Secret("lb=1; other=x"))
    assert reading.renewal == Renewal(cookies=Secret("other=x"))


@pytest.mark.parametrize("line", ["lb=a\r\nX: y", "=x", "nothing", "lb=" + "x" * 5000, "l b=1"])
def test_a_cookie_that_no_header_may_carry_is_refused(line):
    """A50: such a cookie is ignored and reported; the present ones stay."""
    reading = read_renewal(headers(("Set-Cookie", line)), cookies=Secret("lb=1"))
    assert reading.renewal is None
    assert reading.refused


def test_headers_do_not_print():
    """Printed headers show no GUID."""
    assert GUID not in repr(headers(("Set-GUID", GUID)))
