"""The state machine of inspectors and what both sides are told, on an injected clock."""

import pytest

from qc_adapter.simulator import MistakeCodes


def test_listening_seizes_the_phone_first(floor):
    """Listening is SEIZED until the phone is picked up; only then is the agent told of it."""
    floor.sign_in("101")
    floor.sign_in("292")
    floor.call("292")
    floor.events("101")
    floor.events("292")
    assert floor.do("addSupervise", work_no="292") == "0"
    assert floor.gateway.inspections.state_of("101") == "SEIZED"
    assert floor.event_types("292") == []
    floor.move(0.05)
    assert floor.gateway.inspections.state_of("101") == "LISTENING"
    assert floor.event_types("101") == ["AgentState_Busy", "AgentOther_PhoneAlerting", "AgentOther_PhoneOffhook"]
    assert [(e["eventType"], e["content"]) for e in floor.events("292")] == [
        ("AgentOther_BeQcStart", {"qcAgentId": 101, "qcType": 8})
    ]


@pytest.mark.parametrize(
    ("operation", "state", "qc_type"),
    [("addSupervise", "LISTENING", 8), ("addInsert", "INSERTED", 9), ("requestWhisperAgent", "WHISPERING", 20172)],
    ids=["listen", "insert", "whisper"],
)
def test_every_way_to_begin_has_its_state_and_type(floor, operation, state, qc_type):
    """Listen, insert and whisper lead to their own state and tell the agent their own type."""
    floor.sign_in("101")
    floor.sign_in("292")
    floor.call("292")
    floor.events("292")
    assert floor.do(operation, work_no="292") == "0"
    floor.move(1)
    assert floor.gateway.inspections.state_of("101") == state
    assert floor.events("292")[0]["content"]["qcType"] == qc_type


def test_connected_phone_does_not_ring(new_floor):
    """With a permanently connected phone there is no PhoneAlerting."""
    floor = new_floor(phone_connected=True)
    floor.sign_in("101")
    floor.call("292")
    floor.events("101")
    floor.do("addSupervise", work_no="292")
    floor.move(1)
    assert floor.event_types("101") == ["AgentState_Busy", "AgentOther_PhoneOffhook"]


def test_phone_that_is_not_answered_ends_in_idle(new_floor):
    """A phone that nobody picks up brings the inspector back to IDLE."""
    floor = new_floor(phone_answered=False, answer_timeout_seconds=20)
    floor.sign_in("101")
    floor.call("292")
    floor.do("addSupervise", work_no="292")
    floor.move(19)
    assert floor.gateway.inspections.state_of("101") == "SEIZED"
    floor.events("101")
    floor.move(2)
    assert floor.gateway.inspections.state_of("101") == "IDLE"
    assert floor.event_types("101") == ["AgentOther_PhoneRelease", "AgentState_Ready"]


def test_intercept_moves_the_call(floor):
    """After an intercept the inspector talks on the customer's call and is recorded; the agent is let go."""
    call = floor.listening()
    assert floor.do("intercept", work_no="292") == "0"
    assert floor.gateway.inspections.state_of("101") == "INTERCEPTED"
    floor.move(1)
    talking, record = floor.events("101")
    assert talking["eventType"] == "AgentEvent_Talking"
    assert talking["content"] == {
        "caller": "13800000000",
        "callid": call.call_id,
        "called": "70092",
        "feature": "0",
        "type": "main",
        "mediaAbility": "1",
    }
    assert (record["eventType"], record["content"]["callId"]) == ("AgentMediaEvent_Record", call.call_id)
    assert [(e["eventType"], e["content"]) for e in floor.events("292")] == [
        ("AgentOther_BeQcStop", {"qcAgentId": 101, "qcType": 8}),
        ("AgentEvent_Call_Release", call.call_id),
        ("AgentEvent_Customer_Release", {"callid": call.call_id, "number": "13800000000"}),
        ("AgentOther_PhoneRelease", {"phoneState": 3}),
        ("AgentState_Ready", None),
    ]
    assert (floor.agent("101").call_id, floor.agent("292").call_id) == (call.call_id, None)


def test_call_without_recording_has_no_record_event(new_floor):
    """With recording off an intercept brings AgentEvent_Talking alone."""
    floor = new_floor(recording=False)
    floor.listening()
    floor.do("intercept", work_no="292")
    floor.move(1)
    assert floor.event_types("101") == ["AgentEvent_Talking"]


def test_order_and_delay_of_intercept_events_can_be_chosen(new_floor):
    """The order is a setting, each event may have its own delay, and None keeps it away."""
    floor = new_floor(
        intercept_inspector_events=("AgentMediaEvent_Record", "AgentEvent_Talking"),
        intercept_agent_events=("AgentState_Ready",),
        event_delays={"AgentEvent_Talking": 3.0, "AgentState_Ready": None},
    )
    floor.listening()
    floor.do("intercept", work_no="292")
    floor.move(1)
    assert floor.event_types("101") == ["AgentMediaEvent_Record"]
    assert floor.events("292") == []
    floor.move(2)
    assert floor.event_types("101") == ["AgentEvent_Talking"]


def test_intercepted_call_ends_with_all_releases(floor):
    """When the customer of an intercepted call hangs up, the inspector is released and idle again."""
    call = floor.listening()
    floor.do("intercept", work_no="292")
    floor.move(1)
    floor.events("101")
    floor.gateway.switchboard.end(call)
    assert floor.event_types("101") == [
        "AgentEvent_Call_Release",
        "AgentEvent_Customer_Release",
        "AgentOther_PhoneRelease",
        "AgentState_Ready",
        "AgentMediaEvent_StopRecordDone",
    ]
    assert floor.gateway.inspections.state_of("101") == "IDLE"


def test_intercept_of_a_call_wants_that_call(floor):
    """Intercept with a call id works for the agent's present call only."""
    call = floor.listening()
    assert floor.do("intercept", work_no="292", callId="1-1") == "900-003"
    assert floor.do("intercept", work_no="292", callId=call.call_id) == "0"


def test_inspected_call_that_ends_frees_the_inspector(floor):
    """When the inspected call ends by itself, the inspection ends too and both sides are told."""
    call = floor.listening()
    floor.gateway.switchboard.end(call)
    assert floor.event_types("101") == ["AgentOther_PhoneRelease", "AgentState_Ready"]
    assert "AgentOther_BeQcStop" in floor.event_types("292")
    assert floor.gateway.inspections.state_of("101") == "IDLE"


def test_stop_and_switch_follow_the_modes(floor):
    """Toggling and switching change the mode and tell the agent; each stop fits its own modes only."""
    floor.listening()
    assert floor.do("switchSuperviseOrInsert", work_no="292") == "0"
    assert floor.gateway.inspections.state_of("101") == "INSERTED"
    by_query = {"whisperagentid": "292", "switchtype": "2"}
    assert floor.do("requestSwitchInsertWhisperAgent", query=by_query) == "0"
    assert floor.gateway.inspections.state_of("101") == "WHISPERING"
    assert floor.do("stopSuperviseOrInsert", work_no="292") == "900-005"
    assert floor.do("switchSuperviseOrInsert", work_no="292") == "900-005"
    assert floor.do("requestStopWhisperAgent", query=by_query) == "0"
    floor.move(1)
    assert floor.event_types("292") == ["AgentOther_BeQcStart", "AgentOther_BeQcStart", "AgentOther_BeQcStop"]
    assert floor.event_types("101") == ["AgentOther_PhoneRelease", "AgentState_Ready"]


def test_mistakes_have_their_codes(new_floor):
    """Each wrong move has a retcode of its own, and each of them is a setting."""
    floor = new_floor(mistake_codes=MistakeCodes(intercept_without_inspection="900-005"))
    floor.sign_in("101")
    floor.sign_in("292")
    assert floor.do("addSupervise", work_no="101") == "000-005"
    assert floor.do("addSupervise", work_no="293") == "900-004"
    assert floor.do("addSupervise", work_no="292") == "900-003"
    assert floor.do("intercept", work_no="292") == "900-005"
    assert floor.do("stopSuperviseOrInsert", work_no="292") == "900-005"
    assert floor.do("forceDropCall", callId="1-1") == "200-025"
    assert floor.do("requestSwitchInsertWhisperAgent", query={"whisperagentid": "292", "switchtype": "7"}) == "000-002"
    floor.agent("101").inspector = False
    assert floor.do("addSupervise", work_no="292") == "900-002"


def test_busy_inspector_cannot_listen(floor):
    """Who already inspects gets the code for a wrong state."""
    floor.listening()
    floor.call("293")
    assert floor.do("addSupervise", work_no="293") == "900-005"


def test_forced_states_wait_for_the_end_of_the_call(floor):
    """Force busy on a talking agent is accepted now; the event comes after the call."""
    call = floor.listening()
    assert floor.do("forceBusy", work_no="292") == "0"
    floor.move(1)
    assert floor.events("292") == []
    floor.gateway.switchboard.end(call)
    assert "AgentState_Force_SetNotReady" in floor.event_types("292")


def test_forced_rest_reminds_when_it_is_over(floor):
    """Force rest tells the agent at once, and again when the time is over."""
    floor.sign_in("101")
    floor.sign_in("292")
    floor.events("292")
    assert floor.do("forceRest", work_no="292", time="60", reason="200") == "0"
    floor.move(1)
    assert [e["content"] for e in floor.events("292")] == [{"reason": "200"}]
    floor.move(60)
    assert floor.event_types("292") == ["AgentState_Rest_Timeout"]


def test_forced_idle_and_skills(floor):
    """Force idle ends a busy posture; adjusting skills changes them and tells nobody."""
    floor.sign_in("101")
    floor.sign_in("292")
    floor.events("292")
    floor.do("forceBusy", work_no="292")
    floor.do("forceIdle", work_no="292")
    body = b'{"workNo":"292","skills":[10,25]}'
    assert floor.do("adjustSkill", body=body) == "0"
    assert floor.do("adjustSkill", body=b"{}") == "100-001"
    floor.move(1)
    assert floor.event_types("292") == ["AgentState_Force_SetNotReady", "AgentState_Force_Ready"]
    assert floor.agent("292").skills == (10, 25)


def test_forced_sign_out_ends_call_and_inspection(floor):
    """Signing the inspected agent out ends his call and with it the inspection."""
    floor.listening()
    assert floor.do("forceLogOutAgent", work_no="292") == "0"
    assert floor.agent("292").sign_in is None
    assert floor.gateway.inspections.state_of("101") == "IDLE"
    assert floor.gateway.record.sign_outs[-1].reason == "by_inspector"


def test_dropped_call_releases_its_agent(floor):
    """A dropped call is released like one that the customer ended."""
    call = floor.listening()
    assert floor.do("forceDropCall", callId=call.call_id) == "0"
    floor.move(1)
    assert "AgentEvent_Call_Release" in floor.event_types("292")
    assert floor.agent("292").call_id is None


def test_hold_and_resume_repeat_talking(floor):
    """Hold carries the bare call id; taking the call back brings Talking again with the same id."""
    floor.sign_in("292")
    call = floor.call("292")
    floor.events("292")
    floor.gateway.switchboard.hold(call)
    floor.gateway.switchboard.resume(call)
    hold, talking = floor.events("292")
    assert (hold["eventType"], hold["content"]) == ("AgentEvent_Hold", call.call_id)
    assert (talking["eventType"], talking["content"]["callid"]) == ("AgentEvent_Talking", call.call_id)


def test_odd_shapes_are_a_choice(new_floor):
    """Numbers as numbers, NUL-padded call data and an early record event can be asked for."""
    floor = new_floor(feature_as_number=True, nul_padded_call_data=True, record_first=True)
    floor.sign_in("292")
    floor.events("292")
    floor.call("292")
    events = {event["eventType"]: event["content"] for event in floor.events("292")}
    assert list(events).index("AgentMediaEvent_Record") < list(events).index("AgentOther_PhoneOffhook")
    assert events["AgentEvent_Talking"]["feature"] == 0
    assert events["AgentEvent_Auto_Answer"]["calldata"].endswith("\0")


def test_empty_content_can_be_an_object(new_floor):
    """S17: what has no content carries null, or an empty object if so chosen."""
    floor = new_floor(empty_content="object")
    floor.sign_in("292")
    assert [event["content"] for event in floor.events("292")] == [{}, {}]


def test_calls_run_by_themselves_only_for_agents_with_skills(new_floor):
    """Self-running calls reach a signed-in agent only after resetskill."""
    floor = new_floor(calls_per_minute=60, call_agents=("292",), call_seconds=(1000.0, 1000.0), random_seed=1)
    floor.sign_in("292")
    floor.gateway.floor.begin()
    floor.move(100)
    assert floor.agent("292").call_id is None
    assert floor.do("resetSkill", "292", autoflag="true", query={"skillid": "1;2;3"}) == "0"
    assert floor.agent("292").skills == (1, 2, 3)
    floor.move(100)
    assert floor.agent("292").call_id is not None


def test_posture_of_an_agent_is_deferred_during_a_call(floor):
    """Asking for busy or rest during a call is accepted; the state changes after the call."""
    floor.sign_in("292")
    call = floor.call("292")
    floor.events("292")
    assert floor.do("sayBusy", "292") == "0"
    floor.move(1)
    assert floor.events("292") == []
    floor.gateway.switchboard.end(call)
    assert "AgentState_SetNotReady_Success" in floor.event_types("292")
    assert floor.do("sayFree", "292") == "0"
    floor.move(1)
    assert floor.event_types("292") == ["AgentState_CancelNotReady_Success"]


def test_inspectors_who_ask_hear_of_sign_ins(floor):
    """With listenStatus an inspector is told of every sign-in and sign-out."""
    assert floor.do("login", "101", body=b'{"password":"","listenStatus":"true"}') == "0"
    floor.events("101")
    floor.sign_in("292")
    floor.do("logout", "292")
    assert [e["content"]["subtype"] for e in floor.events("101")] == ["QC_AgentState_Login", "QC_AgentState_Logout"]
