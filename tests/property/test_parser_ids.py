"""Which texts are ids: decimal, in the range of the gateway's edition, and nothing that only looks like it."""

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st

from qc_adapter.commands.model import Follow
from qc_adapter.gateway import requests
from qc_adapter.model.errors import InvalidRequest
from qc_adapter.rpc import values
from qc_adapter.rpc.parse import AGENT_ID_MIN, LONGEST_CONFIRMATION_SECONDS, Parser
from qc_adapter.v1 import quality_control_pb2 as pb

PARSER = Parser({"default": 59999, "north": 999999}, 10.0)
maxima = st.sampled_from([59999, 999999])
odd = st.sampled_from(
    ["", "0", "100", "101", "0101", "+101", "-101", "101 ", " 101", "101\n", "1_01", "1e3", "101.0",
     "\uff11\uff10\uff11", "\u0663\u0660\u0660",
     "59999", "60000", "999999", "1000000", "9" * 40, "../101", "101/292", "\x00101"]
)  # fmt: skip


def fields_refused(check):
    """The fields that a check refused; none when it passed."""
    try:
        check()
    except InvalidRequest as refused:
        return [field for field, _ in refused.violations]
    return []


def command_of(request):
    return PARSER.command(request, lambda: PARSER.pair(request), lambda _: requests.intercept("101", "292"))


def is_id(text, longest):
    plain = text.isascii() and text.isdigit() and not text.startswith("0")
    return plain and len(text) < 10 and AGENT_ID_MIN <= int(text) <= longest


@given(maxima, odd | st.text(max_size=12) | st.integers(-10, 2_000_000).map(str) | st.from_regex(r"\A[0-9]{1,9}\Z"))
def test_a_text_is_an_id_only_in_range(longest, text):
    """An id is accepted if and only if it is plain decimal without leading zero and in range."""
    parser = Parser({"default": longest}, 10.0)
    if is_id(text, longest):
        assert parser.agent_id(text) == text
        return
    with pytest.raises(InvalidRequest) as refused:
        parser.agent_id(text)
    assert refused.value.reason == "INVALID_AGENT_ID"
    assert refused.value.message.isascii()
    assert len(refused.value.message) < 250


@given(
    st.sampled_from(["", "default/", "north/", "south/", "/", "North/", "north//"]), st.integers(90, 1_000_005).map(str)
)
def test_an_inspector_may_be_one_of_another_gateway(place, number):
    """A name before the slash chooses the gateway, whose range then counts; the default one needs none."""
    text = place + number
    longest = {"": 59999, "default/": 59999, "north/": 999999}.get(place)
    if longest is not None and AGENT_ID_MIN <= int(number) <= longest:
        assert PARSER.agent_id(text) == (text if place == "north/" else number)
    else:
        with pytest.raises(InvalidRequest) as refused:
            PARSER.agent_id(text)
        assert refused.value.reason == "INVALID_AGENT_ID"


@given(odd | st.integers(101, 300).map(str), odd | st.integers(101, 300).map(str))
def test_a_pair_names_every_problem_at_once(agent_id, work_no):
    """Both ids are checked before a caller hears of one; equal valid ids are a self-inspection."""
    request = pb.ListenRequest(agent_id=agent_id, work_no=work_no)
    bad = [field for field, text in (("agent_id", agent_id), ("work_no", work_no)) if not is_id(text, 59999)]
    if not bad and agent_id != work_no:
        PARSER.pair(request)
        return
    with pytest.raises(InvalidRequest) as refused:
        PARSER.pair(request)
    assert [field for field, _ in refused.value.violations] == (bad or ["work_no"])
    assert refused.value.reason == ("INVALID_AGENT_ID" if bad else "SELF_INSPECTION")


@given(st.text(max_size=140) | st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=140))
def test_a_request_id_is_short_printable_ascii(request_id):
    """A request id goes into logs and keys: 1 to 128 printable ASCII characters, or empty for none."""
    request = pb.InterceptRequest(agent_id="101", work_no="292", options=pb.CommandOptions(request_id=request_id))
    good = len(request_id) <= 128 and all("!" <= char <= "~" for char in request_id)
    refused = fields_refused(lambda: command_of(request))
    assert refused == ([] if good else ["options.request_id"])


@given(st.integers(-1, 301) | st.integers(-(10**9), 10**9), st.integers(-999_999_999, 999_999_999))
def test_confirm_within_is_positive_and_bounded(seconds, nanos):
    """Any duration over 0 and up to the bound is taken as it is; any other is refused."""
    options = pb.CommandOptions()
    options.confirm_within.seconds, options.confirm_within.nanos = seconds, nanos
    request = pb.InterceptRequest(agent_id="101", work_no="292", options=options)
    wanted = seconds + nanos / 1e9
    try:
        command = command_of(request)
    except InvalidRequest:
        assert not 0 < wanted <= LONGEST_CONFIRMATION_SECONDS
    else:
        assert command.confirm_within_seconds == pytest.approx(wanted)


@given(st.integers(-5, 10))
def test_follow_takes_the_values_of_the_contract_only(number):
    """Every value of the proto enum has its meaning, and a number beyond it is refused by name."""
    request = pb.InterceptRequest(agent_id="101", work_no="292", options=pb.CommandOptions(follow=number))
    if number in pb.Follow.values():
        command = command_of(request)
        assert command.follow is Follow[pb.Follow.Name(number).removeprefix("FOLLOW_")]
    else:
        with pytest.raises(InvalidRequest, match=f"options.follow: has no value {number}"):
            command_of(request)


@given(st.text(max_size=70) | st.sampled_from(["1456401416-3", ".", "..", "a/b", "a?b=c", "a%2fb"]))
def test_a_call_id_never_leaves_its_place_in_the_path(call_id):
    """What is accepted as a call id is one quoted part of the path; dots that would climb out are refused."""
    made = []
    refused = fields_refused(lambda: made.append(requests.force_drop_call("101", values.call_id(call_id))))
    assert refused == ([] if made else ["call_id"])
    for request in made:
        assert request.path.count("/") == 4
        assert not set(request.path) & set("?#; \\")


@given(
    st.integers(-2, 86_402) | st.integers(-(10**9), 10**9), st.sampled_from([0, 0, 1, -1, 10**8]), st.integers(0, 300)
)
def test_a_rest_is_whole_seconds_of_less_than_a_day_with_a_cause(seconds, nanos, cause):
    """Length and cause are taken in their ranges only, and both are named when both are wrong."""
    duration = Duration(seconds=seconds, nanos=nanos)
    bad = [
        *([] if 1 <= seconds <= 86_399 and not nanos else ["duration"]),
        *([] if 1 <= cause <= 255 else ["cause"]),
    ]
    assert fields_refused(lambda: values.rest(duration, cause)) == bad


@given(st.lists(st.integers(0, 12) | st.integers(2**31 - 3, 2**32 - 1), max_size=30))
def test_skills_are_positive_and_named_once(ids):
    """Each id that is out of range or comes again is named by its place; of many bad ones the first ten."""
    bad = [place for place, skill in enumerate(ids) if not 1 <= skill < 2**31 or skill in ids[:place]]
    refused = fields_refused(lambda: values.skill_ids(ids))
    if not ids or len(bad) > 10:
        assert refused[len(bad[:10]) :] == ["skill_ids"]
    assert refused[: len(bad[:10])] == [f"skill_ids[{place}]" for place in bad[:10]]


@given(st.lists(st.integers(99, 112).map(str) | odd, min_size=1, max_size=30))
def test_a_group_names_bad_ids_repetitions_and_the_inspector(work_nos):
    """Monitored agents are other agents in range, each once; what is not is named by its place."""
    request = pb.MonitorRequest(agent_id="101", work_nos=work_nos)
    bad = {
        place
        for place, work_no in enumerate(work_nos)
        if not is_id(work_no, 59999) or work_no == "101" or work_no in work_nos[:place]
    }
    refused = fields_refused(lambda: PARSER.group(request))
    named = [field for field in refused if field != "work_nos"]
    assert len(named) == min(10, len(bad))
    assert set(named) <= {f"work_nos[{place}]" for place in bad}
    assert (refused != named) == (len(bad) > 10)
