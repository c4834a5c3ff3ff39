"""
From the gateway's raw event to a typed one.

Every type that inspection needs gets typed details; any other passes through with its content whole. Field names vary
between pages and versions (`callid` and `callId`, numbers as text), so each field lists the keys it may come under.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qc_adapter.events.model import AgentEvent, Details

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qc_adapter.gateway.envelope import RawEvent


_CALL_ID = ("callid", "callId", "callID")
_CALL = {
    "call_id": _CALL_ID,
    "caller": ("caller",),
    "called": ("called",),
    "feature": ("feature", "callfeature"),
    "type": ("type",),
    "media_ability": ("mediaAbility",),
    "media_type": ("mediaType",),
    "other_party": ("otherPhone", "partner"),
}
_RECORDING = {
    "call_id": _CALL_ID,
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
_QC = {"qc_agent_id": ("qcAgentId",), "qc_type": ("qcType",)}
_RELEASE = {"call_id": _CALL_ID, "number": ("number",)}
_TIMES = frozenset({"begin_time", "end_time", "login_time"})


@dataclass(frozen=True, slots=True)
class Shape:
    """Where the details of one event type come from: `keys` from its content, `constants` from its name."""

    kind: str
    keys: Mapping[str, tuple[str, ...]]
    constants: Mapping[str, str | bool | int]


def _call() -> Shape:
    return Shape("call", _CALL, {})


def _recording(phase: int) -> Shape:
    return Shape("record", _RECORDING, {"phase": phase})


def _phone(state: int) -> Shape:
    return Shape("phone", {"line": ("type",), "released_by": ("phoneState",)}, {"state": state})


def _state(state: int, *, forced: bool = False) -> Shape:
    return Shape("state", {"reason": ("reason",)}, {"state": state, "forced": forced})


# The numbers are those of the proto enums Recording.Phase, Phone.State and StateChange.State.
SHAPES: Mapping[str, Shape] = {
    "AgentEvent_Talking": Shape("talking", _CALL, {}),
    "AgentEvent_Ringing": _call(),
    "AgentEvent_Auto_Answer": _call(),
    "AgentEvent_Customer_Alerting": _call(),
    "AgentEvent_Conference": _call(),
    "AgentEvent_Hold": _call(),
    "AgentEvent_Call_Out_Fail": _call(),
    "AgentEvent_Inside_Call_Fail": _call(),
    "AgentEvent_No_Answer": _call(),
    "AgentEvent_Connect_Fail": _call(),
    "AgentEvent_Consult_Fail": _call(),
    "AgentEvent_ReturnFromIvr": _call(),
    "AgentEvent_Incoming_CallInfo": _call(),
    "AgentEvent_Call_Release": Shape("call_release", _RELEASE, {"by_customer": False}),
    "AgentEvent_Customer_Release": Shape("call_release", _RELEASE, {"by_customer": True}),
    "AgentMediaEvent_Record": _recording(1),
    "AgentMediaEvent_Record_Fail": _recording(2),
    "AgentMediaEvent_StopRecordDone": _recording(3),
    "AgentOther_PhoneAlerting": _phone(1),
    "AgentOther_PhoneOffhook": _phone(2),
    "AgentOther_PhoneRelease": _phone(3),
    "AgentOther_PhoneBusy": _phone(4),
    "AgentOther_PhoneUnknow": _phone(0),
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
        "monitored",
        {"work_no": ("monitoredagent",), "subtype": ("subtype",), "name": ("agentname",)},
        {},
    ),
}


def translate(raw: RawEvent, received_at: float) -> AgentEvent:
    """Return the typed event; never fails, whatever the content looks like."""
    details = _details(raw.event_type, raw.content)
    return AgentEvent(
        event_type=raw.event_type,
        work_no=raw.work_no,
        content=raw.content,
        gateway_time_ms=raw.gateway_time_ms,
        received_at=received_at,
        call_id=_call_id(raw.content, details),
        details=details,
    )


def _details(event_type: str, content: Any) -> Details | None:
    shape = SHAPES.get(event_type)
    if shape is None:
        return None
    fields: dict[str, str | bool | int] = dict(shape.constants)
    if isinstance(content, str):
        # The bare text of these events is the call id (cec_07_1363).
        if "call_id" in shape.keys:
            fields["call_id"] = content
    elif isinstance(content, dict):
        for name, keys in shape.keys.items():
            value = _first(content, keys)
            if value is not None:
                _take(fields, name, value)
    if shape.kind == "state" and fields.get("reason") == "3":
        fields["forced"] = True  # busy reason 3 = by an inspector (cec_07_1346)
    return Details(shape.kind, fields)


def _first(content: Mapping[str, Any], keys: tuple[str, ...]) -> str | None:
    for key in keys:
        text = _text(content.get(key))
        if text is not None:
            return text
    return None


def _take(fields: dict[str, str | bool | int], name: str, text: str) -> None:
    if name not in _TIMES:
        fields[name] = text
    elif text.isascii() and text.isdigit() and len(text) <= 14:  # milliseconds until the year 5138
        fields[name] = int(text)


def _text(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or value is None or isinstance(value, (dict, list)):
        return None
    return str(value)


def _call_id(content: Any, details: Details | None) -> str:
    if details is not None:
        return str(details.fields.get("call_id", ""))
    if isinstance(content, dict):
        return _first(content, _CALL_ID) or ""
    return ""
