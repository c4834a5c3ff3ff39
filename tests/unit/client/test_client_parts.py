"""The parts of the client helper that need no connection: targets, pauses, deadlines, and what is news."""

from __future__ import annotations

import pytest
from google.protobuf.duration_pb2 import Duration

from qc_adapter.client import Follow, QualityControlClient, Timing, options_message
from qc_adapter.client.channel import open_channel, replicas_of
from qc_adapter.client.command import fitting_timeout_seconds
from qc_adapter.client.novelty import Novelty
from qc_adapter.v1 import events_pb2
from qc_adapter.v1 import quality_control_pb2 as qc


@pytest.mark.parametrize(
    ("target", "replicas"),
    [
        ("host:1", ("host:1",)),
        ("host:1, other:2", ("host:1", "other:2")),
        (["host:1", "other:2"], ("host:1", "other:2")),
        ("ipv4:127.0.0.1:1,127.0.0.1:2", ("ipv4:127.0.0.1:1,127.0.0.1:2",)),
        ("dns:///headless:50051", ("dns:///headless:50051",)),
        ("[::1]:1,[::1]:2", ("[::1]:1", "[::1]:2")),
    ],
    ids=str,
)
def test_a_target_is_one_or_a_list(target, replicas):
    """Lists are taken apart; what has a scheme is left to gRPC."""
    assert replicas_of(target) == replicas


@pytest.mark.parametrize(
    "replicas", [(), ("127.0.0.1:1", "nowhere"), ("127.0.0.1:1", "[::1]:2")], ids=["none", "no port", "mixed"]
)
async def test_a_list_that_cannot_be_used_is_refused(replicas):
    """Before anything is called."""
    with pytest.raises(ValueError, match=r"host:port|IPv4"):
        await open_channel(replicas, None, ())


def test_a_client_that_is_not_open_says_so():
    """The error names what to write."""
    with pytest.raises(RuntimeError, match="async with"):
        QualityControlClient("127.0.0.1:1").watch("101")


def test_pauses_double_up_to_the_longest():
    """However many failures there were; the jitter shortens each."""
    timing = Timing(first_pause_seconds=1.0, longest_pause_seconds=5.0)
    assert [timing.pause_seconds(failures, 1.0) for failures in (0, 1, 2, 3, 10_000)] == [1.0, 2.0, 4.0, 5.0, 5.0]
    assert timing.pause_seconds(1, 0.5) == 1.0


def test_a_deadline_fits_what_is_followed():
    """Longer than the confirmation; none for a call that may last for hours."""
    assert fitting_timeout_seconds(qc.CommandOptions()) == 30.0
    assert fitting_timeout_seconds(qc.CommandOptions(confirm_within=Duration(seconds=1, nanos=500_000_000))) == 21.5
    assert fitting_timeout_seconds(qc.CommandOptions(follow=qc.FOLLOW_UNTIL_RELEASED)) is None


def test_options_become_a_message():
    """What is not given is left to the adapter."""
    assert options_message("", Follow.CONFIRMED, None) == qc.CommandOptions()
    message = options_message("mine", Follow.NONE, 0.25)
    assert (message.request_id, message.follow) == ("mine", qc.FOLLOW_NONE)
    assert message.confirm_within == Duration(nanos=250_000_000)


def event(cursor):
    """An event's update."""
    return qc.CommandUpdate(cursor=cursor, event=events_pb2.AgentEvent(cursor=cursor))


def gap(cursor, to):
    """A gap's update."""
    return qc.CommandUpdate(cursor=cursor, gap=events_pb2.Gap(reason="CURSOR_EXPIRED", to=to))


def test_a_replay_is_no_news():
    """Receipt and outcome are news once, an event by its cursor, and the place moves with news only."""
    accepted = qc.CommandUpdate(cursor="c-0", accepted=qc.CommandAccepted())
    outcome = qc.CommandUpdate(cursor="c-2", outcome=qc.CommandOutcome())
    story = [accepted, event("c-1"), event("c-2"), outcome, event("c-3")]
    told = Novelty()
    assert [told.admits(update) for update in story] == [True] * 5
    assert [told.admits(update) for update in story[:3]] == [False] * 3
    assert told.cursor == "c-3"
    assert told.admits(event("c-4"))


def test_a_gap_is_news_unless_its_end_was_seen():
    """What the log forgot is no gap for who has read it; what nobody read is one, once."""
    told = Novelty()
    assert told.admits(event("c-1"))
    assert not told.admits(gap("c-1", "c-1"))
    assert told.admits(gap("c-7", "c-7"))
    assert not told.admits(gap("c-7", "c-7"))


def test_an_update_of_a_later_version_is_passed_on():
    """What this version does not know is not hidden."""
    told = Novelty()
    assert told.admits(qc.CommandUpdate(cursor="c-1"))
    assert told.cursor == "c-1"
