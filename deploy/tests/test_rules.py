# ruff: noqa: S603 - as for tests/
"""The rules of Prometheus: its own tool takes them, their cases pass, and what they name is what the adapter has."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import yaml
from grpc import StatusCode

from deploy.tests.expressions import RPCS, RULES, faults, grouping_labels, rules_of, selectors
from qc_adapter.gateway import operations
from qc_adapter.rpc.errors import BY_RETCODE, answer_to_retcode
from scripts.tools import promtool

RUNBOOKS = RULES.parents[1] / "docs" / "runbooks"
CASES = sorted((RULES / "tests").glob("*.yaml"))
RECORDING, ALERTS = rules_of("recording.yaml"), rules_of("alerts.yaml")
NAMES = [rule["alert"] for rule in ALERTS]
EXPRESSIONS = [rule["expr"] for rule in (*RECORDING, *ALERTS)]
SELECTORS = [selector for expression in EXPRESSIONS for selector in selectors(expression)]

COMMANDS = {operation.method for operation in operations.INSPECTIONS}
#: What a unary rpc that asks one operation of the gateway is called in metrics.
OPERATION_OF = {"SignIn": "login", "SignOut": "logout", "UpdateGuid": "updateGuid"}


def test_promtool_takes_the_rules():
    """Prometheus' own checker finds nothing wrong with the rules."""
    files = [str(RULES / name) for name in ("recording.yaml", "alerts.yaml")]
    checked = subprocess.run([promtool(), "check", "rules", *files], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_the_cases_of_the_rules_pass(path):
    """Each case fires what it should fire, with its labels and texts, and nothing where it should stay silent."""
    tested = subprocess.run([promtool(), "test", "rules", str(path)], capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_what_is_rendered_is_up_to_date():
    """The PrometheusRule and the addresses of the runbooks are what render.py makes of the rules."""
    command = [sys.executable, str(RULES / "render.py"), "--check"]
    rendered = subprocess.run(command, capture_output=True, text=True, check=False)
    assert rendered.returncode == 0, rendered.stderr


def test_the_object_holds_the_rules():
    """The PrometheusRule has the groups of both files, nothing more and nothing less."""
    path = RULES.parent / "kustomize" / "components" / "monitoring" / "prometheus-rule.yaml"
    files = [yaml.safe_load((RULES / name).read_text())["groups"] for name in ("recording.yaml", "alerts.yaml")]
    assert yaml.safe_load(path.read_text())["spec"]["groups"] == files[0] + files[1]


@pytest.mark.parametrize("alert", ALERTS, ids=NAMES)
def test_an_alert_has_what_its_reader_needs(alert):
    """Each alert has a severity, a `for`, a summary, a description, and a link that ends in its name."""
    assert alert["labels"]["severity"] in {"page", "ticket"}
    assert re.fullmatch(r"\d+[smh]", alert["for"])
    assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
    assert all(alert["annotations"].values())
    assert alert["annotations"]["runbook_url"].endswith(f"/{alert['alert']}")


def test_the_links_have_one_base():
    """All runbooks are linked below the same address."""
    bases = {alert["annotations"]["runbook_url"].rpartition("/")[0] for alert in ALERTS}
    assert len(bases) == 1


def test_each_alert_has_its_page_and_no_page_is_left_over():
    """There is one page for each alert, of its name."""
    assert sorted(path.stem for path in RUNBOOKS.glob("Qc*.md")) == sorted(NAMES)
    assert len(set(NAMES)) == len(NAMES)


def test_the_index_lists_the_alerts():
    """The index names each alert once, with its severity and a link to its page."""
    rows = re.findall(r"^\| \[(\w+)\]\((\w+)\.md\) \| (\w+) \|", (RUNBOOKS / "README.md").read_text(), re.MULTILINE)
    assert sorted(rows) == sorted((alert["alert"], alert["alert"], alert["labels"]["severity"]) for alert in ALERTS)


@pytest.mark.parametrize("alert", ALERTS, ids=NAMES)
def test_a_page_says_how_urgent_its_alert_is(alert):
    """The page of an alert begins with its name and severity."""
    first = (RUNBOOKS / f"{alert['alert']}.md").read_text().splitlines()
    assert first[0] == f"# {alert['alert']}"
    assert first[2].startswith(f"{alert['labels']['severity'].capitalize()}. ")


def _checks():
    """Each check of the cases: the case's file and name, the alert, and whether it is to fire."""
    for path in CASES:
        for case in yaml.safe_load(path.read_text())["tests"]:
            for check in case["alert_rule_test"]:
                yield f"{path.stem}: {case['name']}", check["alertname"], bool(check["exp_alerts"])


@pytest.mark.parametrize("name", NAMES)
def test_an_alert_is_tried_both_ways(name):
    """Each alert has a case in which it fires, and one in which it stays silent from the beginning to the end."""
    by_case = {}
    for case, alert, fires in _checks():
        if alert == name:
            by_case.setdefault(case, set()).add(fires)
    assert any(True in found for found in by_case.values())
    assert any(found == {False} for found in by_case.values())


def test_the_cases_name_alerts_that_exist():
    """No case checks an alert that there is not: it would be silent for ever."""
    assert {alert for _, alert, _ in _checks()} == set(NAMES)


def test_the_rules_name_what_exists():
    """Every metric, label and value of a closed set that an expression names is one that the adapter has."""
    assert len(SELECTORS) > len(EXPRESSIONS)
    assert [fault for expression in EXPRESSIONS for fault in faults(expression)] == []


@pytest.mark.parametrize(
    "expression",
    ["qc_poll_age", "sum by (agent_id) (qc_sessions)", 'qc_sessions{gate="x"}', 'qc_sessions{state=~"idle|gone"}'],
)
def test_what_does_not_exist_is_found(expression):
    """The reader of expressions notices a metric, a label and a value that there is not."""
    assert len(faults(expression)) == 1


def test_what_is_recorded_is_named_by_level_metric_and_operation():
    """A recorded name has three parts, and its level is a label that is left, or the level of what it is made of."""
    for rule in RECORDING:
        level = re.fullmatch(r"(\w+):qc_\w+:\w+", rule["record"])[1]
        made_of = {one.metric.partition(":")[0] for one in selectors(rule["expr"]) if ":" in one.metric}
        assert level in grouping_labels(rule["expr"]) | made_of, rule["record"]


def _methods(metric, needle, operator):
    """The sets of methods that selectors of a metric name, where they name the needle, too."""
    found = {frozenset(one.values("method")) for one in SELECTORS
             if one.metric.startswith(metric) and needle in one.values("method")
             and ("method", operator) in {(label, sign) for label, sign, _ in one.matchers}}  # fmt: skip
    assert found
    return found


def test_the_objective_of_latency_is_on_commands():
    """The latency objective leaves out exactly the operations that are no commands."""
    assert _methods("qc_gateway_request_seconds", "login", "!~") == {operations.METHODS - COMMANDS}


def test_unavailable_counts_for_unary_calls_only():
    """The error objective counts UNAVAILABLE of exactly the rpcs that are no stream."""
    unary = {OPERATION_OF.get(rpc.name, rpc.name) for rpc in RPCS if not rpc.server_streaming}
    assert _methods("qc_requests_total", "List", "=~") == {frozenset(unary)}


def test_the_codes_that_count_as_unavailable_are_the_table_of_errors():
    """The error objective counts exactly the return codes that callers are told as UNAVAILABLE."""
    passing = {code for code, answer in BY_RETCODE.items() if answer.code is StatusCode.UNAVAILABLE}
    named = {frozenset(one.values("retcode")) for one in SELECTORS if "000-004" in one.values("retcode")}
    assert named == {frozenset(passing)}


def test_harmless_return_codes_are_mistakes_of_callers():
    """A return code that no refusal alert counts is one that callers are told as a mistake or a moment of theirs."""
    (rule,) = [rule for rule in RECORDING if rule["record"] == "retcode_group:qc_gateway_refusals:rate30m"]
    named = {code for one in selectors(rule["expr"]) for code in one.values("retcode") if "-" in code}
    told = {answer_to_retcode(code).code for code in named}
    ours = {StatusCode.INTERNAL, StatusCode.UNAVAILABLE, StatusCode.UNKNOWN, StatusCode.PERMISSION_DENIED}
    assert named
    assert not told & ours
