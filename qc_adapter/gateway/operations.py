"""The gateway's operations: names, verbs, paths, and the events that prove what they did."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Effects:
    """
    The events that an accepted command brings to the inspector.

    All of `expected` complete the command; one of `confirming` proves it. With `documented` false
    the list is a conclusion from neighbouring operations.
    """

    expected: tuple[str, ...]
    confirming: frozenset[str]
    documented: bool


@dataclass(frozen=True, slots=True)
class Operation:
    """
    One operation of the gateway.

    `method` is the gateway's own name in its logs and our metric label, `path` a template below
    `/agentgateway/resource`, `rpc` our name of it, `page` where the reference describes it.
    """

    method: str
    verb: str
    path: str
    rpc: str
    page: str
    effects: Effects | None = None


_INTERCEPTED = ("AgentEvent_Talking", "AgentMediaEvent_Record")
_SEIZED = ("AgentState_Busy", "AgentOther_PhoneOffhook")
_FREED = ("AgentOther_PhoneRelease", "AgentState_Ready")

# Record comes only where recording is on, and early (WIRE 2.2): it completes, and does not prove.
_INTERCEPT = Effects(_INTERCEPTED, frozenset({"AgentEvent_Talking"}), documented=True)
# Busy says that the inspector is taken, not yet that it hears: only the picked-up phone proves that.
_INSPECT = Effects(_SEIZED, frozenset({"AgentOther_PhoneOffhook"}), documented=True)
_STOP = Effects(_FREED, frozenset(_FREED), documented=True)

_QC = "/qualitycontrol/{agent_id}"
_ONLINE = "/onlineagent/{agent_id}"

INTERCEPT = Operation("intercept", "PUT", f"{_QC}/intercept/{{work_no}}", "Intercept", "cec_07_2403", _INTERCEPT)
INTERCEPT_CALL = Operation(
    "intercept",
    "PUT",
    f"{_QC}/intercept/{{work_no}}/{{call_id}}",
    "Intercept",
    "cec_07_0437",
    # The page could not be read: taken from intercept without a call id.
    Effects(_INTERCEPTED, frozenset({"AgentEvent_Talking"}), documented=False),
)
LISTEN = Operation("addSupervise", "PUT", f"{_QC}/addsupervise/{{work_no}}", "Listen", "cec_07_2402", _INSPECT)
INSERT = Operation("addInsert", "PUT", f"{_QC}/addinsert/{{work_no}}", "Insert", "cec_07_2401", _INSPECT)
STOP_INSPECTING = Operation(
    "stopSuperviseOrInsert", "DELETE", f"{_QC}/{{work_no}}", "StopInspecting", "cec_07_2404", _STOP
)
WHISPER = Operation("requestWhisperAgent", "POST", f"{_QC}/requestwhisperagent", "Whisper", "cec_07_2412", _INSPECT)
STOP_WHISPERING = Operation(
    "requestStopWhisperAgent",
    "POST",
    f"{_QC}/requeststopwhisperagent",
    "StopWhispering",
    "cec_07_2413",
    # The page names only an event of the inspected agent; ours follow from the cancelled listening.
    Effects(_FREED, frozenset(_FREED), documented=False),
)
SWITCH_MODE = Operation(
    "requestSwitchInsertWhisperAgent", "POST", f"{_QC}/requestswitchinsertwhisperagent", "SwitchMode", "cec_07_2414"
)
TOGGLE_LISTEN_INSERT = Operation(
    "switchSuperviseOrInsert", "POST", f"{_QC}/switch/{{work_no}}", "ToggleListenInsert", "cec_07_2410"
)
FORCE_BUSY = Operation("forceBusy", "POST", f"{_QC}/forcebusy/{{work_no}}", "ForceBusy", "cec_07_2405")
FORCE_IDLE = Operation("forceIdle", "POST", f"{_QC}/forceidle/{{work_no}}", "ForceIdle", "cec_07_2406")
FORCE_SIGN_OUT_AGENT = Operation(
    "forceLogOutAgent", "POST", f"{_QC}/forcelogout/{{work_no}}", "ForceSignOut", "cec_07_2407"
)
FORCE_DROP_CALL = Operation("forceDropCall", "POST", f"{_QC}/forcedropcall/{{call_id}}", "ForceDropCall", "cec_07_2408")
ADJUST_SKILLS = Operation("adjustSkill", "POST", f"{_QC}/adjustskill", "AdjustSkills", "cec_07_2409")
FORCE_REST = Operation(
    "forceRest", "POST", f"{_QC}/forcerest/{{work_no}}/{{seconds}}/{{cause}}", "ForceRest", "cec_07_2411"
)

SIGN_IN = Operation("login", "PUT", _ONLINE, "SignIn", "cec_07_1202")
FORCE_SIGN_IN = Operation("forceLogin", "PUT", f"{_ONLINE}/forcelogin", "SignIn", "cec_07_1203")
SIGN_OUT = Operation("logout", "DELETE", f"{_ONLINE}/logout", "SignOut", "cec_07_1219")
FORCE_SIGN_OUT = Operation("forceLogout", "DELETE", f"{_ONLINE}/forcelogout", "SignOut", "cec_07_1220")
RESET_SKILLS = Operation("resetSkill", "POST", f"{_ONLINE}/resetskill/{{automatic}}", "SignIn", "cec_07_1209")
POLL = Operation("getAgentEvent", "GET", "/agentevent/{agent_id}", "", "cec_07_1274")
HANDSHAKE = Operation("handShake", "POST", f"{_ONLINE}/handshake", "", "cec_07_1204")
UPDATE_GUID = Operation("updateGuid", "PUT", f"{_ONLINE}/updateGuid", "UpdateGuid", "cec_07_1225")

ALL: tuple[Operation, ...] = (
    INTERCEPT,
    INTERCEPT_CALL,
    LISTEN,
    INSERT,
    STOP_INSPECTING,
    WHISPER,
    STOP_WHISPERING,
    SWITCH_MODE,
    TOGGLE_LISTEN_INSERT,
    FORCE_BUSY,
    FORCE_IDLE,
    FORCE_SIGN_OUT_AGENT,
    FORCE_DROP_CALL,
    ADJUST_SKILLS,
    FORCE_REST,
    SIGN_IN,
    FORCE_SIGN_IN,
    SIGN_OUT,
    FORCE_SIGN_OUT,
    RESET_SKILLS,
    POLL,
    HANDSHAKE,
    UPDATE_GUID,
)

METHODS: frozenset[str] = frozenset(operation.method for operation in ALL)
