"""Tables of the code against the descriptors of the contract: no name or number may drift."""

import inspect
import re
from itertools import product
from pathlib import Path

import pytest
from google.protobuf.descriptor import FieldDescriptor

from qc_adapter.access.policy_methods import METHODS, Names
from qc_adapter.access.policy_methods import SERVICES as POLICY_SERVICES
from qc_adapter.app import _OWN_METHODS, _RPC_METHODS
from qc_adapter.commands.model import Follow
from qc_adapter.events.activity import Activity, InspectorState
from qc_adapter.events.catalogue import EVENT_TYPES
from qc_adapter.events.leases import PollState, label_of
from qc_adapter.events.model import GapReason
from qc_adapter.events.shapes import MONITORED_KINDS, SHAPES, TIMES
from qc_adapter.gateway import operations
from qc_adapter.model.session import EventSource
from qc_adapter.rpc.convert import _INSPECTOR_STATES, _SOURCES, _STATES
from qc_adapter.rpc.inspector_events import InspectorEvents
from qc_adapter.rpc.inspector_sessions import InspectorSessions
from qc_adapter.rpc.quality_control import QualityControl
from qc_adapter.telemetry.labels import LabelSets, label_sets
from qc_adapter.telemetry.metrics import Metrics, open_registry
from qc_adapter.v1 import events_pb2, quality_control_pb2, sessions_pb2

SERVICES = {
    InspectorEvents: events_pb2.DESCRIPTOR.services_by_name["InspectorEvents"],
    InspectorSessions: sessions_pb2.DESCRIPTOR.services_by_name["InspectorSessions"],
    QualityControl: quality_control_pb2.DESCRIPTOR.services_by_name["QualityControl"],
}
METHOD_LABELS = {*operations.METHODS, *_RPC_METHODS.values(), *_OWN_METHODS}
RPCS = sorted(method.name for service in SERVICES.values() for method in service.methods)
EVENT = events_pb2.AgentEvent.DESCRIPTOR


@pytest.mark.parametrize("event_type", SHAPES)
def test_a_shape_fits_its_message(event_type):
    """Kind and fields of each typed event exist in the contract, with the right type."""
    shape = SHAPES[event_type]
    field = EVENT.fields_by_name[shape.kind]
    assert field.containing_oneof.name == "details"
    fields = field.message_type.fields_by_name
    for name in shape.keys:
        if name in TIMES:
            assert fields[name].message_type.full_name == "google.protobuf.Timestamp"
        else:
            assert fields[name].type == FieldDescriptor.TYPE_STRING
    for name, constant in shape.constants.items():
        wanted = FieldDescriptor.TYPE_BOOL if isinstance(constant, bool) else FieldDescriptor.TYPE_ENUM
        assert fields[name].type == wanted
    for name, (_key, numbers) in shape.codes.items():
        assert shape.constants[name] == 0
        assert set(numbers.values()) <= set(fields[name].enum_type.values_by_number)


def test_kinds_of_news_have_the_numbers_of_the_enum():
    """Each kind of the contract is made from one subtype, and its comment names that subtype."""
    kinds = events_pb2.MonitoredAgent.Kind
    assert sorted(MONITORED_KINDS.values()) == sorted(set(kinds.values()) - {kinds.KIND_UNSPECIFIED})
    text = (Path(__file__).parents[3] / "protos" / "qc_adapter" / "v1" / "events.proto").read_text()
    for subtype, number in MONITORED_KINDS.items():
        assert re.search(rf"// {subtype}\b[^\n]*\n    {kinds.Name(number)} = {number};", text)


def test_every_kind_of_details_is_made_by_some_event():
    """The contract has no details that no event can ever fill."""
    kinds = {field.name for field in EVENT.oneofs_by_name["details"].fields}
    assert {shape.kind for shape in SHAPES.values()} == kinds


@pytest.mark.parametrize(
    ("event_type", "field", "name"),
    [
        ("AgentMediaEvent_Record", "phase", "STARTED"),
        ("AgentMediaEvent_Record_Fail", "phase", "FAILED"),
        ("AgentMediaEvent_StopRecordDone", "phase", "STOPPED"),
        ("AgentOther_PhoneAlerting", "state", "ALERTING"),
        ("AgentOther_PhoneOffhook", "state", "OFF_HOOK"),
        ("AgentOther_PhoneRelease", "state", "ON_HOOK"),
        ("AgentOther_PhoneBusy", "state", "BUSY"),
        ("AgentOther_PhoneUnknow", "state", "STATE_UNSPECIFIED"),
        ("AgentState_Ready", "state", "IDLE"),
        ("AgentState_Force_Ready", "state", "IDLE"),
        ("AgentState_Busy", "state", "OCCUPIED"),
        ("AgentState_SetNotReady_Success", "state", "BUSY"),
        ("AgentState_Force_SetNotReady", "state", "BUSY"),
        ("AgentState_Work", "state", "WORK"),
        ("AgentState_SetWork_Success", "state", "WORK"),
        ("AgentState_SetRest_Success", "state", "REST"),
        ("AgentState_Rest_Timeout", "state", "REST"),
        ("AgentState_CancelNotReady_Success", "state", "STATE_UNSPECIFIED"),
        ("AgentState_CancelRest_Success", "state", "STATE_UNSPECIFIED"),
        ("AgentState_CancelWork_Success", "state", "STATE_UNSPECIFIED"),
    ],
)
def test_the_numbers_of_a_shape_are_those_of_the_enum(event_type, field, name):
    """A number in the table means the enum value that its event name says."""
    shape = SHAPES[event_type]
    values = EVENT.fields_by_name[shape.kind].message_type.fields_by_name[field].enum_type.values_by_number
    assert values[shape.constants[field]].name == name


@pytest.mark.parametrize("rpc", RPCS)
def test_every_rpc_has_a_method_name(rpc):
    """Each rpc is counted under the gateway's name of its operation, or under its own where there is none."""
    assert (rpc in _RPC_METHODS) != (rpc in _OWN_METHODS)


#: What the fields with texts that a request may have say, where it is nobody's id.
_NO_IDS = {"password", "phone_number", "ip", "entry_ip", "vc_phone_number", "guid", "cursor", "batch_id", "page_token"}
_NAMED = {
    Names.INSPECTOR: [{"agent_id"}],
    Names.AGENT: [{"agent_id", "work_no"}, {"agent_id", "work_no", "call_id"}],
    Names.AGENTS: [{"agent_id", "work_nos"}],
    Names.CALL: [{"agent_id", "call_id"}],
    Names.NOBODY: [set()],
}


def test_the_policy_knows_every_rpc_and_whom_its_request_names():
    """An rpc or an id that is new in the contract has to be judged before it can be called."""
    methods = [(service.name, method) for service in SERVICES.values() for method in service.methods]
    assert {service: set(rpcs) for service, rpcs in POLICY_SERVICES.items()} == {
        service.name: {method.name for method in service.methods} for service in SERVICES.values()
    }
    assert len(methods) == len(METHODS)  # no two services have an rpc of the same name
    for service, method in methods:
        texts = {one.name for one in method.input_type.fields if one.type == FieldDescriptor.TYPE_STRING} - _NO_IDS
        assert METHODS[method.name].service == service
        assert texts in _NAMED[METHODS[method.name].names], method.full_name


def test_no_method_name_is_made_up():
    """The mapping names rpcs of the contract only."""
    assert set(filter(None, _RPC_METHODS)) | set(_OWN_METHODS) == set(RPCS)


@pytest.mark.parametrize(("servicer", "service"), SERVICES.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_every_rpc_is_implemented(servicer, service):
    """No rpc of the contract falls back to the generated stub, which knows nothing of our errors."""
    for method in service.methods:
        assert method.name in vars(servicer)
        handler = inspect.unwrap(vars(servicer)[method.name])
        assert inspect.iscoroutinefunction(handler) != method.server_streaming


def test_the_method_label_is_closed():
    """An rpc that is not in the set is counted as `other`, so no caller can make new time series."""
    registry = open_registry()
    metrics = Metrics(registry, label_sets({"default"}, METHOD_LABELS, {"0"}, EVENT_TYPES))
    for rpc in (*RPCS, "MadeUp"):
        metrics.request_finished("default", _RPC_METHODS.get(rpc, rpc), "OK", 0.1)
    counted = {
        sample.labels["method"]
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "qc_requests_total"
    }
    assert counted == {_RPC_METHODS.get(rpc, rpc) for rpc in RPCS} | {"other"}


def test_reasons_of_gaps_are_countable():
    """Each reason of a gap is in the closed set of its metric."""
    labels = LabelSets(frozenset(), frozenset(), frozenset(), frozenset())
    assert {reason.lower() for reason in GapReason} == labels.gap_reasons


def test_states_of_sessions_are_countable():
    """Each state of a poller, and of an inspector whose polls are answered, is in the closed set of its metric."""
    labels = LabelSets(frozenset(), frozenset(), frozenset(), frozenset())
    told = {label_of(state, Activity(does)) for state, does in product(PollState, InspectorState)}
    assert told == labels.session_states


def test_services_are_countable():
    """Each service of the contract is in the closed set of the streams' metric."""
    labels = LabelSets(frozenset(), frozenset(), frozenset(), frozenset())
    assert {service.name for service in SERVICES.values()} == labels.services


def test_enums_of_the_domain_have_their_values_in_the_contract():
    """Every follow mode, event source and polling state can be told, each by another value."""
    assert {f"FOLLOW_{follow.name}" for follow in Follow} == set(quality_control_pb2.Follow.keys())
    assert {f"EVENT_SOURCE_{source.name}" for source in EventSource} == {
        sessions_pb2.EventSource.Name(value) for value in _SOURCES.values()
    }
    assert set(_STATES) == set(PollState)
    assert len(set(_STATES.values())) == len(_STATES)
    assert set(_INSPECTOR_STATES) == set(InspectorState)
    assert set(_INSPECTOR_STATES.values()) == set(sessions_pb2.InspectorState.values())
