"""The policy over real calls: what it allows is done, what it does not allow reaches nobody, and it may change."""

from __future__ import annotations

import contextlib
import json

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from grpc import StatusCode

from qc_adapter.access.caller import ANONYMOUS, Caller
from qc_adapter.access.policy_methods import METHODS, SERVICES, Names
from qc_adapter.rpc import revocation
from qc_adapter.v1 import events_pb2, sessions_pb2
from qc_adapter.v1 import quality_control_pb2 as qc
from tests.support import callers
from tests.support.callers import PASSWORD
from tests.support.tokens import AUDIENCE, ISSUER, ec_key, jwk, key_set, token
from tests.support.tokens import DESK as DESK_SUBJECT
from tests.support.watches import hold, read, told, until_told
from tests.support.watching import until

BOSS, DESK, GUEST = "jwt:boss", "dns:desk.example", "dns:guest.example"
POLICY = """\
version: 1
callers:
  boss:
    identities: ["jwt:boss"]
    allow:
      - methods: [QualityControl, InspectorSessions, InspectorEvents]
        inspectors: all
        targets: all
  desk:
    identities: ["dns:desk.example"]
    allow:
      - methods: [Listen, Intercept, Monitor, Watch, Get]
        inspectors: [101-102]
        targets: [290-299]
      - methods: [List]
        inspectors: [102, 104]
"""
NO_DESK = POLICY.replace("Watch, Get", "Get").replace("Listen, Intercept", "Intercept")
MODULES = {"QualityControl": qc, "InspectorSessions": sessions_pb2, "InspectorEvents": events_pb2}


class Believing:
    """Takes callers for whom their first header says; what certificates and tokens prove is tried elsewhere."""

    async def identify(self, call):
        name = call.metadata.get("user-agent", "").split(" ")[0]
        return Caller((name,)) if ":" in name else ANONYMOUS


class Office:
    """A site with a policy, which callers of several names call."""

    def __init__(self, site, path, stack):
        self.site = site
        self.path = path
        self._stack = stack

    async def by(self, name, *more):
        """A caller of that name."""
        options = [("grpc.primary_user_agent", name), ("grpc.use_local_subchannel_pool", 1), *more]
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{self.site.adapter.port}", options=options)
        self._stack.push_async_callback(channel.close)
        site = self.site
        return callers.Caller(simulator=site.simulator, adapter=site.adapter, channel=channel, heard=site.heard)

    def change(self, text):
        """Put another policy in place of the one in force."""
        self.path.write_text(text)
        self.site.adapter.watched.look()


@pytest.fixture
async def open_office(open_site, tmp_path):
    """Open a site whose callers are who they say in their first header; inspectors 101 and 102 are signed in."""
    path = tmp_path / "policy.yaml"
    async with contextlib.AsyncExitStack() as stack:

        async def opening(policy=POLICY, agent_ids=("101", "102"), **environment):
            path.write_text(policy)
            site = await open_site(QC_POLICY_FILE=str(path), **environment)
            site.adapter.gate._callers = Believing()
            office = Office(site, path, stack)
            boss = await office.by(BOSS)
            for agent_id in agent_ids:
                assert (await boss.ending(boss.sign_in(agent_id))).code is StatusCode.OK
            return office, boss, await office.by(DESK)

        yield opening


def call_of(caller, rpc, *, agent_id="101", work_nos=("292",), **more):
    """Begin a call with the ids that its request has."""
    module = MODULES[METHODS[rpc].service]
    fields = dict(more)
    if METHODS[rpc].names is not Names.NOBODY:
        fields["agent_id"] = agent_id
    if METHODS[rpc].names is Names.AGENT:
        fields["work_no"] = work_nos[0]
    if METHODS[rpc].names is Names.AGENTS:
        fields["work_nos"] = work_nos
    stub = {"QualityControl": caller.commands, "InspectorSessions": caller.sessions, "InspectorEvents": caller.events}
    return getattr(stub[METHODS[rpc].service], rpc)(getattr(module, f"{rpc}Request")(**fields), timeout=20)


async def reason_of(caller, rpc, **ids):
    """Why a call was refused; it must be told so or not be refused by the policy at all."""
    ended = await caller.ending(call_of(caller, rpc, **ids))
    assert (ended.code is StatusCode.PERMISSION_DENIED) == (ended.reason == "CALLER_NOT_ALLOWED"), ended
    return ended.reason


async def test_whom_the_policy_does_not_name_may_do_nothing(open_office):
    """Each rpc of each service is denied to a stranger and reaches nobody; the answer tells only what was asked."""
    office, _, _ = await open_office()
    guest, sent = await office.by(GUEST), len(office.site.simulator.record.commands)
    secrets = {"SignIn": {"password": PASSWORD}, "Adopt": {"guid": PASSWORD}, "ForceDropCall": {"call_id": "1-1"}}
    for rpc in METHODS:
        ended = await guest.ending(call_of(guest, rpc, work_nos=("292", "293"), **secrets.get(rpc, {})))
        assert (ended.code, ended.reason) == (StatusCode.PERMISSION_DENIED, "CALLER_NOT_ALLOWED"), rpc
        named = {
            Names.INSPECTOR: " for 101",
            Names.AGENT: " for 101, to 292",
            Names.AGENTS: " for 101, to 292 and 1 more",
            Names.CALL: " for 101, to call 1-1",
            Names.NOBODY: "",
        }[METHODS[rpc].names]
        assert ended.message == f"the policy does not let {GUEST} do this: {rpc}{named}"
    assert len(office.site.simulator.record.commands) == sent
    line = next(line for line in office.site.calls if line["rpc"] == "Intercept")
    assert (line["agent_id"], line["work_no"], line["reason"]) == ("101", "292", "CALLER_NOT_ALLOWED")
    page = await office.site.page("/metrics")
    assert f'qc_calls_refused_total{{caller="none",why="not_allowed"}} {float(len(METHODS))}' in page
    assert 'qc_calls_refused_total{caller="desk",why="not_allowed"} 0.0' in page


async def test_a_service_in_the_policy_allows_all_its_methods(open_office):
    """Whoever may use the services as a whole is denied none of their rpcs."""
    _, boss, _ = await open_office()
    for rpc in sorted(METHODS, key=lambda name: name in {"SignOut", "ForceSignOut"}):
        call = call_of(boss, rpc)
        if rpc == "Watch":
            await read(call, 1)
            call.cancel()
        else:
            assert (await boss.ending(call)).reason != "CALLER_NOT_ALLOWED", rpc
    assert sum(map(len, SERVICES.values())) == len(METHODS)


async def test_inspector_and_targets_have_to_match_together(open_office):
    """Ids are read as the handlers read them; what is no id is told to those only who may use the method."""
    office, boss, desk = await open_office()
    office.site.simulator.start_call("292")
    for agent_id, work_no, wanted in [
        ("101", "300", "CALLER_NOT_ALLOWED"),
        ("103", "292", "CALLER_NOT_ALLOWED"),
        ("103", "292 ", "INVALID_AGENT_ID"),
        ("99", "292", "CALLER_NOT_ALLOWED"),
        ("north/101", "292", "CALLER_NOT_ALLOWED"),
        ("0101", "292", "INVALID_AGENT_ID"),
        ("101", "", "INVALID_AGENT_ID"),
        ("", "292", "INVALID_AGENT_ID"),
        ("/101", "292", "INVALID_AGENT_ID"),
        ("\uff11\uff10\uff11", "292", "INVALID_AGENT_ID"),
        ("101", "default/292", "INVALID_AGENT_ID"),
        ("default/101", "300", "CALLER_NOT_ALLOWED"),
        ("default/101", "292", "WRONG_INSPECTION_STATE"),
    ]:
        assert await reason_of(desk, "Intercept", agent_id=agent_id, work_nos=(work_no,)) == wanted, (agent_id, work_no)
        if wanted == "INVALID_AGENT_ID":
            assert await reason_of(desk, "Whisper", agent_id=agent_id, work_nos=(work_no,)) == "CALLER_NOT_ALLOWED"
    assert await reason_of(desk, "Monitor", work_nos=("290", "299")) is None
    assert await reason_of(desk, "Monitor", work_nos=("290", "300")) == "CALLER_NOT_ALLOWED"
    assert await reason_of(desk, "Monitor", work_nos=()) == "INVALID_ARGUMENT"
    assert await reason_of(desk, "Intercept", call_id="1-1") == "CALLER_NOT_ALLOWED"
    assert await reason_of(boss, "Intercept", call_id="1-1") != "CALLER_NOT_ALLOWED"
    assert [one.agent_id for one in office.site.simulator.requests("intercept")] == ["101", "101"]


async def test_a_list_shows_only_inspectors_that_the_caller_may_list(open_office):
    """Pages are made of these alone: no token names one that is hidden, and none tells how many there are."""
    _, boss, desk = await open_office(agent_ids=("101", "102", "103", "104", "105"))

    async def pages(caller):
        found, token = [], ""
        while True:
            request = sessions_pb2.ListRequest(page_size=1, page_token=token)
            page = await caller.sessions.List(request, timeout=20)
            found.append(([one.agent_id for one in page.sessions], page.next_page_token))
            token = page.next_page_token
            if not token:
                return found

    assert await pages(desk) == [(["102"], "102"), (["104"], "")]
    assert [ids for ids, _ in await pages(boss)] == [["101"], ["102"], ["103"], ["104"], ["105"]]


async def test_joining_a_command_takes_the_rights_to_it(open_office):
    """The request id of another caller's command opens nothing: who repeats it is judged by the same ids."""
    office, boss, desk = await open_office()
    office.site.simulator.start_call("292")
    options = qc.CommandOptions(request_id="one")
    first = await boss.ending(call_of(boss, "Listen", options=options))
    joined = await desk.ending(call_of(desk, "Listen", options=options))
    assert (first.outcome, joined.outcome) == ("CONFIRMED", "CONFIRMED")
    guest = await office.by(GUEST)
    assert await reason_of(guest, "Listen", options=options) == "CALLER_NOT_ALLOWED"
    assert len(office.site.simulator.requests("addSupervise")) == 1


async def test_a_changed_policy_ends_the_streams_that_lost_their_right_and_no_other(open_office):
    """It is in force at once, for new calls and for open streams; what others read goes on."""
    office, boss, desk = await open_office()
    await office.site.held_poll()
    kept, lost = boss.watch(), desk.watch()
    await read(kept, 1)
    await read(lost, 1)
    office.change(NO_DESK)
    ended = await desk.ending(lost)
    assert (ended.code, ended.reason) == (StatusCode.PERMISSION_DENIED, "CALLER_NOT_ALLOWED")
    assert ended.message == f"the policy does not let {DESK} do this: Watch for 101, since the policy was changed"
    assert "outcome" not in ended.metadata
    assert await reason_of(desk, "Watch") == "CALLER_NOT_ALLOWED"
    office.site.simulator.inject("101", hold("after"))
    await until_told(kept, "9-after")
    assert [asked.method for _, asked in office.site.adapter._rights._open.values()] == ["Watch"]
    kept.cancel()
    page = await office.site.page("/metrics")
    assert 'qc_calls_refused_total{caller="desk",why="not_allowed"} 2.0' in page
    assert 'qc_reloads_total{outcome="loaded",what="policy"} 1.0' in page
    office.change(POLICY)
    again = desk.watch()
    assert told(await read(again, 1)) == ["subscribed"]
    again.cancel()
    await until(lambda: not office.site.adapter._rights._open, "no stream that is kept")


async def test_a_stream_that_nobody_reads_ends_too(open_office, monkeypatch, tmp_path):
    """Its caller has lost the right and takes nothing in: after a while it is cut off, as refused in log and audit."""
    monkeypatch.setattr(revocation, "_LAST_WRITE_SECONDS", 0.2)
    office, boss, _ = await open_office(agent_ids=("102",), QC_AUDIT_LOG=str(tmp_path / "audit.jsonl"))
    desk = await office.by(DESK, ("grpc.http2.lookahead_bytes", 1024), ("grpc.http2.bdp_probe", 0))
    adopted = sessions_pb2.AdoptRequest(agent_id="101", guid="3f1c", event_source=sessions_pb2.EVENT_SOURCE_NONE)
    assert (await boss.ending(boss.sessions.Adopt(adopted, timeout=20))).code is StatusCode.OK
    stream = desk.watch()
    await read(stream, 1)
    for number in range(16):
        event = hold(number) | {"content": {"n": number, "x": "x" * 100_000}}
        body = json.dumps({"message": "", "retcode": "0", "event": event}).encode()
        request = events_pb2.FeedRequest(agent_id="101", body=body)
        assert (await boss.ending(boss.events.Feed(request, timeout=20))).code is StatusCode.OK
    [(call, _)] = office.site.adapter._rights._open.values()
    await until(lambda: not call.revocation._waiting, "a message that is being written")
    office.change(NO_DESK)
    await until(lambda: not office.site.adapter._rights._open, "no stream that is kept")
    line = next(line for line in office.site.calls if line["rpc"] == "Watch")
    assert (line["grpc_code"], line["reason"]) == ("PERMISSION_DENIED", "CALLER_NOT_ALLOWED")
    records = [json.loads(one) for one in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert [one["reason"] for one in records if one.get("rpc") == "Watch"] == ["CALLER_NOT_ALLOWED"]
    await until(
        lambda: not office.site.adapter.gate._room._limiter._usages.get("desk").streams, "no stream that counts"
    )
    # Whoever reads again after all is told why.
    ended = await desk.ending(stream)
    assert (len(ended.updates) < 16, ended.reason) == (True, "CALLER_NOT_ALLOWED")


async def test_the_stream_of_a_command_ends_and_tells_what_became_of_it(open_office):
    """What was sent is not undone; the status does not say that nothing was done."""
    office, _, desk = await open_office()
    office.site.simulator.start_call("292")
    options = qc.CommandOptions(follow=qc.FOLLOW_UNTIL_RELEASED, confirm_within=Duration(seconds=9))
    stream = call_of(desk, "Listen", options=options)
    while not (await stream.read()).HasField("outcome"):
        pass
    [(call, _)] = office.site.adapter._rights._open.values()
    await until(lambda: call.outcome, "an outcome that is told")
    office.change(NO_DESK)
    ended = await desk.ending(stream)
    assert (ended.code, ended.metadata["outcome"]) == (StatusCode.PERMISSION_DENIED, "confirmed")
    assert office.site.simulator.state_of("101") == "LISTENING"


async def test_a_policy_that_cannot_be_used_changes_nothing_and_is_told_of(open_office):
    """The one in force goes on, for calls and open streams, and log and metrics say so until a good one comes."""
    office, _, desk = await open_office()
    stream = desk.watch()
    await read(stream, 1)
    office.change(NO_DESK.replace("allow:", "alow:"))
    [line] = [line for line in office.site.tape.lines if line["event"] == "reload_refused"]
    assert line["what"] == "policy"
    assert line["detail"].startswith("line 3: callers.boss: allow is missing")
    assert "line 5: callers.boss: 'alow' is no key: did you mean allow?" in line["detail"]
    assert 'qc_reload_refused{what="policy"} 1.0' in await office.site.page("/metrics")
    assert await reason_of(desk, "Get") is None
    office.path.unlink()
    office.site.adapter.watched.look()
    assert await reason_of(desk, "Get") is None
    office.site.simulator.inject("101", hold("still"))
    await until_told(stream, "9-still")
    office.change(NO_DESK)
    assert (await desk.ending(stream)).code is StatusCode.PERMISSION_DENIED
    assert 'qc_reload_refused{what="policy"} 0.0' in await office.site.page("/metrics")


async def test_a_range_of_another_gateway_is_not_one_of_the_default_one(open_office):
    """A rule for north is no rule for the same number here, and targets are at the inspector's gateway."""
    rule = "      - {methods: [Get, Listen], inspectors: [north/101], targets: [default/292, north/300]}\n"
    office, _, desk = await open_office(
        POLICY.partition("      - methods: [Listen, ")[0] + rule,
        QC_GATEWAYS="north",
        QC_GATEWAY_NORTH_URL="http://127.0.0.1:1",
    )
    assert await reason_of(desk, "Get") == "CALLER_NOT_ALLOWED"
    assert await reason_of(desk, "Get", agent_id="default/101") == "CALLER_NOT_ALLOWED"
    assert await reason_of(desk, "Get", agent_id="north/101") == "INSPECTOR_NOT_SIGNED_IN"
    assert await reason_of(desk, "Listen", agent_id="north/101") == "CALLER_NOT_ALLOWED"
    assert await reason_of(desk, "Listen", agent_id="north/101", work_nos=("300",)) == "INSPECTOR_NOT_SIGNED_IN"
    assert office.site.simulator.requests("addSupervise") == ()


async def test_the_subject_of_a_token_has_the_rights_of_its_entry(open_site, tmp_path):
    """What a token proves is what the policy knows: its subject may do its own, and another subject nothing."""
    key, keys, path = ec_key(), tmp_path / "jwks.json", tmp_path / "policy.yaml"
    keys.write_bytes(key_set(jwk(key)))
    path.write_text(POLICY.replace("dns:desk.example", f"jwt:{DESK_SUBJECT}"))
    site = await open_site(
        QC_JWT_ISSUER=ISSUER, QC_JWT_AUDIENCE=AUDIENCE, QC_JWT_JWKS_FILE=str(keys), QC_POLICY_FILE=str(path)
    )

    async def reason(agent_id, **claims):
        shown = token(key, **claims)
        site.secrets.add(shown)
        request, metadata = sessions_pb2.GetRequest(agent_id=agent_id), (("authorization", f"Bearer {shown}"),)
        return (await site.ending(site.sessions.Get(request, timeout=20, metadata=metadata))).reason

    assert await reason("101") == "INSPECTOR_NOT_SIGNED_IN"
    assert await reason("103") == "CALLER_NOT_ALLOWED"
    assert await reason("101", sub="somebody") == "CALLER_NOT_ALLOWED"
    assert (await site.ending(site.get())).reason == "CALLER_UNKNOWN"
