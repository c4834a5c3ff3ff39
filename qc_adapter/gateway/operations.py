"""The gateway's operations: names, verbs, paths, and the events that prove what they did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Effects:
    """
    The events that an accepted command brings to the inspector, or with `at_target` to the inspected agent.

    All of `expected` complete the command; one of `confirming` proves it, and so does the end of the agent's session
    with `session_end`. With `documented` false the list is a conclusion from neighbouring operations and events.
    """

    expected: tuple[str, ...]
    confirming: frozenset[str]
    documented: bool
    at_target: bool = False
    session_end: bool = False


@dataclass(frozen=True, slots=True)
class Operation:
    """
    One operation of the gateway.

    `method` is the gateway's own name in its logs and our metric label, `path` a template below
    `/agentgateway/resource`, `rpc` our name of it, `page` where the reference describes it. One that is not
    `repeatable` is sent once, also after a refusal. A refusal with a code of `already` says that what was asked for is
    so already: a success.
    """

    method: str
    verb: str
    path: str
    rpc: str
    page: str
    effects: Effects | None = None
    repeatable: bool = True
    already: frozenset[str] = frozenset()


BE_QC_START: Final = "AgentOther_BeQcStart"
SET_NOT_READY: Final = "AgentState_SetNotReady_Success"
CALL_RELEASE: Final = "AgentEvent_Call_Release"
CUSTOMER_RELEASE: Final = "AgentEvent_Customer_Release"

_INTERCEPTED = ("AgentEvent_Talking", "AgentMediaEvent_Record")
_SEIZED = ("AgentState_Busy", "AgentOther_PhoneOffhook")
_FREED = ("AgentOther_PhoneRelease", "AgentState_Ready")

# Record comes only where recording is on, and early (WIRE 2.2): it completes, and does not prove.
_INTERCEPT = Effects(_INTERCEPTED, frozenset({"AgentEvent_Talking"}), documented=True)
# Busy says that the inspector is taken, not yet that it hears: only the picked-up phone proves that.
_INSPECT = Effects(_SEIZED, frozenset({"AgentOther_PhoneOffhook"}), documented=True)
_STOP = Effects(_FREED, frozenset(_FREED), documented=True)


def _at_target(*any_of: str, documented: bool = False, session_end: bool = False) -> Effects:
    """Return the effects of an operation that only the inspected agent hears of; one of the events is all there is."""
    return Effects((), frozenset(any_of), documented, at_target=True, session_end=session_end)


_QC = "/qualitycontrol/{agent_id}"
_ONLINE = "/onlineagent/{agent_id}"
#: What a sign-out is answered with when there is nothing left to sign out.
_ALREADY_OUT: Final = frozenset({"100-006", "000-003", "100-008"})
#: In no published page; verb, path and parameter are those of public clients (WIRE 2.4), the method names are ours.
_CLIENTS = "public clients"

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
    "stopSuperviseOrInsert", "DELETE", f"{_QC}/{{work_no}}", "StopInspecting", "cec_07_2404, cec_07_0438", _STOP
)
WHISPER = Operation(
    "requestWhisperAgent", "POST", f"{_QC}/requestwhisperagent", "Whisper", "cec_07_2412, cec_07_0446", _INSPECT
)
STOP_WHISPERING = Operation(
    "requestStopWhisperAgent",
    "POST",
    f"{_QC}/requeststopwhisperagent",
    "StopWhispering",
    "cec_07_2413, cec_07_0447",
    # The page names only an event of the inspected agent; ours follow from the cancelled listening.
    Effects(_FREED, frozenset(_FREED), documented=False),
)
SWITCH_MODE = Operation(
    "requestSwitchInsertWhisperAgent",
    "POST",
    f"{_QC}/requestswitchinsertwhisperagent",
    "SwitchMode",
    "cec_07_2414, cec_07_0448",
    _at_target(BE_QC_START, documented=True),
)
TOGGLE_LISTEN_INSERT = Operation(
    "switchSuperviseOrInsert",
    "POST",
    f"{_QC}/switch/{{work_no}}",
    "ToggleListenInsert",
    "cec_07_2410, cec_07_0444",
    # The event list of the page could not be read: taken from switching by name.
    _at_target(BE_QC_START),
    repeatable=False,
)
FORCE_BUSY = Operation(
    "forceBusy",
    "POST",
    f"{_QC}/forcebusy/{{work_no}}",
    "ForceBusy",
    "cec_07_2405, cec_07_0439",
    # The page names no event. Public clients know the first one; the second has reason 3, an inspector (cec_07_1346).
    _at_target("AgentState_Force_SetNotReady", SET_NOT_READY),
)
FORCE_IDLE = Operation(
    "forceIdle",
    "POST",
    f"{_QC}/forceidle/{{work_no}}",
    "ForceIdle",
    "cec_07_2406, cec_07_0440",
    # Public clients know the first one; the others end busy, rest and wrap-up (cec_07_1347, 1349, 1352).
    _at_target(
        "AgentState_Force_Ready",
        "AgentState_Ready",
        "AgentState_CancelNotReady_Success",
        "AgentState_CancelRest_Success",
        "AgentState_CancelWork_Success",
    ),
)
FORCE_SIGN_OUT_AGENT = Operation(
    "forceLogOutAgent",
    "POST",
    f"{_QC}/forcelogout/{{work_no}}",
    "ForceSignOut",
    "cec_07_2407, cec_07_0441",
    # The event may find nobody who can still fetch it (cec_07_1402); the next poll is refused then.
    _at_target("AgentOther_ShutdownService", session_end=True),
)
FORCE_DROP_CALL = Operation(
    "forceDropCall",
    "POST",
    f"{_QC}/forcedropcall/{{call_id}}",
    "ForceDropCall",
    "cec_07_2408, cec_07_0442",
    # The events of whoever is on the call. Whose call it is nobody but the inspector's own log can tell.
    Effects((), frozenset({CALL_RELEASE, CUSTOMER_RELEASE, "AgentOther_PhoneRelease"}), documented=False),
    repeatable=False,
    already=frozenset({"200-025"}),
)
ADJUST_SKILLS = Operation("adjustSkill", "POST", f"{_QC}/adjustskill", "AdjustSkills", "cec_07_2409, cec_07_0443")
FORCE_REST = Operation(
    "forceRest",
    "POST",
    f"{_QC}/forcerest/{{work_no}}/{{seconds}}/{{cause}}",
    "ForceRest",
    "cec_07_2411, cec_07_0445",
    # Taken from an agent's own request of a rest (cec_07_1348).
    _at_target("AgentState_SetRest_Success"),
)
MONITOR = Operation("beginMonitor", "POST", f"{_QC}/beginmonitor", "Monitor", _CLIENTS)
STOP_MONITORING = Operation("endMonitor", "POST", f"{_QC}/endmonitor", "StopMonitoring", _CLIENTS)

SIGN_IN = Operation("login", "PUT", _ONLINE, "SignIn", "cec_07_1202")
FORCE_SIGN_IN = Operation("forceLogin", "PUT", f"{_ONLINE}/forcelogin", "SignIn", "cec_07_1203")
SIGN_OUT = Operation("logout", "DELETE", f"{_ONLINE}/logout", "SignOut", "cec_07_1219", already=_ALREADY_OUT)
FORCE_SIGN_OUT = Operation(
    "forceLogout", "DELETE", f"{_ONLINE}/forcelogout", "SignOut", "cec_07_1220", already=_ALREADY_OUT
)
RESET_SKILLS = Operation("resetSkill", "POST", f"{_ONLINE}/resetskill/{{automatic}}", "SignIn", "cec_07_1209")
POLL = Operation("getAgentEvent", "GET", "/agentevent/{agent_id}", "", "cec_07_1274")
HANDSHAKE = Operation("handShake", "POST", f"{_ONLINE}/handshake", "", "cec_07_1204")
UPDATE_GUID = Operation("updateGuid", "PUT", f"{_ONLINE}/updateGuid", "UpdateGuid", "cec_07_1225")

#: What an inspector does to others: all operations under `qualitycontrol`.
INSPECTIONS: tuple[Operation, ...] = (
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
    FORCE_REST,
    FORCE_DROP_CALL,
    ADJUST_SKILLS,
    MONITOR,
    STOP_MONITORING,
)

ALL: tuple[Operation, ...] = (
    *INSPECTIONS,
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
INSPECTION_METHODS: frozenset[str] = frozenset(operation.method for operation in INSPECTIONS)
