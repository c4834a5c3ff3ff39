"""What the policy decides, against a model that looks at every number; and that it judges what the handlers then do."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qc_adapter.access.asked import Asked, read_asked
from qc_adapter.access.caller import Caller
from qc_adapter.access.policy_explain import explain
from qc_adapter.access.policy_file import InvalidPolicy, parse_policy
from qc_adapter.access.policy_methods import METHODS, SERVICES, Names
from qc_adapter.model.errors import InvalidRequest
from qc_adapter.model.inspector import inspector_id
from qc_adapter.rpc.parse import Parser
from qc_adapter.rpc.rights import _read
from qc_adapter.v1 import quality_control_pb2 as pb
from qc_adapter.v1 import sessions_pb2

PARSER = Parser({"default": 59999, "north": 999999}, 10.0)
IDENTITIES = ["spiffe://a/b", "dns:desk.example", "jwt:desk", "anonymous"]
NUMBERS = st.integers(101, 112)
PLACES = st.sampled_from(["", "default/", "north/"])


@st.composite
def spans(draw):
    first = draw(NUMBERS)
    last = draw(st.none() | st.integers(first, 112))
    return draw(PLACES) + (str(first) if last is None else f"{first}-{last}")


ranges = st.just("all") | st.lists(spans(), min_size=1, max_size=4)


@st.composite
def rules(draw):
    named = [name for name in (*METHODS, *SERVICES) if name != "ForceDropCall"]
    found = {"methods": draw(st.lists(st.sampled_from(named), min_size=1, max_size=3)), "inspectors": draw(ranges)}
    if any(METHODS[method].has_targets for method in methods_of(found)):
        found["targets"] = draw(ranges)
    return found


@st.composite
def policies(draw):
    """Callers with some of the identities each, none of them twice."""
    owners = draw(st.lists(st.sampled_from(["a", "b", "c"]), min_size=4, max_size=4))
    callers = {
        owner: {
            "identities": [one for one, its in zip(IDENTITIES, owners, strict=True) if its == owner],
            "allow": draw(st.lists(rules(), max_size=3)),
        }
        for owner in sorted(set(owners))
    }
    return {"version": 1, "callers": callers}


def methods_of(rule):
    return {one for name in rule["methods"] for one in SERVICES.get(name, {name})}


def holds(found, gateway, number, unnamed):
    """Whether the ranges hold the number, by looking at each number of each."""
    if found == "all":
        return True
    for text in found:
        place, _, numbers = text.rpartition("/")
        first, _, last = numbers.partition("-")
        if (place or unnamed or gateway) == gateway and number in range(int(first), int(last or first) + 1):
            return True
    return False


def allowed(policy, names, asked):
    """Whether some rule of some caller with one of these names matches all of it."""
    return any(
        asked.method in methods_of(rule)
        and holds(rule["inspectors"], asked.gateway, asked.number, "default")
        and (not asked.unnamed or rule["targets"] == "all")
        and all(holds(rule["targets"], asked.gateway, target, "") for target in asked.targets)
        for caller in policy["callers"].values()
        if set(caller["identities"]) & set(names)
        for rule in caller["allow"]
    )


@st.composite
def questions(draw):
    method = draw(st.sampled_from([name for name in METHODS if name != "List"]))
    most = {Names.AGENT: 1, Names.AGENTS: 4}.get(METHODS[method].names, 0)
    targets = draw(st.lists(NUMBERS, min_size=min(most, 1), max_size=most))
    unnamed = method == "ForceDropCall" or (method == "Intercept" and draw(st.booleans()))
    return Asked(method, draw(st.sampled_from(["default", "north"])), draw(NUMBERS), tuple(targets), unnamed)


@given(policies(), st.lists(questions(), min_size=1, max_size=20), st.lists(st.sampled_from(IDENTITIES), max_size=3))
def test_a_decision_is_what_looking_at_every_number_comes_to(made, asked, names):
    """Any rule that matches method, inspector and all targets allows it; nothing else does. Explain says the same."""
    policy = parse_policy(json.dumps(made).encode(), ["default", "north"])
    caller = Caller(tuple(names or ["dns:stranger"]))
    for one in asked:
        wanted = allowed(made, caller.names, one)
        rule = policy.decide(caller, one)
        assert (rule is not None) == wanted
        told = explain(policy.entries_of(caller), one)
        assert (told.allowed, told.rule if told.allowed else None) == (wanted, rule)
        if wanted:
            assert policy.knows(caller, one.method)


@given(policies(), st.sampled_from(IDENTITIES), st.lists(st.builds(str.__add__, PLACES, NUMBERS.map(str)), max_size=20))
def test_a_list_shows_the_inspectors_of_its_rules(made, name, agent_ids):
    """An inspector is shown if one of the caller's rules with List holds its id."""
    policy = parse_policy(json.dumps(made).encode())
    may_see = policy.shown(Caller((name,)), "List")
    for agent_id in agent_ids:
        asked = read_asked("List", agent_id)
        assert may_see(agent_id) == allowed(made, [name], asked)


ids = (
    st.builds(str.__add__, st.sampled_from(["", "default/", "north/", "/", "a/b/", "North/", " ", "+"]),
              st.sampled_from(["", "0", "99", "101", "0101", "101 ", "101\n", "1_01", "101.0", "\uff11\uff10\uff11",
                               "\u0661\u0660\u0661", "59999", "60000", "999999", "1000000", "9" * 10, "101-102"]))
    | st.text(max_size=8)
    | st.integers(90, 130).map(str)
)  # fmt: skip


@pytest.mark.parametrize(
    ("rpc", "make", "check"),
    [
        ("Listen", lambda ids: pb.ListenRequest(agent_id=ids[0], work_no=ids[1]), PARSER.pair),
        ("Intercept", lambda ids: pb.InterceptRequest(agent_id=ids[0], work_no=ids[1], call_id=ids[2]), PARSER.pair),
        ("Monitor", lambda ids: pb.MonitorRequest(agent_id=ids[0], work_nos=ids[1:]), PARSER.group),
        ("ForceDropCall", lambda ids: pb.ForceDropCallRequest(agent_id=ids[0], call_id=ids[1]), PARSER.inspector),
        ("Get", lambda ids: sessions_pb2.GetRequest(agent_id=ids[0]), lambda one: PARSER.agent_id(one.agent_id)),
    ],
)
@given(agent_ids=st.lists(ids, min_size=3, max_size=3))
def test_what_a_handler_takes_is_what_was_judged(rpc, make, check, agent_ids):
    """No request that the checks accept is judged as if it named others, or nobody."""
    request = make(agent_ids)
    try:
        taken = check(request)
    except InvalidRequest:
        return
    asked = _read(rpc, METHODS[rpc].names, request)
    assert inspector_id(asked.gateway, str(asked.number)) == taken
    assert list(map(str, asked.targets)) == (
        [request.work_no] if hasattr(request, "work_no") else list(getattr(request, "work_nos", ()))
    )
    assert asked.unnamed == (rpc == "ForceDropCall" or bool(getattr(request, "call_id", "")))


@given(
    st.recursive(
        st.sampled_from(["all", "1", "desk", "Watch", "101-199", "<<", "*a", "&a b", "!!int 1", "", "~", "|", "- x"]),
        lambda inner: (
            st.lists(inner, max_size=3).map(lambda found: f"[{', '.join(found)}]")
            | st.dictionaries(
                st.sampled_from(["version", "callers", "allow", "methods", "identities", "limits", "targets", "a"]),
                inner,
                max_size=3,
            ).map(lambda found: "{" + ", ".join(f"{key}: {value}" for key, value in found.items()) + "}")
        ),
        max_leaves=12,
    )
    | st.text(max_size=30)
    | st.binary(max_size=30)
)
def test_no_text_breaks_the_reader(text):
    """Whatever lies in the file is a policy, or refused with lines; nothing else comes of it."""
    problems = None
    try:
        parse_policy(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    except InvalidPolicy as invalid:
        problems = invalid.problems
    assert problems is None or len(problems) > 0
    assert all(problem.line > 0 and problem.what.isprintable() for problem in problems or ())
