"""What is said about arguments, files and settings before anything is sent or started."""

from __future__ import annotations

import re

import orjson
import pytest


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("listen 101", "WORK_NO"),
        ("listen 101 292 --follow ever", "released"),
        ("listen 101 292 --confirm-within 0", "--confirm-within must be above 0"),
        ("listen 101 292 --confirm-within 301", "at most 300"),
        ("listen 101 292 --timeout -1", "--timeout must be"),
        ("listen 101 292 --timeout nan", "--timeout must be"),
        ("listen 101 292 --target nowhere", "must be host:port"),
        ("listen 101 292 --target host:99999", "must be host:port"),
        ("listen 101 292 --target host:1,other", "must be host:port"),
        ("listen 101 292 --cert-file c.pem", "belong together"),
        ("listen 101 292 --ca-file no-such.pem", "no-such.pem cannot be read"),
        ("intercpt 101 292", "intercept"),
        ("watch 101 --cursor x --oldest", "exclude each other"),
        ("watch 101 --once -1", "--once"),
        ("sign-in 101 --password-file no-such", "no-such cannot be read"),
        ("sign-in 101 --no-password --skills 1,x", "--skills '1,x' must be numbers"),
        ("sign-in 101 --no-password --skills 4294967296", "must be numbers"),
        ("sign-in 101 --no-password --agent-type -3", "--agent-type"),
        ("feed 101 no-such", "no-such cannot be read"),
        ("--version listen", "--version stands alone"),
        ("sign-in 101 --re-sign-in ever", "same-credentials"),
        ("demo --keep --serve", "exclude each other"),
        ("explain", "900-003"),
        ("explain 900", "900-003"),
        ("explain 9x-1", "900-003"),
        ("explain ٩٠٠-٠٠٣", "900-003"),
        ("explain 900-003 --all", "or --all"),
        ("simulate --listen nowhere", "--listen 'nowhere' must be host:port"),
        ("simulate --set event_tim=true", "did you mean event_time?"),
        ("simulate --set event_time=7", "must be like false"),
        ("simulate --set event_time", "must be NAME=VALUE"),
        ("simulate --set push_shape=newest", "must be one of new, old"),
        ("simulate --set call_seconds=1", "must be like 20.0,60.0"),
        ("simulate --set sign_in_limit=many", "must be like null"),
        ("simulate --agents 60000", "not within 101 to 59999"),
        ("simulate --guid-interval 200", "must exceed"),
        ("simulate --set floor_hold_chance=7", "must be from 0 to 1"),
        ("simulate --save-certificate x.pem", "--tls-port"),
        ("simulate --tls-port 0 --cert-file x.pem", "belong together"),
        ("simulate --scenario no-such.json", "cannot be read"),
    ],
)
def test_wrong_arguments_end_with_2_and_say_what_is_right(qc, line, said):
    """Nothing is printed but a sentence that helps."""
    ended = qc(*line.split())
    assert ended.code == 2
    assert said in ended.err
    assert ended.out == ""


def test_wrong_arguments_are_json_for_machines(qc):
    """With --json the last line of standard error is one object."""
    ended = qc("listen", "101", "292", "--timeout", "0", "--json")
    assert orjson.loads(ended.err)["exit_code"] == 2


def test_help_lists_commands_and_exit_codes(qc):
    """Scripts learn there what to branch on."""
    ended = qc("--help")
    assert ended.code == 0
    for said in ("intercept", "explain", "Exit codes:", "  6  ", "130  "):
        assert said in ended.out


@pytest.mark.parametrize("command", ["intercept", "watch", "sign-in", "simulate", "serve", "check", "demo", "explain"])
def test_every_command_has_help_with_exit_codes(qc, command):
    """Help comes without the service, and ends with the exit codes."""
    ended = qc(command, "--help")
    assert ended.code == 0
    assert f"Usage: qc-adapter {command}" in ended.out
    assert "Exit codes:" in ended.out


def test_the_version_is_told(qc):
    """A number, and nothing else."""
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*\n", qc("--version").out)


def test_a_seal_key_is_new_each_time_and_fits_the_setting(qc):
    """It can be put into QC_SEAL_KEYS as it is, and nothing else is printed."""
    first, second = (qc("seal-key").out.strip() for _ in range(2))
    assert first != second
    checked = qc("check", QC_GATEWAY_URL="https://gw:8043", QC_SEAL_KEYS=f"{first},{second}")
    assert checked.code == 0
    assert first not in checked.out


def test_explain_a_listed_code(qc):
    """Meaning, advice, and what a caller is told."""
    [found] = qc("explain", "900-003", "--json").objects
    assert found["listed"] is True
    assert (found["grpc_code"], found["reason"]) == ("FAILED_PRECONDITION", "WRONG_INSPECTION_STATE")
    assert found["retry"] is False
    shown = qc("explain", "900-003").out
    assert shown.startswith("900-003  ")
    assert "FAILED_PRECONDITION WRONG_INSPECTION_STATE" in shown


@pytest.mark.parametrize(
    ("retcode", "repeat"),
    [("000-004", "yes, after a pause"), ("100-006", "only after a new sign-in"), ("0", "not needed")],
)
def test_explain_says_whether_to_repeat(qc, retcode, repeat):
    """Repeating helps, helps after something else, or is not needed."""
    assert repeat in qc("explain", retcode).out


def test_explain_an_unlisted_code(qc):
    """A code that nobody listed is explained by its group, and that is said."""
    ended = qc("explain", "900-777")
    assert ended.code == 0
    assert "not listed" in ended.out
    assert "GATEWAY_REFUSED" in ended.out


def test_explain_all_lists_every_code(qc):
    """For machines it is one object a line, for people a table."""
    found = qc("explain", "--all", "--json").objects
    assert len({one["retcode"] for one in found}) == len(found) > 100
    assert len(qc("explain", "--all").out.splitlines()) == len(found) + 1


def test_simulate_names_every_problem_of_a_scenario(qc, tmp_path):
    """A scenario is checked as a whole."""
    scenario = tmp_path / "s.json"
    scenario.write_bytes(orjson.dumps({"agentss": [], "calls": [{}], "steps": [{"do": "dance", "at_seconds": 1}]}))
    ended = qc("simulate", "--scenario", str(scenario))
    assert ended.code == 2
    for said in ("agentss is not known", "calls[0]: agent_id is missing", "steps[0]: do must be one of"):
        assert said in ended.err


def test_simulate_lists_its_switches(qc):
    """What --set takes is shown with the defaults."""
    lines = qc("simulate", "--switches").out.splitlines()
    assert "event_time=false" in lines
    assert "call_seconds=20.0,60.0" in lines


def test_every_kind_of_switch_can_be_set():
    """Numbers, texts, lists, choices and null come as what the switch is."""
    from dataclasses import fields

    from qc_adapter.cli.simulator_switches import read_switches, switches_markdown
    from qc_adapter.simulator import SimulatorSettings
    from qc_adapter.simulator.switches import MEANINGS

    texts = ["push_ca_file=/a/ca.pem", "sign_in_limit=3", "wrong_passwords_until_lock=null", "bad_path=404"]
    texts += ["call_agents=292, 293", "call_seconds=1,2.5", 'event_delays={"X": null}', "nodes=2"]
    assert read_switches(texts) == {
        "push_ca_file": "/a/ca.pem",
        "sign_in_limit": 3,
        "wrong_passwords_until_lock": None,
        "bad_path": "404",
        "call_agents": ("292", "293"),
        "call_seconds": (1, 2.5),
        "event_delays": {"X": None},
        "nodes": 2,
    }
    assert "| `push_shape` | `new` | `eventList` with several events" in switches_markdown()
    assert set(MEANINGS) == {one.name for one in fields(SimulatorSettings)}


def test_check_shows_settings_without_secrets(qc):
    """Each setting has a row; a password in an address does not show."""
    environment = {
        "QC_GATEWAY_URL": "https://gw:8043",
        "QC_STORE_URL": "redis://me:s3cret@redis:6379/0",
        "QC_STORE_PLAIN": "1",
    }
    ended = qc("check", **environment)
    assert ended.code == 0
    assert "https://gw:8043" in ended.out
    assert "redis://<hidden>@redis:6379/0" in ended.out
    assert "s3cret" not in ended.out + ended.err
    rows = {one["variable"]: one for one in qc("check", "--json", **environment).objects if "variable" in one}
    assert rows["QC_GATEWAY_URL"]["value"] == "https://gw:8043"


def test_check_says_where_traces_go(qc):
    """With a collector: where it is and what is sampled; a share that is none is a problem like any other."""
    traces = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317", "OTEL_TRACES_SAMPLER": "traceidratio"}
    good = qc("check", QC_GATEWAY_URL="https://gw:8043", OTEL_TRACES_SAMPLER_ARG="0.1", **traces)
    assert good.code == 0
    assert "traces  go to http://collector:4317, sampled by traceidratio (0.1)" in good.out
    bad = qc("check", QC_GATEWAY_URL="https://gw:8043", OTEL_TRACES_SAMPLER_ARG="10%", **traces)
    assert bad.code == 2
    assert "problem  OTEL_TRACES_SAMPLER_ARG=10%: must be a number from 0 to 1" in bad.out


def test_check_ends_with_2_and_all_problems(qc):
    """The table comes all the same."""
    ended = qc("check", QC_LISTEN="here", QC_AGENT_ID_MAX="7")
    assert ended.code == 2
    named = re.findall(r"^problem  (\w+)", ended.out, re.MULTILINE)
    assert named == ["QC_GATEWAY_URL", "QC_AGENT_ID_MAX", "QC_LISTEN"]
    assert "3 problems" in ended.err


def test_serve_names_all_problems_at_once(qc):
    """Nothing starts, and every wrong setting is named, without its secrets."""
    ended = qc("serve", QC_GATEWAY_URL="ftp://gateway", QC_LISTEN="here", QC_STORE_URL="http://user:s3cret@redis")
    assert ended.code == 2
    for name in ("QC_GATEWAY_URL", "QC_LISTEN", "QC_STORE_URL"):
        assert name in ended.err
    assert "s3cret" not in ended.err
    assert ended.out == ""
