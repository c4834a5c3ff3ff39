"""Judging a call by the policy: what is refused whatever the policy says, and what is kept of streams."""

import pytest

from qc_adapter.access.caller import Caller
from qc_adapter.access.policy_file import parse_policy
from qc_adapter.model.errors import CallerNotAllowed
from qc_adapter.rpc.call import Call
from qc_adapter.rpc.parse import Parser
from qc_adapter.rpc.rights import PolicyRights
from qc_adapter.v1 import events_pb2, sessions_pb2
from qc_adapter.v1 import quality_control_pb2 as pb

POLICY = parse_policy(b"""\
version: 1
limits: {calls: 7}
callers:
  desk:
    identities: ["dns:desk.example"]
    limits: {streams: 3}
    allow:
      - methods: [QualityControl, InspectorSessions, InspectorEvents]
        inspectors: [101-199]
        targets: all
  board:
    identities: ["jwt:board"]
    allow:
      - {methods: [Watch], inspectors: [300]}
""")
DESK = Caller(("dns:Desk.Example",))


class Counts:
    """Keeps what it was told."""

    def __init__(self):
        self.names, self.refused = (), []

    def callers(self, names):
        self.names = tuple(names)

    def call_refused(self, caller, why):
        self.refused.append((caller, why))


@pytest.fixture
def counts():
    return Counts()


@pytest.fixture
def rights(counts):
    return PolicyRights(POLICY, Parser({"default": 59999}, 10.0), counts)


def call_of(rpc, caller=DESK, *, streaming=True):
    made = Call(rpc, "QualityControl", rpc, streaming, "peer", {})
    made.caller, made.caller_name = caller, POLICY.name_of(caller)
    return made


def test_an_rpc_that_the_policy_does_not_know_is_denied(rights, counts):
    """A method that is new in the contract belongs to nobody until the table says whom its requests name."""
    with pytest.raises(CallerNotAllowed):
        rights.allow(call_of("Reboot"), pb.ListenRequest(agent_id="101", work_no="292"))
    assert counts.refused == [("desk", "not_allowed")]


def test_ids_that_only_the_checks_could_read_are_denied(counts):
    """If the two ever came apart, nothing would be done for whom the policy did not judge."""

    class Lenient(Parser):
        def agent_id(self, text):
            return text.strip()

    rights = PolicyRights(POLICY, Lenient({"default": 59999}, 10.0), counts)
    with pytest.raises(CallerNotAllowed):
        rights.allow(call_of("Get"), sessions_pb2.GetRequest(agent_id=" 300"))


def test_a_denial_is_short_and_safe_to_show(rights):
    """Whatever stands in the ids, the message is a line of text."""
    request = pb.InterceptRequest(agent_id="\n" * 9000, work_no="\x1b[2J" * 9000, call_id="\u202e" * 9000)
    with pytest.raises(CallerNotAllowed) as denied:
        rights.allow(call_of("Intercept", Caller(("jwt:board",))), request)
    assert denied.value.message.isprintable()
    assert len(denied.value.message) < 600


def test_only_open_streams_are_kept(rights):
    """A call that ended, was denied or has one answer leaves nothing behind."""
    watch, get, denied = call_of("Watch"), call_of("Get", streaming=False), call_of("Watch")
    rights.allow(watch, events_pb2.WatchRequest(agent_id="101"))
    rights.allow(get, sessions_pb2.GetRequest(agent_id="101"))
    with pytest.raises(CallerNotAllowed):
        rights.allow(denied, events_pb2.WatchRequest(agent_id="300"))
    assert len(rights._open) == 1
    for call in (watch, get, denied):
        rights.ended(call)
    assert rights._open == {}


def test_a_caller_with_several_names_has_the_rights_of_all_and_the_limits_of_the_first(rights):
    """A certificate and a token may belong to different entries of the policy."""
    both = Caller(("dns:stranger", "dns:desk.example", "jwt:board"))
    for agent_id in ("101", "300"):
        rights.allow(call_of("Watch", both), events_pb2.WatchRequest(agent_id=agent_id))
    assert (rights.name_of(both), rights.limits_of(both).streams) == ("desk", 3)
    stranger = Caller(("dns:stranger",))
    assert (rights.name_of(stranger), rights.limits_of(stranger).streams, rights.limits_of(stranger).calls) == (
        "",
        None,
        7,
    )


def test_the_names_of_the_policy_in_force_are_counted(rights, counts):
    """Metrics have the callers of the policy, and of no other one after it was changed."""
    assert counts.names == ("desk", "board")
    rights.take(parse_policy(b"version: 1\ncallers: {new: {identities: [anonymous], allow: []}}"))
    assert counts.names == ("new",)
