"""The commands that call an adapter, run as scripts run them."""

from __future__ import annotations

import signal

import pytest
import trustme

from qc_adapter.simulator import Fault


async def test_listen_and_intercept_are_confirmed_for_people(signed_in):
    """Each update is a line, and a confirmed command ends with 0, without colours in a pipe."""
    assert (await signed_in("listen", "101", "292")).code == 0
    ended = await signed_in("intercept", "101", "292")
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert "accepted" in lines[0]
    assert "AgentEvent_Talking" in ended.out
    assert "AgentMediaEvent_Record" in ended.out
    assert "outcome    CONFIRMED" in lines[-1]
    assert "\x1b" not in ended.out
    assert ended.err == ""


async def test_updates_are_proto_json_for_machines(signed_in):
    """With --json each line is one update of the contract."""
    ended = await signed_in("listen", "101", "292", "--json")
    kinds = [next(kind for kind in ("accepted", "event", "outcome") if kind in one) for one in ended.objects]
    assert kinds[0] == "accepted"
    assert kinds[-1] == "outcome"
    assert set(kinds[1:-1]) == {"event"}
    assert ended.objects[0]["accepted"]["method"] == "addSupervise"
    assert ended.objects[-1]["outcome"]["state"] == "CONFIRMED"
    assert all(one["cursor"] for one in ended.objects)


@pytest.mark.parametrize(
    ("begin", "end", "operation"),
    [
        (["listen"], ["stop"], "stopSuperviseOrInsert"),
        (["insert"], ["stop"], "stopSuperviseOrInsert"),
        (["whisper"], ["stop", "--whisper"], "requestStopWhisperAgent"),
    ],
    ids=["listen", "insert", "whisper"],
)
async def test_stop_ends_what_was_begun(signed_in, simulator, begin, end, operation):
    """Each way to take part in a call is ended by its own request."""
    assert (await signed_in(*begin, "101", "292")).code == 0
    ended = await signed_in(*end, "101", "292")
    assert ended.code == 0, ended.err
    assert len(simulator.requests(operation)) == 1
    assert simulator.state_of("101") == "IDLE"


async def test_a_request_id_runs_a_command_once(signed_in, simulator):
    """Repeating a command with its id shows its updates and sends nothing."""
    first = await signed_in("listen", "101", "292", "--request-id", "abc", "--json")
    second = await signed_in("listen", "101", "292", "--request-id", "abc", "--json")
    assert (first.code, second.code) == (0, 0)
    assert second.objects == first.objects
    assert len(simulator.requests("addSupervise")) == 1


async def test_follow_none_ends_with_the_receipt(signed_in):
    """A caller that only wants the receipt gets one line."""
    ended = await signed_in("listen", "101", "292", "--follow", "none", "--json")
    assert ended.code == 0
    assert [list(one) for one in ended.objects] == [["cursor", "accepted"]]


async def test_a_command_without_proof_ends_with_6(signed_in, simulator):
    """Taken by the gateway and not confirmed in time is neither success nor failure."""
    assert (await signed_in("listen", "101", "292")).code == 0
    simulator.add_fault(Fault("lose_event", event_type="AgentEvent_Talking"))
    ended = await signed_in("intercept", "101", "292", "--confirm-within", "0.5")
    assert ended.code == 6
    assert "UNCONFIRMED" in ended.out
    assert "missing: AgentEvent_Talking" in ended.out
    assert "no event proved it" in ended.err


async def test_a_lost_reply_is_settled_by_the_events(signed_in, simulator):
    """The reply got lost and the event came: confirmed, and sent once."""
    assert (await signed_in("listen", "101", "292")).code == 0
    simulator.add_fault(Fault("reset_after", operation="intercept"))
    ended = await signed_in("intercept", "101", "292", "--json")
    assert ended.code == 0
    assert ended.objects[-1]["outcome"]["state"] == "CONFIRMED"
    assert len(simulator.requests("intercept")) == 1


async def test_an_unknown_outcome_ends_with_5(signed_in, simulator):
    """Neither reply nor event: say so, give the cursor, and do not repeat."""
    assert (await signed_in("listen", "101", "292")).code == 0
    simulator.add_fault(Fault("reset_after", operation="intercept"))
    simulator.add_fault(Fault("lose_event", event_type="AgentEvent_Talking"))
    ended = await signed_in("intercept", "101", "292", "--confirm-within", "0.5")
    assert ended.code == 5
    assert "OUTCOME_UNKNOWN" in ended.err
    assert "before you repeat" in ended.err
    assert len(simulator.requests("intercept")) == 1


async def test_a_deadline_ends_with_5(signed_in, simulator):
    """When the time is over after the request went out, nobody knows."""
    simulator.add_fault(Fault("hang", operation="addSupervise"))
    ended = await signed_in("listen", "101", "292", "--timeout", "1")
    assert ended.code == 5
    assert "DEADLINE_EXCEEDED" in ended.err or "OUTCOME_UNKNOWN" in ended.err


async def test_a_refusal_ends_with_3_and_names_the_retcode(signed_in):
    """Machines get the refusal as one JSON object on standard error."""
    ended = await signed_in("intercept", "101", "292", "--json")
    assert ended.code == 3
    assert ended.out == ""
    [line] = ended.err.splitlines()
    assert '"reason":"WRONG_INSPECTION_STATE"' in line
    assert '"retcode":"900-003"' in line
    assert '"exit_code":3' in line


async def test_a_gateway_that_is_away_ends_with_4(signed_in, simulator):
    """Certainly not done: a script may try again."""
    await simulator.stop()
    ended = await signed_in("listen", "101", "292")
    assert ended.code == 4
    assert "UNAVAILABLE GATEWAY_UNAVAILABLE" in ended.err


async def test_wrong_input_is_told_with_a_code(signed_in):
    """A sentence on standard error and a code; never a traceback."""
    cases = [
        (["intercept", "abc", "292"], 3, "INVALID_AGENT_ID"),
        (["listen", "102", "292"], 3, "qc-adapter sign-in"),
        (["watch", "101", "--cursor", "x"], 3, "INVALID_CURSOR"),
        (["listen", "101"], 2, "WORK_NO"),
    ]
    for arguments, code, said in cases:
        ended = await signed_in(*arguments)
        assert ended.code == code, arguments
        assert said in ended.err
        assert "Traceback" not in ended.err
        assert ended.out == ""


async def test_where_nothing_listens_the_next_step_is_told(qc):
    """The commonest mistake of a newcomer gets an answer that helps."""
    ended = await qc("intercept", "101", "292", "--target", "127.0.0.1:1")
    assert ended.code == 4
    assert ended.err == (
        "qc-adapter: nothing listens at 127.0.0.1:1\n  start it with qc-adapter serve, or give --target\n"
    )


async def test_ctrl_c_says_where_the_events_go_on(signed_in, adapter, start):
    """An interrupted command ends with 130 and names the cursor."""
    target = f"127.0.0.1:{adapter.port}"
    running = await start("listen", "101", "292", "--follow", "released", "--target", target)
    await running.line_with("CONFIRMED")
    running.send(signal.SIGINT)
    ended = await running.end()
    assert ended.code == 130
    assert "qc-adapter watch 101 --cursor" in ended.err
    assert "Traceback" not in ended.err


async def test_a_password_comes_from_stdin_file_or_environment(called, simulator, tmp_path):
    """It is sent, and never printed."""
    simulator.set_agent("101", password="s3cret-word")
    file = tmp_path / "password"
    file.write_text("s3cret-word\n")
    for arguments, options in (
        (["--password-file", "-"], {"given": "s3cret-word\n"}),
        (["--password-file", str(file)], {}),
        ([], {"QC_PASSWORD": "s3cret-word"}),
    ):
        ended = await called("sign-in", "101", "--phone", "40101", "--force", *arguments, **options)
        assert ended.code == 0, ended.err
        assert "s3cret" not in ended.out + ended.err
    refused = await called("sign-in", "101", "--phone", "40101", "--force", QC_PASSWORD="wrong")
    assert refused.code == 3
    assert "100-004" in refused.err


async def test_without_a_terminal_a_missing_password_is_a_usage_error(called):
    """A script that gives no password hangs nowhere."""
    ended = await called("sign-in", "101")
    assert ended.code == 2
    assert "--password-file" in ended.err


async def test_sessions_lists_and_sign_out_removes(signed_in):
    """A session is listed with its state, for people and machines, until its end."""
    listed = await signed_in("sessions")
    assert "101" in listed.out
    shown = await signed_in("sessions", "101", "--json")
    assert shown.objects[0]["agentId"] == "101"
    assert (await signed_in("sign-out", "101", "--json")).objects == [{}]
    assert "no sessions" in (await signed_in("sessions")).out


async def test_all_fields_of_a_sign_in_can_be_given(called, simulator):
    """Status, skills and flags reach the gateway; that the sign-in is made anew is shown, and a GUID can be renewed."""
    ended = await called(
        "sign-in", "101", "--no-password", "--phone", "40101", "--skills", "7,9", "--status", "busy",
        "--no-auto-enter-idle", "--agent-type", "4", "--ip", "10.0.0.1", "--re-sign-in", "same-credentials",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    agent = simulator.state()["agents"]["101"]
    assert (agent["skills"], agent["posture"]) == ((7, 9), "busy")
    before = simulator.guid_of("101")
    renewed = await called("update-guid", "101")
    assert (renewed.code, renewed.out.split()[:2]) == (0, ["GUID", "updated"])
    assert simulator.guid_of("101") not in {before, *renewed.out.split()}
    [heads, row] = [line.split("  ") for line in (await called("sessions")).out.splitlines()]
    assert "signs in again" in [one.strip() for one in heads]
    assert "yes" in [one.strip() for one in row]


async def test_an_adopted_session_is_polled(called, simulator, adapter):
    """A GUID from elsewhere comes by standard input, is used, and never printed."""
    simulator.sign_in("101")
    guid = simulator.guid_of("101")
    ended = await called("adopt", "101", "--guid-file", "-", given=guid)
    assert ended.code == 0, ended.err
    assert guid not in ended.out + ended.err
    assert (await called("listen", "101", "292")).code == 0


@pytest.fixture
def certificates(tmp_path):
    """A CA and the files of a server's certificate."""
    ca = trustme.CA()
    server = ca.issue_cert("127.0.0.1")
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    server.private_key_pem.write_to_path(tmp_path / "key.pem")
    server.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    return tmp_path


async def test_tls_is_checked(simulator, make_adapter, qc, certificates):
    """With the right CA a call works; with another one it ends with 4 and says what to give."""
    tls = {"QC_TLS_CERT_FILE": str(certificates / "cert.pem"), "QC_TLS_KEY_FILE": str(certificates / "key.pem")}
    async with make_adapter(simulator, **tls) as adapter:
        target = f"127.0.0.1:{adapter.port}"
        good = await qc("sessions", "--target", target, "--ca-file", str(certificates / "ca.pem"))
        bad = await qc("sessions", "--target", target, "--ca-file", str(certificates / "other.pem"))
        plain = await qc("sessions", "--target", target)
    assert good.code == 0, good.err
    assert bad.code == 4
    assert "--ca-file" in bad.err
    assert plain.code in (4, 5)
    assert len(bad.err.splitlines()) == 2


async def test_mutual_tls_from_the_environment(simulator, make_adapter, qc, tmp_path):
    """As in a pod: the adapter's own certificate, which is for localhost and for clients too, opens its own port."""
    ca = trustme.CA()
    own = ca.issue_cert("qc-adapter.qc-adapter", "localhost")
    files = {"ca": ca.cert_pem, "key": own.private_key_pem, "cert": own.cert_chain_pems[0]}
    for name, content in files.items():
        content.write_to_path(tmp_path / name)
    served = {"CERT_FILE": "cert", "KEY_FILE": "key", "CLIENT_CA_FILE": "ca"}
    calling = {"QC_CA_FILE": "ca", "QC_CERT_FILE": "cert", "QC_KEY_FILE": "key"}
    environment = {name: str(tmp_path / file) for name, file in calling.items()}
    async with make_adapter(
        simulator, **{f"QC_TLS_{name}": str(tmp_path / file) for name, file in served.items()}
    ) as adapter:
        ended = await qc("sessions", QC_TARGET=f"localhost:{adapter.port}", **environment)
    assert (ended.code, ended.err) == (0, "")


async def test_commands_on_agents_show_what_proved_them(signed_in, simulator):
    """Where the agent has a session too, the outcome names its event; what nothing can confirm ends with 0 as well."""
    assert (await signed_in("sign-in", "292", "--phone", "40292", "--force", QC_PASSWORD="x")).code == 0
    assert (await signed_in("listen", "101", "292")).code == 0
    switched = await signed_in("switch", "101", "292", "--mode", "whisper")
    assert (switched.code, switched.err) == (0, "")
    assert "by AgentOther_BeQcStart of agent 292" in switched.out.splitlines()[-1]
    assert simulator.state_of("101") == "WHISPERING"
    for command in (
        ["switch", "101", "292", "--mode", "listen"],
        ["toggle", "101", "292"],
        ["adjust-skills", "101", "292", "10", "25"],
        ["drop-call", "101", simulator.state()["calls"][0]["call_id"]],
        ["force-rest", "101", "292", "--seconds", "600", "--cause", "7"],
        ["force-idle", "101", "292"],
        ["force-busy", "101", "292"],
        ["force-sign-out", "101", "292"],
        ["monitor", "101", "292", "293"],
        ["stop-monitoring", "101", "292"],
    ):
        ended = await signed_in(*command, "--json")
        assert ended.code == 0, (command, ended.err)
        assert "outcome" in ended.objects[-1], command
    sent = [entry.operation for entry in simulator.record.commands if entry.agent_id == "101"]
    assert sent[-10:] == [
        "requestSwitchInsertWhisperAgent",
        "switchSuperviseOrInsert",
        "adjustSkill",
        "forceDropCall",
        "forceRest",
        "forceIdle",
        "forceBusy",
        "forceLogOutAgent",
        "beginMonitor",
        "endMonitor",
    ]
