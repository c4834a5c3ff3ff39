"""Who did what is on record: one record for each command and session change, on good days and on bad ones."""

from __future__ import annotations

import asyncio

import orjson
import pytest
from grpc import StatusCode

from qc_adapter.access.caller import Caller
from qc_adapter.model.errors import CallerNotAllowed, CallerUnknown
from qc_adapter.rpc.gate import Gate
from qc_adapter.simulator import Fault
from qc_adapter.v1 import events_pb2, sessions_pb2
from qc_adapter.v1 import quality_control_pb2 as qc
from tests.support.chains import judged

AGAIN = sessions_pb2.RE_SIGN_IN_SAME_CREDENTIALS
DESK = Caller(("spiffe://example/desk",))


class Records:
    """The audit file of a site."""

    def __init__(self, path):
        self.path = path

    @property
    def all(self):
        """All records."""
        return [orjson.loads(line) for line in self.path.read_bytes().splitlines()]

    def of(self, event):
        """Those of one kind."""
        return [one for one in self.all if one["event"] == event]

    @property
    def last(self):
        """The last one."""
        return self.all[-1]


@pytest.fixture
def records(tmp_path):
    """What is on record."""
    return Records(tmp_path / "audit.jsonl")


@pytest.fixture
async def open_audited(open_site, records):
    """Open sites that keep records; at the end these are whole and hold no secret."""
    opened = []

    async def opening(**environment):
        opened.append(await open_site(QC_AUDIT_LOG=str(records.path), **environment))
        return opened[-1]

    yield opening
    found = judged(records.path.read_bytes())
    assert set(found.counts) <= {"not_ended"}  # the site still runs
    text = records.path.read_text()
    for site in opened:
        assert not [secret for secret in site.secrets | site.wire.secrets if secret in text]


@pytest.fixture
async def site(open_audited):
    """A site that keeps records, with inspector 101 signed in."""
    made = await open_audited()
    assert (await made.ending(made.sign_in())).code is StatusCode.OK
    return made


def wanted(record, **fields):
    """Whether the record has these fields; None for one that is left out."""
    return {name: record.get(name) for name in fields} == fields


async def test_a_confirmed_command_is_recorded_with_all_that_is_known_of_it(site, records):
    """Who, from where, for which inspector and agent, what became of it, and when."""
    call_id = await site.listening()
    trace = "0af7651916cd43dd8448eb211c80319c"
    metadata = (("traceparent", f"00-{trace}-b7ad6b7169203331-00"),)
    ended = await site.ending(site.intercept(request_id="one", call_id=call_id, metadata=metadata))
    assert ended.outcome == "CONFIRMED"
    record = records.last
    assert wanted(
        record, event="command", service="QualityControl", rpc="Intercept", caller="anonymous", caller_name=None,
        agent_id="101", work_no="292", call_id=call_id, request_id="one", grpc_code="OK", reason=None, retcode="0",
        outcome="confirmed", trace_id=trace, audit=1,
    )  # fmt: skip
    assert record["peer"].startswith("ipv4:127.0.0.1:")
    assert 0 < record["answered_ms"] <= record["duration_ms"]
    assert record["time"].endswith("Z")


async def test_the_record_is_there_when_the_outcome_is_known_and_not_when_the_stream_ends(site, records):
    """A command that is followed until the call is released may stay open for an hour."""
    await site.listening()
    call = site.intercept(follow=qc.FOLLOW_UNTIL_RELEASED)
    while (update := await call.read()).WhichOneof("update") != "outcome":
        pass
    assert update.outcome.state == qc.CommandOutcome.CONFIRMED
    assert wanted(records.last, rpc="Intercept", outcome="confirmed", grpc_code="OK")
    site.simulator.end_call(site.simulator.state()["calls"][0]["call_id"])
    assert (await site.ending(call)).code is StatusCode.OK
    assert len([one for one in records.all if one.get("rpc") == "Intercept"]) == 1


async def test_every_session_change_is_recorded(site, records):
    """SignIn, UpdateGuid, SignOut and Adopt; to look at sessions, to watch and to feed is not."""
    await site.held_poll()
    guid = site.adapter.store._sessions["101"].guid
    sessions = site.sessions
    await site.ending(sessions.UpdateGuid(sessions_pb2.UpdateGuidRequest(agent_id="101"), timeout=20))
    await site.ending(site.get())
    await site.ending(sessions.List(sessions_pb2.ListRequest(), timeout=20))
    guid = site.adapter.store._sessions["101"].guid.reveal()
    adopt = sessions_pb2.AdoptRequest(agent_id="101", guid=guid, event_source=sessions_pb2.EVENT_SOURCE_NONE)
    assert (await site.ending(sessions.Adopt(adopt, timeout=20))).code is StatusCode.OK
    feed = events_pb2.FeedRequest(agent_id="101", body=b'{"message":"","retcode":"0"}')
    await site.ending(site.events.Feed(feed, timeout=20))
    out = sessions_pb2.SignOutRequest(agent_id="101", force=True)
    assert (await site.ending(sessions.SignOut(out, timeout=20))).code is StatusCode.OK
    assert (await site.ending(sessions.SignOut(out, timeout=20))).reason == "INSPECTOR_NOT_SIGNED_IN"
    changes = records.of("session_change")
    assert [one["rpc"] for one in changes] == ["SignIn", "UpdateGuid", "Adopt", "SignOut", "SignOut"]
    assert [one["outcome"] for one in changes] == ["done"] * 4 + ["refused"]
    assert [one.get("retcode") for one in changes] == ["0", "0", None, "0", None]
    assert wanted(changes[3], method="forceLogout", agent_id="101", grpc_code="OK")
    assert changes[4]["reason"] == "INSPECTOR_NOT_SIGNED_IN"
    assert {one["event"] for one in records.all} == {"audit_began", "session_change"}


async def test_what_became_of_a_command_on_a_bad_day_is_recorded(site, records):
    """Refused by the gateway, unknown, never sent, not proven, without a proof, not even a command."""
    await site.listening()
    seen = []

    async def run(call):
        await site.ending(call)
        one = records.last
        seen.append((one["outcome"], one["grpc_code"], one.get("reason"), one.get("retcode")))

    site.simulator.add_fault(Fault("retcode", operation="intercept", code="900-003"))
    await run(site.intercept())
    assert seen.pop() == ("refused", "FAILED_PRECONDITION", "WRONG_INSPECTION_STATE", "900-003")
    site.simulator.add_fault(Fault("retcode", operation="intercept", code="900-001"))
    await run(site.intercept())
    assert seen.pop() == ("refused", "UNAVAILABLE", "GATEWAY_UNAVAILABLE", "900-001")
    site.simulator.add_fault(Fault("reset_before", operation="intercept"))
    await run(site.intercept(confirm_within=0.1))
    assert seen.pop() == ("unknown", "UNKNOWN", "OUTCOME_UNKNOWN", None)
    site.simulator.add_fault(Fault("lose_event", agent_id="101", times=2))
    await run(site.intercept(confirm_within=0.1))
    assert seen.pop() == ("unconfirmed", "OK", None, "0")
    group = ["292", "293"]
    await run(site.commands.Monitor(qc.MonitorRequest(agent_id="101", work_nos=group), timeout=20))
    assert seen.pop() == ("accepted", "OK", None, "0")
    assert records.last["work_nos"] == group
    await run(site.intercept(work_no="101"))
    assert seen.pop() == ("refused", "INVALID_ARGUMENT", "SELF_INSPECTION", None)
    await run(site.intercept(agent_id="x" * 500))
    assert seen.pop() == ("refused", "INVALID_ARGUMENT", "INVALID_AGENT_ID", None)
    assert len(records.last["agent_id"]) < 30
    await run(site.commands.Monitor(qc.MonitorRequest(agent_id="101", work_nos=["x" * 90] * 500), timeout=20))
    assert seen.pop()[:2] == ("refused", "INVALID_ARGUMENT")
    assert (len(records.last["work_nos"]), records.last["work_nos_count"]) == (10, 500)
    await site.wire.refuse()
    await run(site.intercept())
    assert seen.pop()[:2] == ("not_sent", "UNAVAILABLE")
    await site.wire.accept()
    assert len(records.of("command")) == 10  # and the listening at first


async def test_a_caller_who_hangs_up_at_once_stays_on_record_with_what_he_did(site, records, until):
    """His record says what is known when he leaves, a second one what became of the command then."""
    await site.listening()
    site.simulator.add_fault(Fault("delay", operation="intercept", seconds=0.2, after=True))
    call = site.intercept(request_id="gone")
    await until(lambda: site.puts == 1, "the request at the gateway")
    call.cancel()
    await until(lambda: records.of("command_settled"), "the second record")
    left, settled = records.all[-2:]
    assert wanted(left, event="command", rpc="Intercept", outcome="unknown", grpc_code="CANCELLED", request_id="gone")
    assert wanted(
        settled, event="command_settled", caller="qc-adapter", method=left["method"], agent_id="101", work_no="292",
        request_id="gone", outcome="confirmed", trace_id=left["trace_id"],
    )  # fmt: skip


async def test_each_caller_who_joins_a_command_is_recorded(site, records):
    """With the same request id, whoever began it: they all were told of it."""
    await site.listening()
    first, second = await asyncio.gather(*(site.ending(site.intercept(request_id="same")) for _ in range(2)))
    assert first.outcome == second.outcome == "CONFIRMED"
    assert site.puts == 1
    joined = [one for one in records.of("command") if one.get("request_id") == "same"]
    assert [one["outcome"] for one in joined] == ["confirmed", "confirmed"]
    assert len({one["peer"] for one in joined} | {one["trace_id"] for one in joined}) > 1


async def test_calls_at_the_same_time_make_one_chain(open_audited, records):
    """Fifty at once: fifty records in one order, none between the parts of another one."""
    site = await open_audited()
    agents = [str(number) for number in range(101, 151)]
    ended = await asyncio.gather(*(site.ending(site.sign_in(agent)) for agent in agents))
    assert {one.code for one in ended} == {StatusCode.OK}
    assert sorted(one["agent_id"] for one in records.of("session_change")) == agents
    assert set(judged(records.path.read_bytes()).counts) == {"not_ended"}


class Named:
    """Callers who are who they say, in a header."""

    async def identify(self, call):
        name = call.metadata.get("who")
        if name is None:
            raise CallerUnknown("say who you are")
        return Caller((name,))


class Few:
    """Allows the desk everything, and the others to look."""

    def name_of(self, caller):
        return "desk" if caller == DESK else ""

    def allow(self, call, request):
        if call.caller != DESK:
            call.about(request.agent_id)
            raise CallerNotAllowed(call.caller.name, call.rpc)


async def test_refused_callers_are_recorded_with_what_they_asked_for(site, records):
    """Unknown or not allowed, whatever the rpc; a flood of them leaves some records, and others are recorded on."""
    site.adapter._server._calls._gate = Gate(Named(), rights=Few(), records=site.adapter._records)
    ended = await site.ending(site.intercept())
    assert ended.reason == "CALLER_UNKNOWN"
    assert wanted(
        records.last, event="call_refused", rpc="Intercept", outcome="refused", reason="CALLER_UNKNOWN", agent_id=None,
        grpc_code="UNAUTHENTICATED", caller="anonymous",
    )  # fmt: skip
    other = (("who", "dns:other"),)
    for _ in range(30):
        ended = await site.ending(site.intercept(metadata=other))
        assert ended.reason == "CALLER_NOT_ALLOWED"
    watch = site.events.Watch(events_pb2.WatchRequest(agent_id="101"), timeout=20, metadata=(("who", "dns:third"),))
    assert (await site.ending(watch)).reason == "CALLER_NOT_ALLOWED"
    assert wanted(records.last, rpc="Watch", caller="dns:third", agent_id="101", reason="CALLER_NOT_ALLOWED")
    refused = [one for one in records.of("call_refused") if one["caller"] == "dns:other"]
    assert len(refused) == 10
    assert wanted(refused[0], rpc="Intercept", agent_id="101", grpc_code="PERMISSION_DENIED")
    await site.ending(site.intercept(metadata=(("who", DESK.name),)))
    assert wanted(records.last, event="command", caller=DESK.name, caller_name="desk")
    assert site.puts == 1


class Heard:
    """Knows the calls that are open."""

    def __init__(self):
        self.calls = []

    def began(self, call):
        self.calls.append(call)

    def ended(self, call):
        self.calls.remove(call)


async def test_who_loses_his_right_in_the_midst_of_a_call_is_recorded_with_what_was_done(site, records, until):
    """A stream of events ends as refused; a command that was sent is unknown, and what became of it comes behind."""
    await site.listening()
    heard = Heard()
    site.adapter._server._calls._observers.append(heard)
    watch = site.watch()
    assert (await watch.read()).HasField("subscribed")
    heard.calls[0].revocation.revoke(CallerNotAllowed("dns:desk", "Watch"))
    assert (await site.ending(watch)).reason == "CALLER_NOT_ALLOWED"
    assert wanted(records.last, event="call_refused", rpc="Watch", agent_id="101")
    site.simulator.add_fault(Fault("delay", operation="intercept", seconds=0.2, after=True))
    ending = asyncio.create_task(site.ending(site.intercept()))
    await until(lambda: site.puts == 1, "the request at the gateway")
    heard.calls[0].revocation.revoke(CallerNotAllowed("dns:desk", "Intercept"))
    assert (await ending).reason == "CALLER_NOT_ALLOWED"
    assert wanted(records.last, event="command", rpc="Intercept", outcome="unknown", reason="CALLER_NOT_ALLOWED")
    await until(lambda: records.of("command_settled"), "what became of it")
    assert wanted(records.last, outcome="confirmed", agent_id="101")


async def test_what_cannot_be_recorded_is_not_done_and_reading_goes_on(site, records, until):
    """The file's name is taken: UNAVAILABLE, nothing is sent; afterwards it works, and nothing is lost."""
    await site.listening()
    older = records.path.with_suffix(".1")
    site.simulator.add_fault(Fault("delay", operation="intercept", seconds=0.3))
    in_flight = asyncio.create_task(site.ending(site.intercept(request_id="in-flight")))
    await until(lambda: site.puts == 1, "the request at the gateway")
    records.path.rename(older)
    records.path.mkdir()
    try:
        # It was allowed to begin, and is told how it ended although that cannot be written.
        assert (await in_flight).outcome == "CONFIRMED"
        for call in (site.intercept(), site.sign_in("102")):
            ended = await site.ending(call)
            assert (ended.code, ended.reason, ended.retry) == (StatusCode.UNAVAILABLE, "AUDIT_UNAVAILABLE", True)
        assert site.puts == 1
        assert (await site.ending(site.get())).code is StatusCode.OK
        watch = site.watch()
        assert (await watch.read()).HasField("subscribed")
        watch.cancel()
        assert 'qc_audit_records_total{outcome="failed"} 3.0' in await site.page("/metrics")
    finally:
        records.path.rmdir()
    assert (await site.ending(site.sign_in("102"))).code is StatusCode.OK
    assert [one["event"] for one in records.all] == ["command", "call_refused", "call_refused", "session_change"]
    assert wanted(records.all[0], request_id="in-flight", outcome="confirmed")
    assert set(judged(older.read_bytes(), records.path.read_bytes()).counts) == {"not_ended"}
    said = [line["event"] for line in site.tape.lines]
    assert (said.count("audit_not_written"), said.count("audit_written_again")) == (1, 1)
    records.path.write_bytes(older.read_bytes() + records.path.read_bytes())


@pytest.fixture(params=["memory", "redis"])
def store(request):
    """Where the sessions are."""
    return {"QC_STORE_URL": request.getfixturevalue("redis_url")} if request.param == "redis" else {}


async def test_a_session_that_the_gateway_ends_is_recorded(open_audited, records, until, store):
    """Nobody asked for it; it stands there all the same, with the gateway's word."""
    site = await open_audited(**store)
    await site.ending(site.sign_in())
    await site.held_poll()
    site.simulator.restart()
    await until(lambda: records.of("session_lost"), "a record")
    assert wanted(records.last, caller="qc-adapter", agent_id="101", retcode="100-006")


async def test_a_sign_in_that_is_made_anew_is_recorded(open_audited, records, until):
    """First that the gateway has forgotten it, then that the adapter has signed the inspector in, or gave up."""
    site = await open_audited()
    await site.ending(site.sign_in(re_sign_in=AGAIN))
    site.adapter.store.orders["101"].tried_at -= 5
    await site.held_poll()
    site.simulator.restart()
    await until(lambda: records.of("signed_in_again"), "a sign-in")
    assert [one["event"] for one in records.all[-2:]] == ["session_recovering", "signed_in_again"]
    assert wanted(records.last, caller="qc-adapter", agent_id="101")
    await site.held_poll()
    site.adapter.store.orders["101"].tried_at -= 5
    site.simulator.add_fault(Fault("retcode", operation="login", code="100-004"))
    site.simulator.restart()
    await until(lambda: records.of("session_lost"), "the end of it")
    assert wanted(records.last, agent_id="101", retcode="100-004")
