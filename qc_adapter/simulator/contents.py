"""Between the call floor and the mailboxes: what each event carries, in the shapes that real gateways send."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

QC_LISTEN = 8
QC_INSERT = 9
QC_WHISPER = 20172


@dataclass(slots=True)
class Call:
    """A customer's call; the agent who has it may change."""

    call_id: str
    customer: str
    called: str
    agent_id: str
    begin_ms: int
    task_id: int
    recorded: bool
    feature: str = "0"
    record_begin_ms: int = 0
    held: bool = False


@dataclass(frozen=True, slots=True)
class Shapes:
    """Makes contents; knows the choices of the site."""

    feature_as_number: bool
    nul_padded_call_data: bool

    def talking(self, call: Call) -> dict[str, Any]:
        """Return the content of AgentEvent_Talking."""
        return {
            "caller": call.customer,
            "callid": call.call_id,
            "called": call.called,
            "feature": int(call.feature) if self.feature_as_number else call.feature,
            "type": "main",
            "mediaAbility": "1",
        }

    def ringing(self, call: Call) -> dict[str, Any]:
        """Return the content of AgentEvent_Ringing and AgentEvent_Auto_Answer."""
        content = {**self.talking(call), "mediaType": "5", "transfer": "no", "transfrom": ""}
        if self.nul_padded_call_data:
            content["calldata"] = "order=4711".ljust(16, "\0")
        return content


def record(call: Call, agent_id: str) -> dict[str, Any]:
    """Return the content of AgentMediaEvent_Record."""
    begin = datetime.fromtimestamp(call.record_begin_ms / 1000, UTC)
    day, moment = f"{begin:%Y%m%d}", f"{begin:%H%M%S}0"
    return {
        "taskId": call.task_id,
        "caller": call.customer,
        "recordID": f"Yc1v1a{agent_id}d{day}t{moment}",
        "called": call.called,
        "locationId": "65535",
        "fileName": f"Y:/1/0/{day}/{agent_id}/{moment}.V3",
        "fileMediaType": "1",
        "callId": call.call_id,
    }


def record_done(call: Call, end_ms: int) -> dict[str, Any]:
    """Return the content of AgentMediaEvent_StopRecordDone."""
    return {
        "beginTime": call.record_begin_ms,
        "endTime": end_ms,
        "fileMediaType": "1",
        "recordFormat": "3",
        "taskId": call.task_id,
        "jsonKey": ["beginTime", "endTime", "taskId"],
    }


def customer_release(call: Call) -> dict[str, str]:
    """Return the content of AgentEvent_Customer_Release."""
    return {"callid": call.call_id, "number": call.customer}


def quality_control(inspector_id: str, qc_type: int) -> dict[str, int]:
    """Return the content of AgentOther_BeQcStart and AgentOther_BeQcStop."""
    return {"qcAgentId": int(inspector_id), "qcType": qc_type}


def agent_notice(agent_id: str | int, subtype: str) -> dict[str, Any]:
    """Return the content of QC_AgentState_Notify."""
    return {
        "subtype": subtype,
        "monitoredagent": agent_id,
        "agentname": str(agent_id),
        "mediaserver": "CtiServer",
        "jsonKey": ["subtype", "monitoredagent", "agentname", "mediaserver"],
    }
