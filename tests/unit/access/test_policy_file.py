"""Reading a policy: what can be used, and for everything else the line and what to change."""

import pytest

from qc_adapter.access.caller import Caller
from qc_adapter.access.limit_values import Limits
from qc_adapter.access.policy_file import LARGEST_FILE, InvalidPolicy, parse_policy, read_policy

GOOD = """\
version: 1
limits: {calls: 50, message_bytes: 65536}
callers:
  desk:
    identities:
      - spiffe://example/ns/desk/sa/desk
      - jwt:system:serviceaccount:desk:desk
      - dns:Desk.Example
    limits: {calls_per_second: 100, calls: 5}
    allow:
      - methods: [Intercept, InspectorEvents]
        inspectors: [101-199, north/101-120]
        targets: [200-59999]
      - methods: [ForceDropCall]
        inspectors: all
        targets: all
  wallboard:
    identities: [anonymous]
    allow: []
"""


def problems(text, gateways=None):
    """What is said of a policy, each as `line: text`."""
    with pytest.raises(InvalidPolicy) as invalid:
        parse_policy(text if isinstance(text, bytes) else text.encode(), gateways)
    return [f"{one.line}: {one.what}" for one in invalid.value.problems]


def rule(text):
    """A policy with this rule, which begins in line 5."""
    return "version: 1\ncallers:\n  a:\n    identities: [anonymous]\n    allow: [{" + text + "}]\n"


def test_a_policy_says_who_may_do_what_within_which_limits(tmp_path):
    """Callers, rules with their lines, and limits come out as they were written, and what is left out is common."""
    path = tmp_path / "policy.yaml"
    path.write_text(GOOD)
    policy = read_policy(str(path), ["default", "north"])
    desk, wallboard = policy.entries
    assert (desk.name, desk.line, wallboard.name, wallboard.line) == ("desk", 4, "wallboard", 17)
    assert desk.identities[-1] == "dns:desk.example"
    assert desk.limits == Limits(calls=5, calls_per_second=100, message_bytes=65536)
    assert wallboard.limits == policy.limits_of(Caller(("dns:other",))) == Limits(calls=50, message_bytes=65536)
    first, second = desk.rules
    assert (first.number, first.line, second.number, second.line) == (1, 11, 2, 14)
    assert first.methods == {"Intercept", "Watch", "Feed"}
    assert (first.inspectors.text, second.targets.text) == ("101-199, north/101-120", "all")
    assert wallboard.rules == ()


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("", 1, "the file is empty: write version: 1 and callers"),
        ("# only a comment\n", 1, "the file is empty"),
        ("- a\n", 1, "policy: must be a mapping"),
        ("version: 1\ncallers: [\n", 3, "cannot be read as YAML"),
        ("version: 1\ncallers:\n\t- a\n", 3, "cannot be read as YAML"),
        ("version: 1\ncallers: \x01\n", 2, "cannot be read as YAML: control characters are not allowed"),
        (b"version: 1\ncallers: \xff\n", 2, "is not UTF-8"),
        (b"#" * (LARGEST_FILE + 1), 1, "the file is larger than 1024 KiB"),
        ("callers: {}\n", 1, "version is missing: write version: 1"),
        (GOOD.replace("version: 1", "version: 2"), 1, "version must be 1"),
        (GOOD.replace("version: 1", "version: [1]"), 1, "version must be 1"),
        ("version: 1\n", 1, "callers is missing"),
        ("version: 1\ncallers: {}\n", 2, "callers is empty"),
        ("version: 1\ncallers:\n", 2, "callers: is empty: it must be a mapping"),
        ("version: 1\ncallers: [desk]\n", 2, "callers: must be a mapping"),
        (GOOD + "limit: {}\n", 20, "policy: 'limit' is no key: did you mean limits?"),
        (GOOD + "x: {}\n", 20, "policy: 'x' is no key: there are callers, limits, version"),
        (GOOD + "version: 1\n", 20, "policy: 'version' stands there twice, first in line 1"),
        (GOOD + "  desk: {}\n", 20, "callers: 'desk' stands there twice, first in line 4"),
        (GOOD + "  desk-2: {}\n", 20, "callers.desk-2: identities is missing"),
        (GOOD + "  desk-2: {}\n", 20, "callers.desk-2: allow is missing: write the rules, or allow: [] for none"),
        (GOOD + "  desk-2:\n", 20, "callers.desk-2: is empty: it must be a mapping"),
        (GOOD.replace("  desk:", "  Desk:"), 4, "callers: 'Desk' must be lower-case letters, digits and hyphens"),
        (GOOD.replace("  desk:", "  none:"), 4, "callers.none: stands for callers that have no name here"),
        (GOOD.replace("allow: []", "alow: []"), 19, "callers.wallboard: 'alow' is no key: did you mean allow?"),
        (GOOD.replace("allow: []", "allow: all"), 19, "callers.wallboard.allow: must be a list of rules"),
        (GOOD.replace("allow: []", "allow: [all]"), 19, "callers.wallboard.allow[1]: must be a mapping"),
        (GOOD.replace("[anonymous]", "anonymous"), 18, 'identities: must be a list, like ["dns:desk.example"]'),
        (GOOD.replace("[anonymous]", "[]"), 18, "callers.wallboard.identities: is empty: name one at least"),
        (GOOD.replace("[anonymous]", "[[anonymous]]"), 18, "identities: must hold single values"),
        (GOOD.replace("[anonymous]", "[dns:desk.example]"), 18, "is one of desk already (line 8)"),
        (GOOD.replace("[anonymous]", "[anonymous, anonymous]"), 18, "is one of wallboard already (line 18)"),
        (GOOD.replace("calls: 50", "calls: 0"), 2, "limits: calls must be a whole number above 0"),
        (GOOD.replace("calls: 50", "calls: 1.5"), 2, "limits: calls must be a whole number above 0"),
        (GOOD.replace("calls: 50", 'calls: "50"'), 2, "limits: calls must be a whole number above 0"),
        (GOOD.replace("calls: 50", "calls: true"), 2, "limits: calls must be a whole number above 0"),
        (GOOD.replace("calls: 50", "cals: 50"), 2, "limits: 'cals' is no key: did you mean calls?"),
        (GOOD.replace("{calls_per_second: 100, calls: 5}", "[]"), 9, "callers.desk.limits: must be a mapping"),
        (GOOD.replace("  desk:", "  desk: &desk"), 4, "&desk is an anchor, which is not read"),
        (GOOD.replace("allow: []", "allow: *rules"), 19, "*rules stands for something else: aliases are not read"),
        (GOOD.replace("allow: []", "allow: !!seq []"), 19, "has a type (! or !!), which is not read"),
        (GOOD.replace("allow: []", "allow: !!python/object:os.system []"), 19, "has a type (! or !!)"),
        (GOOD.replace("allow: []", "allow: []\n    <<: {}"), 20, "callers.wallboard: << takes over other keys"),
        (GOOD.replace("allow: []", "allow: []\n    ? [a]\n    : b"), 20, "a key must be a word"),
        (GOOD + "---\nversion: 1\n", 20, "is a second document"),
        ("- " * 20 + "a\n", 1, "is nested deeper than anything in a policy"),
        ("[" * 100_000, 1, "cannot be read as YAML"),
        (rule("inspectors: all"), 5, "callers.a.allow[1]: methods is missing"),
        (rule("methods: [], inspectors: all"), 5, "methods: is empty: name one at least"),
        (rule("methods: Watch, inspectors: all"), 5, "methods: must be a list, like [Listen, InspectorEvents]"),
        (rule("methods: [watch], inspectors: all"), 5, "'watch' is no method or service: did you mean Watch?"),
        (rule("methods: [all], inspectors: all"), 5, "'all' is no method or service"),
        (rule("methods: [Watch]"), 5, "inspectors is missing: name them, like [101-199, north/101-120], or write all"),
        (rule("methods: [Watch], inspectors: 101"), 5, "inspectors: must be a list, like"),
        (rule("methods: [Watch], inspectors: []"), 5, "inspectors: is empty: name one at least"),
        (rule("methods: [Watch], inspectors: [all]"), 5, "all stands alone"),
        (rule("methods: [Watch], inspectors: [199-101]"), 5, "'199-101' ends before it begins: write 101-199"),
        (rule("methods: [Watch], inspectors: [101 - 199]"), 5, "'101 - 199' must be like 101, 101-199 or"),
        (rule("methods: [Watch], inspectors: [0101]"), 5, "'0101' must be like"),
        (rule("methods: [Watch], inspectors: [1_01]"), 5, "'1_01' must be like"),
        (rule("methods: [Watch], inspectors: [101-]"), 5, "'101-' must be like"),
        (rule("methods: [Watch], inspectors: [1010101010]"), 5, "'1010101010' must be like"),
        (rule("methods: [Watch], inspectors: [North/101]"), 5, "'North/101' must be like"),
        (rule("methods: [Watch], inspectors: [\uff11\uff10\uff11]"), 5, "must be like"),
        (rule("methods: [Watch], inspectors: [south/101]"), 5, "names a gateway that the settings do not have"),
        (rule("methods: [Listen], inspectors: all"), 5, "targets is missing: name the agents whom Listen is for"),
        (rule("methods: [QualityControl], inspectors: all"), 5, "targets is missing"),
        (rule("methods: [Watch], inspectors: all, targets: all"), 5, "targets is of no use"),
        (rule("methods: [ForceDropCall, Listen], inspectors: all, targets: [200]"), 5, "ForceDropCall names a call"),
        (rule("methods: [Watch], inspectors: all, agents: all"), 5, "'agents' is no key: did you mean targets?"),
    ],
)  # fmt: skip
def test_a_problem_is_told_with_its_line_and_what_to_change(text, line, said):
    """What could be meant another way, or not at all, is refused where it stands."""
    found = problems(text, ["default", "north"])
    assert [one for one in found if one.startswith(f"{line}: ") and said in one], found


@pytest.mark.parametrize(
    "identity",
    ["desk.example", "dns:", "dns:*.example", "dns:a..b", "dns:.a", "dns:a.", "dns:a b", "dns:" + "a" * 254, "jwt:",
     "jwt:a b", "jwt:\u00e9", "jwt:" + "a" * 256, "spiffe://", "spiffe://a", "spiffe://a/", "spiffe://A/b", "Anonymous",
     "spiffe://a/*", "spiffe://a//b", "spiffe://a/../b", "spiffe://a/b?c", "spiffe://a:1/b", "SPIFFE://a/b", "*", "",
     "spiffe://a/" + "b" * 2100, "spiffe://" + "a" * 256 + "/b", "dns:my_desk.example", "dns:-desk"]
)  # fmt: skip
def test_an_identity_that_nobody_can_prove_is_refused(identity):
    """Each kind has its form, is compared as a whole, and has no wildcard."""
    [found] = problems(GOOD.replace("[anonymous]", f'["{identity}"]'))
    assert found.startswith("18: callers.wallboard.identities: ")


def test_all_problems_come_at_once_and_in_the_order_of_the_file():
    """Whoever mends a policy sees everything that is wrong with it."""
    text = GOOD.replace("calls: 50", "calls: x").replace("Intercept,", "Interceptt,").replace("allow: []", "alow: []")
    found = problems(text)
    assert [one.partition(":")[0] for one in found] == ["2", "11", "17", "19"]


def test_the_text_of_the_error_is_short():
    """A log line and a status page hold the first problems and how many more there are."""
    with pytest.raises(InvalidPolicy) as invalid:
        parse_policy(("version: 1\ncallers:\n" + "".join(f"  A{n}: {{}}\n" for n in range(1000))).encode())
    assert len(invalid.value.problems) == 100
    assert str(invalid.value).startswith("line 3: callers: 'A0' must be lower-case")
    assert str(invalid.value).endswith("; and 95 more")


def test_without_settings_a_policy_may_name_any_gateway():
    """A policy can be checked where no gateway is set."""
    assert parse_policy(GOOD.encode()).names == ("desk", "wallboard")
