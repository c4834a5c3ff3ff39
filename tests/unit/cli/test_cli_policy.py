"""The policy command: what is wrong with a file, and which rule decides."""

import re
from pathlib import Path

import pytest

from qc_adapter.access.policy_file import parse_policy

POLICY = """\
version: 1
limits: {calls: 50}
callers:
  desk:
    identities: ["spiffe://example/desk"]
    limits: {streams: 9}
    allow:
      - methods: [InspectorSessions]
        inspectors: [500]
      - methods: [Intercept, Monitor]
        inspectors: [101-199, north/101]
        targets: [200-299]
  wallboard:
    identities: [anonymous]
    allow: []
"""


@pytest.fixture
def path(tmp_path):
    """A policy that can be used."""
    found = tmp_path / "policy.yaml"
    found.write_text(POLICY)
    return found


def test_a_good_policy_is_shown(qc, path):
    """Each caller with what it has; the file may be the one of the settings."""
    ended = qc("policy", "check", QC_POLICY_FILE=str(path))
    assert (ended.code, ended.err) == (0, "")
    assert "spiffe://example/desk" in ended.out
    desk, wallboard = qc("policy", "check", str(path), "--json").objects
    assert desk == {
        "caller": "desk",
        "line": 4,
        "identities": ["spiffe://example/desk"],
        "rules": 2,
        "limits": {"calls": 50, "streams": 9},
    }
    assert (wallboard["caller"], wallboard["limits"]) == ("wallboard", {"calls": 50})


def test_each_problem_is_told_with_file_and_line(qc, path):
    """An editor can jump to each; the gateways are those of the settings, if there are some."""
    path.write_text(POLICY.replace("version: 1", "version: 2"))
    ended = qc("policy", "check", str(path), QC_GATEWAYS="south")
    assert ended.code == 2
    assert [line.partition("  ")[0] for line in ended.out.splitlines()] == [f"{path}:1", f"{path}:11"]
    assert "2 problems: the policy cannot be used" in ended.err
    lines = qc("policy", "check", str(path), "--json").objects
    assert lines == [{"line": 1, "problem": "version must be 1: this version reads no other form"}]


@pytest.mark.parametrize(
    ("line", "by", "why"),
    [
        ("--caller desk --method Intercept --agent-id 101 --work-no 205", 2, "allows Intercept for all that is named"),
        ("--caller spiffe://example/desk --method Get --agent-id default/500", 1, "allows Get for all that is named"),
        ("--caller desk --method Monitor --agent-id north/101 --work-no 200 --work-no 299", 2, "allows Monitor"),
        ("--caller desk --method List", 1, "allows List"),
    ],
)
def test_what_is_allowed_names_its_rule(qc, path, line, by, why):
    """Exit code 0, the rule with its number and line, and the caller's limits."""
    ended = qc("policy", "explain", *line.split(), "--policy", str(path))
    assert ended.code == 0
    assert ended.out.startswith("allowed\n")
    assert f"rule {by} of desk ({path}:{[8, 10][by - 1]}) {why}" in ended.out
    assert "calls 50, streams 9" in ended.out


@pytest.mark.parametrize(
    ("line", "by", "why"),
    [
        ("--caller desk --method Intercept --agent-id 101 --work-no 300", 2, "to the agents 200-299, not to 300"),
        ("--caller desk --method Intercept --agent-id north/102 --work-no 300", 2, "north/101, not for north/102"),
        ("--caller desk --method Intercept --agent-id 101 --work-no 205 --call-id 1-1", 2, "it must say all"),
        ("--caller desk --method Watch --agent-id 101", 1, "not Watch"),
        ("--caller desk --method List --agent-id 101", 1, "for the inspectors 500, not for 101"),
        ("--caller anonymous --method Watch --agent-id 101", None, "the caller has no rule"),
        ("--caller dns:other --method Watch --agent-id 101", None, "no caller of the policy has this identity"),
    ],
)
def test_what_is_denied_names_what_the_nearest_rule_lacks(qc, path, line, by, why):
    """Exit code 3; whoever writes the policy sees what to change."""
    ended = qc("policy", "explain", *line.split(), QC_POLICY_FILE=str(path))
    assert (ended.code, ended.err) == (3, "")
    assert ended.out.startswith("denied\n")
    assert why in ended.out
    told = qc("policy", "explain", *line.split(), "--json", QC_POLICY_FILE=str(path))
    assert told.code == 3
    [verdict] = told.objects
    assert (verdict["allowed"], verdict["rule"] and verdict["rule"]["number"]) == (False, by)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--caller desc --method Watch --agent-id 101", "did you mean desk?"),
        ("--caller dns:* --method Watch --agent-id 101", "compared as a whole"),
        ("--caller desk --method Wach --agent-id 101", "did you mean Watch?"),
        ("--caller desk --method Watch", "--agent-id is required"),
        ("--caller desk --method Watch --agent-id 0101", "'0101' is no id"),
        ("--caller desk --method Watch --agent-id 101 --work-no 5", "takes no --work-no"),
        ("--caller desk --method Intercept --agent-id 101", "needs --work-no"),
        ("--caller desk --method Intercept --agent-id 101 --work-no 7 --work-no 8", "takes one --work-no"),
        ("--caller desk --method Intercept --agent-id 101 --work-no x", "'x' is no id"),
        ("--caller desk --method Intercept --agent-id 101 --work-no north/7", "'north/7' is no id"),
        ("--method Watch --agent-id 101", "--caller"),
    ],
)
def test_a_question_that_cannot_be_meant_is_not_answered(qc, path, line, said):
    """A typing mistake must not look like a denial."""
    ended = qc("policy", "explain", *line.split(), QC_POLICY_FILE=str(path))
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err


def test_a_file_that_cannot_be_read_or_used_is_no_denial(qc, path, tmp_path):
    """Only a policy that a service would take answers."""
    question = ["explain", "--caller", "desk", "--method", "List"]
    assert "set QC_POLICY_FILE" in qc("policy", *question).err
    assert "cannot be read" in qc("policy", *question, "--policy", str(tmp_path / "none")).err
    path.write_text("version: 1\n")
    ended = qc("policy", *question, "--policy", str(path))
    assert (ended.code, "line 1: callers is missing" in ended.err) == (2, True)


def test_the_examples_of_the_page_are_what_it_says(qc, tmp_path, monkeypatch):
    """Each policy of the page can be used, and the answer that it shows is the one that comes."""
    page = (Path(__file__).parents[3] / "docs" / "policy.md").read_text()
    policies = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    for text in policies:
        parse_policy(text.encode())
    assert len(policies) == 2
    monkeypatch.chdir(tmp_path)
    Path("policy.yaml").write_text(policies[1])
    [(command, answer)] = re.findall(r"```\n\$ qc-adapter (.*?)\n(.*?)```", page, re.DOTALL)
    assert qc(*command.split()).out == answer


def test_check_tells_of_the_policy_with_the_settings(qc, path):
    """Before a rollout one command says what is wrong with either."""
    path.write_text(POLICY.replace("allow: []", "allow: all"))
    ended = qc("check", QC_GATEWAY_URL="https://gateway:8043", QC_POLICY_FILE=str(path))
    assert ended.code == 2
    for line in (11, 15):
        assert f"QC_POLICY_FILE={path}: line {line}: callers." in ended.out
