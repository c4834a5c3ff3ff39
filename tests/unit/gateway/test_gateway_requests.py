"""What goes onto the wire for each operation."""

from __future__ import annotations

import re

import orjson
import pytest

from qc_adapter.gateway import operations, requests
from qc_adapter.gateway.requests import Mode, SignInForm, SkillReset
from qc_adapter.model.errors import InvalidRequest
from qc_adapter.model.session import Secret

FORM = SignInForm(Secret("pass-word"), phone_number="40038")

BUILT = [
    pytest.param(requests.intercept("117", "291"), "PUT", "/qualitycontrol/117/intercept/291", "", id="intercept"),
    pytest.param(
        requests.intercept("117", "291", "14/5-3 ?"),
        "PUT",
        "/qualitycontrol/117/intercept/291/14%2F5-3%20%3F",
        "",
        id="intercept a call",
    ),
    pytest.param(requests.listen("117", "291"), "PUT", "/qualitycontrol/117/addsupervise/291", "", id="listen"),
    pytest.param(requests.insert("117", "291"), "PUT", "/qualitycontrol/117/addinsert/291", "", id="insert"),
    pytest.param(requests.stop_inspecting("117", "291"), "DELETE", "/qualitycontrol/117/291", "", id="stop"),
    pytest.param(
        requests.whisper("117", "291"),
        "POST",
        "/qualitycontrol/117/requestwhisperagent",
        "whisperagentid=291",
        id="whisper",
    ),
    pytest.param(
        requests.stop_whispering("117", "291"),
        "POST",
        "/qualitycontrol/117/requeststopwhisperagent",
        "whisperagentid=291",
        id="stop whispering",
    ),
    pytest.param(
        requests.switch_mode("117", "291", Mode.WHISPER),
        "POST",
        "/qualitycontrol/117/requestswitchinsertwhisperagent",
        "whisperagentid=291&switchtype=2",
        id="switch",
    ),
    pytest.param(
        requests.toggle_listen_insert("117", "291"), "POST", "/qualitycontrol/117/switch/291", "", id="toggle"
    ),
    pytest.param(requests.force_busy("117", "291"), "POST", "/qualitycontrol/117/forcebusy/291", "", id="busy"),
    pytest.param(requests.force_idle("117", "291"), "POST", "/qualitycontrol/117/forceidle/291", "", id="idle"),
    pytest.param(
        requests.force_rest("117", "291", 600, 7), "POST", "/qualitycontrol/117/forcerest/291/600/7", "", id="rest"
    ),
    pytest.param(
        requests.force_sign_out("north/117", "291"), "POST", "/qualitycontrol/117/forcelogout/291", "", id="agent out"
    ),
    pytest.param(
        requests.force_drop_call("117", "1456401416-3"),
        "POST",
        "/qualitycontrol/117/forcedropcall/1456401416-3",
        "",
        id="drop",
    ),
    pytest.param(
        requests.adjust_skills("117", "291", [10, 25]), "POST", "/qualitycontrol/117/adjustskill", "", id="adjust"
    ),
    pytest.param(
        requests.monitor("117", ["291", "292"]),
        "POST",
        "/qualitycontrol/117/beginmonitor",
        "agents=291;292",
        id="monitor",
    ),
    pytest.param(
        requests.stop_monitoring("117", ["291"]), "POST", "/qualitycontrol/117/endmonitor", "agents=291", id="no more"
    ),
    pytest.param(requests.sign_in("117", FORM, force=False), "PUT", "/onlineagent/117", "", id="sign in"),
    pytest.param(requests.sign_in("117", FORM, force=True), "PUT", "/onlineagent/117/forcelogin", "", id="force"),
    pytest.param(requests.sign_out("117", force=False), "DELETE", "/onlineagent/117/logout", "", id="sign out"),
    pytest.param(requests.sign_out("117", force=True), "DELETE", "/onlineagent/117/forcelogout", "", id="force out"),
    pytest.param(
        requests.reset_skills("117", SkillReset(automatic=False, skill_ids=(1, 2, 3), phone_linkage=True)),
        "POST",
        "/onlineagent/117/resetskill/false",
        "skillid=1;2;3&phonelinkage=1",
        id="skills",
    ),
    pytest.param(
        requests.reset_skills("117", SkillReset()), "POST", "/onlineagent/117/resetskill/true", "", id="all skills"
    ),
    pytest.param(requests.poll("117"), "GET", "/agentevent/117", "", id="poll"),
]


@pytest.mark.parametrize(("request_", "verb", "path", "query"), BUILT)
def test_each_operation_has_its_verb_path_and_query(request_, verb, path, query):
    """A builder makes the documented verb, path and query, and its path fits the operation's template."""
    assert (request_.operation.verb, request_.path, request_.query) == (verb, path, query)
    template = re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(request_.operation.path))
    assert re.fullmatch(template, request_.path)


@pytest.mark.parametrize("call_id", [".", ".."])
def test_dots_do_not_climb_out_of_the_path(call_id):
    """A call id of dots alone is refused before the wire."""
    with pytest.raises(InvalidRequest):
        requests.intercept("117", "291", call_id)


def test_inspections_have_no_body():
    """Only a sign-in and the setting of skills carry one (cec_07_2409)."""
    for parameter in BUILT:
        built = parameter.values[0]
        assert (built.body is not None) == (built.operation.method in {"login", "forceLogin", "adjustSkill"})
    assert requests.adjust_skills("117", "49999", [10, 25]).body == b'{"workNo":"49999","skills":[10,25]}'


# What the contract lists under `qualitycontrol`: log name, verb, path below the inspector. The last two are known from
# public clients alone, and have no log name in any source.
CONTRACT = {
    ("addInsert", "PUT", "addinsert/{}"),
    ("addSupervise", "PUT", "addsupervise/{}"),
    ("intercept", "PUT", "intercept/{}"),
    ("intercept", "PUT", "intercept/{}/{}"),
    ("stopSuperviseOrInsert", "DELETE", "{}"),
    ("forceBusy", "POST", "forcebusy/{}"),
    ("forceIdle", "POST", "forceidle/{}"),
    ("forceLogOutAgent", "POST", "forcelogout/{}"),
    ("forceDropCall", "POST", "forcedropcall/{}"),
    ("adjustSkill", "POST", "adjustskill"),
    ("switchSuperviseOrInsert", "POST", "switch/{}"),
    ("forceRest", "POST", "forcerest/{}/{}/{}"),
    ("requestWhisperAgent", "POST", "requestwhisperagent"),
    ("requestStopWhisperAgent", "POST", "requeststopwhisperagent"),
    ("requestSwitchInsertWhisperAgent", "POST", "requestswitchinsertwhisperagent"),
    ("beginMonitor", "POST", "beginmonitor"),
    ("endMonitor", "POST", "endmonitor"),
}


def test_no_operation_of_the_contract_is_missing():
    """The table of inspections is that of the contract, and each has a builder here."""
    prefix = "/qualitycontrol/{agent_id}/"
    assert {
        (one.method, one.verb, re.sub(r"\{\w+\}", "{}", one.path.removeprefix(prefix)))
        for one in operations.INSPECTIONS
    } == CONTRACT
    assert {parameter.values[0].operation for parameter in BUILT} >= set(operations.INSPECTIONS)


def test_a_sign_in_sends_what_is_set_under_the_gateways_names():
    """The password is always sent, everything else only when set."""
    assert orjson.loads(SignInForm().to_json()) == {"password": ""}
    full = SignInForm(
        password=Secret("pass-word"),
        phone_number="40038",
        auto_answer=True,
        auto_enter_idle=False,
        release_phone=True,
        agent_type=4,
        status=4,
        ip="10.0.0.1",
        entry_ip="10.0.0.2",
        phone_linkage=False,
        check_in_webm=True,
        check_in_mailm=False,
        vc_phone_number="40039",
        listen_status=True,
        callback_uri="https://adapter/push",
        service_token=Secret("token"),
    )
    assert orjson.loads(full.to_json()) == {
        "password": "pass-word",
        "phonenum": "40038",
        "autoanswer": True,
        "autoenteridle": False,
        "releasephone": True,
        "agenttype": 4,
        "status": 4,
        "ip": "10.0.0.1",
        "entryIp": "10.0.0.2",
        "phonelinkage": False,
        "checkInWebm": True,
        "checkInMailm": False,
        "vcPhoneNumber": "40039",
        "listenStatus": True,
        "callBackUri": "https://adapter/push",
        "serviceToken": "token",
    }


@pytest.mark.parametrize(
    ("form", "pushed"),
    [
        (SignInForm(), False),
        (SignInForm(callback_uri="https://adapter/push"), False),
        (SignInForm(service_token=Secret("token")), False),
        (SignInForm(callback_uri="https://adapter/push", service_token=Secret("token")), True),
    ],
)
def test_events_are_pushed_only_with_both_fields(form, pushed):
    """A callback address or a token alone still means polling."""
    assert form.pushed is pushed


def test_a_printed_sign_in_shows_no_password():
    """Neither the form nor its request prints a secret."""
    request = requests.sign_in("117", FORM, force=True)
    assert "pass-word" not in f"{FORM!r} {request!r}"


def test_the_metric_labels_are_a_closed_set():
    """Every operation's method is one of METHODS, and where all events are expected the confirming ones are."""
    assert {operation.method for operation in operations.ALL} == operations.METHODS
    for operation in operations.ALL:
        if operation.effects is not None and operation.effects.expected:
            assert operation.effects.confirming <= set(operation.effects.expected)
    assert operations.INTERCEPT.effects.confirming == {"AgentEvent_Talking"}
