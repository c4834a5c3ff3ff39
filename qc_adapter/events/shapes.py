"""
Which typed details an event gets and from where: one table, by event type.

Field names vary between pages and versions (`callid` and `callId`, numbers as text), so each field lists the keys it
may come under.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Fields that are times, in milliseconds since the epoch.
TIMES: Final = frozenset({"begin_time", "end_time", "login_time"})
#: The kind of details that tells of another agent than the inspector.
MONITORED: Final = "monitored"
#: Where a call id may stand.
CALL_ID_KEYS: Final = ("callid", "callId", "callID")
#: The numbers of the proto enum MonitoredAgent.Kind, by the gateway's subtype; only the first two are documented.
MONITORED_KINDS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "QC_AgentState_Login": 1,
        "QC_AgentState_Logout": 2,
        "QC_AgentState_Idle": 3,
        "QC_AgentState_Busy": 4,
        "QC_AgentState_Work": 5,
        "QC_AgentState_Rest": 6,
        "QC_AgentState_Talking": 7,
        "QC_AgentState_SuperviseInsert": 8,
        "QC_AgentState_StopSuperviseInsert": 9,
    }
)

_CALL: Final[Mapping[str, tuple[str, ...]]] = {
    "call_id": CALL_ID_KEYS,
    "caller": ("caller",),
    "called": ("called",),
    "feature": ("feature", "callfeature"),
    "type": ("type",),
    "media_ability": ("mediaAbility",),
    "media_type": ("mediaType",),
    "other_party": ("otherPhone", "partner"),
}
#: At a linked phone, numbers are objects (cec_07_0579).
_LINKED_CALL: Final[Mapping[str, tuple[str, ...]]] = {
    "call_id": CALL_ID_KEYS,
    "caller": ("addrCaller.address",),
    "called": ("addrCalled.address",),
    "other_party": ("addrOut.address",),
}
_RECORD: Final[Mapping[str, tuple[str, ...]]] = {
    "call_id": CALL_ID_KEYS,
    "record_id": ("recordID", "recordId"),
    "task_id": ("taskId",),
    "file_name": ("fileName",),
    "location_id": ("locationId",),
    "file_media_type": ("fileMediaType",),
    "caller": ("caller",),
    "called": ("called",),
    "begin_time": ("beginTime",),
    "end_time": ("endTime",),
}
_QC: Final[Mapping[str, tuple[str, ...]]] = {"qc_agent_id": ("qcAgentId",), "qc_type": ("qcType",)}
_RELEASE: Final[Mapping[str, tuple[str, ...]]] = {"call_id": CALL_ID_KEYS, "number": ("number",)}
#: Phone.State by the state of a linked phone (cec_07_0572); talking, online and offline are none of them.
_LINKED_PHONE: Final[Mapping[str, int]] = {"0": 2, "1": 3, "5": 1}


@dataclass(frozen=True, slots=True)
class Shape:
    """
    Where the details of one event type come from.

    `kind` is the field of the proto message. Its fields come by `keys` from the content ("a.b" is the key b within a),
    by `codes` from a key of the content and the numbers that its values mean, and by `constants` from the event's name.
    """

    kind: str
    keys: Mapping[str, tuple[str, ...]]
    constants: Mapping[str, str | bool | int] = field(default_factory=dict)
    codes: Mapping[str, tuple[str, Mapping[str, int]]] = field(default_factory=dict)


def _call() -> Shape:
    return Shape("call", _CALL)


def _linked_call() -> Shape:
    return Shape("call", _LINKED_CALL)


def _record(phase: int) -> Shape:
    return Shape("record", _RECORD, {"phase": phase})


def _phone(state: int) -> Shape:
    return Shape("phone", {"line": ("type",), "released_by": ("phoneState",)}, {"state": state})


def _state(state: int, *, forced: bool = False) -> Shape:
    return Shape("state", {"reason": ("reason",)}, {"state": state, "forced": forced})


# The numbers are those of the proto enums Recording.Phase, Phone.State and StateChange.State.
SHAPES: Final[Mapping[str, Shape]] = {
    "AgentEvent_Talking": Shape("talking", _CALL),
    "AgentEvent_Ringing": _call(),
    "AgentEvent_Auto_Answer": _call(),
    "AgentEvent_Incoming_CallInfo": _call(),
    "AgentEvent_Customer_Alerting": _call(),
    "AgentEvent_Conference": _call(),
    "AgentEvent_Hold": _call(),
    "AgentEvent_Call_Out_Fail": _call(),
    "AgentEvent_Inside_Call_Fail": _call(),
    "AgentEvent_No_Answer": _call(),
    "AgentEvent_No_Answer_From_Cti": _call(),
    "AgentEvent_Connect_Fail": _call(),
    "AgentEvent_Consult_Fail": _call(),
    "AgentEvent_ReturnFromIvr": _call(),
    "AgentEvent_SuccTransResult": _call(),
    "AgentEvent_MediaSwith": _call(),
    "AgentEvent_ReleaseRequest": _call(),
    "AgentEvent_ReleaseResponse": _call(),
    "AgentEvent_MessageData": _call(),
    "AgentEvent_RequestConnect": _call(),
    "AgentEvent_ImageCapture": _call(),
    "OUTBOUND_DETECT_EVENT": _call(),
    "AgentChat_Ring": _call(),
    "AgentChat_Connected": _call(),
    "AgentChat_Disconnected": _call(),
    "AgentChat_DataRecved": _call(),
    "AgentChat_CallOutCreated": _call(),
    "AgentChat_CalloutFailed": _call(),
    "AgentEvent_linkagePhoneCallOut": _linked_call(),
    "AgentEvent_linkagePhoneHold": _linked_call(),
    "AgentEvent_linkagePhoneUnHold": _linked_call(),
    "AgentEvent_linkagePhoneTransferOut": _linked_call(),
    "AgentEvent_linkagePhoneTransferOut_Result": _linked_call(),
    "AgentEvent_Call_Release": Shape("call_release", _RELEASE, {"by_customer": False}),
    "AgentEvent_Customer_Release": Shape("call_release", _RELEASE, {"by_customer": True}),
    "AgentMediaEvent_Record": _record(1),
    "AgentMediaEvent_Record_Fail": _record(2),
    "AgentMediaEvent_StopRecordDone": _record(3),
    "AgentOther_PhoneAlerting": _phone(1),
    "AgentOther_PhoneOffhook": _phone(2),
    "AgentOther_PhoneRelease": _phone(3),
    "AgentOther_PhoneBusy": _phone(4),
    "AgentOther_PhoneUnknow": _phone(0),
    "AgentEvent_linkagePhoneStatus": Shape("phone", {}, {"state": 0}, {"state": ("result", _LINKED_PHONE)}),
    "AgentOther_BeQcStart": Shape("qc", _QC, {"ended": False}),
    "AgentOther_BeQcStop": Shape("qc", _QC, {"ended": True}),
    "AgentState_Ready": _state(1),
    "AgentState_Force_Ready": _state(1, forced=True),
    "AgentState_Busy": _state(2),
    "AgentState_SetNotReady_Success": _state(3),
    "AgentState_Force_SetNotReady": _state(3, forced=True),
    "AgentState_Work": _state(4),
    "AgentState_SetWork_Success": _state(4),
    "AgentState_SetRest_Success": _state(5),
    "AgentState_Rest_Timeout": _state(5),
    "AgentState_CancelNotReady_Success": _state(0),
    "AgentState_CancelRest_Success": _state(0),
    "AgentState_CancelWork_Success": _state(0),
    "AgentOther_InService": Shape("session", {}, {"ended": False}),
    "AgentOther_ShutdownService": Shape("session", {"login_time": ("loginTime",)}, {"ended": True}),
    "QC_AgentState_Notify": Shape(
        MONITORED,
        {"work_no": ("monitoredagent",), "subtype": ("subtype",), "name": ("agentname",)},
        {"kind": 0},
        {"kind": ("subtype", MONITORED_KINDS)},
    ),
}
