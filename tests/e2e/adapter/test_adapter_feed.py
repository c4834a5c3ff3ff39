"""Sites where another system reads the events: fed in, they confirm commands and are streamed like any other."""

from __future__ import annotations

import json

import pytest
from google.protobuf.duration_pb2 import Duration
from grpc import StatusCode

from qc_adapter.v1 import events_pb2, sessions_pb2
from qc_adapter.v1 import quality_control_pb2 as qc
from tests.support.watches import hold, read, told

AT_ONCE = qc.CommandOptions(follow=qc.FOLLOW_NONE, confirm_within=Duration(nanos=50_000_000))
TALKING = {"eventType": "AgentEvent_Talking", "workNo": "101", "content": {"callid": "1-7"}}


def poll_reply(event):
    """What the gateway answers to the poll of a desktop."""
    return json.dumps({"message": "", "retcode": "0", "event": event}).encode()


def feed(site, body, agent_id="101", batch_id=""):
    """Begin to feed a body in."""
    return site.events.Feed(events_pb2.FeedRequest(agent_id=agent_id, body=body, batch_id=batch_id), timeout=20)


@pytest.fixture
async def fed_site(open_site):
    """A site whose inspector 101 is signed in by a desktop that polls."""
    site = await open_site()
    guid = site.simulator.sign_in("101")
    request = sessions_pb2.AdoptRequest(agent_id="101", guid=guid, event_source=sessions_pb2.EVENT_SOURCE_NONE)
    assert (await site.ending(site.sessions.Adopt(request, timeout=20))).code is StatusCode.OK
    return site


async def test_fed_events_confirm_a_command(fed_site, until):
    """The command waits for its proof; the desktop feeds it in, and the outcome is CONFIRMED."""
    site = fed_site
    site.simulator.start_call("292")
    await site.ending(
        site.commands.Listen(qc.ListenRequest(agent_id="101", work_no="292", options=AT_ONCE), timeout=20)
    )
    await until(lambda: site.simulator.state_of("101") == "LISTENING")
    stream = site.intercept()
    assert (await stream.read()).HasField("accepted")
    answer = await feed(site, poll_reply(TALKING))
    assert (answer.logged, answer.repeated_before) == (1, 0)
    await feed(site, json.dumps({"workNo": "101", "eventList": [{"eventType": "AgentMediaEvent_Record"}]}).encode())
    ended = await site.ending(stream)
    assert (ended.outcome, ended.updates[-1].outcome.call_id) == ("CONFIRMED", "1-7")
    assert site.simulator.requests("getAgentEvent") == ()


async def test_what_is_fed_twice_is_logged_once(fed_site):
    """A body that equals the one before is its repetition, and so is one with the same name; another name is new."""
    site = fed_site
    watch = site.watch()
    await read(watch, 1)
    answers = [await feed(site, poll_reply(hold(1))) for _ in range(2)]
    answers += [await feed(site, poll_reply(hold(1)), batch_id=name) for name in ("a", "a", "b")]
    assert [(one.logged, one.repeated_before) for one in answers] == [(1, 0), (0, 1), (1, 0), (0, 1), (1, 0)]
    assert answers[0].cursor == answers[1].cursor
    empty = await feed(site, poll_reply(None))
    assert (empty.logged, empty.cursor) == (0, answers[-1].cursor)
    assert told(await read(watch, 3)) == ["9-1"] * 3
    watch.cancel()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html></html>",
        b'{"hello":"world"}',
        b'{"workNo":"101","eventList":[1]}',
        poll_reply(hold(1, "102")),
        b'{"workNo":"101","eventList":[' + b" " * 200_000 + b"]}",
        json.dumps({"workNo": "101", "eventList": [hold(1)] * 2001}).encode(),
    ],
    ids=["empty", "page", "foreign", "no event", "another agent", "too long", "too many"],
)
async def test_a_body_that_is_not_whole_is_not_taken(fed_site, body):
    """INVALID_ARGUMENT names the body and what is wrong; nothing of it is logged."""
    ended = await fed_site.ending(feed(fed_site, body))
    assert (ended.code, ended.fields) == (StatusCode.INVALID_ARGUMENT, ("body",))
    assert (await feed(fed_site, poll_reply(hold(1)))).logged == 1


async def test_only_sessions_whose_events_others_read_are_fed(site):
    """Events that the adapter reads itself are not fed in, nor those of an inspector without a session."""
    ended = await site.ending(feed(site, poll_reply(hold(1))))
    assert (ended.code, ended.reason) == (StatusCode.FAILED_PRECONDITION, "EVENTS_READ_HERE")
    ended = await site.ending(feed(site, poll_reply(hold(1, "555")), "555"))
    assert ended.reason == "INSPECTOR_NOT_SIGNED_IN"
    ended = await site.ending(feed(site, poll_reply(hold(1)), batch_id="x" * 129))
    assert ended.fields == ("batch_id",)
