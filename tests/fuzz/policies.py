"""The policy's file, and what it decides."""
# ruff: noqa: PT017 - an error of the reader is one of its answers, and has rules too

from __future__ import annotations

from hypothesis import strategies as st

from qc_adapter.access.asked import read_asked
from qc_adapter.access.caller import ANONYMOUS, Caller
from qc_adapter.access.policy_file import InvalidPolicy, parse_policy
from tests.fuzz.target import Target

_GATEWAYS = ("default", "north")
_MOST_TOLD = 10_000
_ASKED = tuple(
    found
    for found in (
        read_asked("Intercept", "101", ["292"]),
        read_asked("Watch", "north/101"),
        read_asked("SignIn", "59999"),
    )
    if found is not None
)


def check_policy(data: bytes) -> None:
    """
    A file is a policy, or `InvalidPolicy` with a line and few words for each problem.

    A policy allows nothing to who is not in it, and the same again to who is: reading has no memory.
    """
    try:
        policy = parse_policy(data, _GATEWAYS)
    except InvalidPolicy as invalid:
        lines = len(data.decode("utf-8", "replace").splitlines()) + data.count(b"\r") + 2
        assert invalid.problems
        assert len(str(invalid)) <= _MOST_TOLD
        assert all(0 <= problem.line <= lines for problem in invalid.problems)
        return
    again = parse_policy(data, _GATEWAYS)
    assert again.names == policy.names
    known = Caller(("spiffe://example/desk",))
    for asked in _ASKED:
        assert policy.decide(Caller(("spiffe://nobody/in/it-4711",)), asked) is None
        for caller in (known, ANONYMOUS):
            found = policy.decide(caller, asked)
            assert (found is None) == (again.decide(caller, asked) is None)
            assert found is None or policy.knows(caller, asked.method)
            assert policy.name_of(caller) in (*policy.names, "")


_texts = st.text(max_size=8) | st.sampled_from(
    ["desk", "spiffe://example/desk", "jwt:desk", "dns:desk", "anonymous", "Intercept", "Watch", "QualityControl",
     "101", "101-199", "north/101-120", "199-101", "9" * 30, "*", "&a", "*a", "!!python/object:os.system", "1e999",
     "null", "{", "- "]
)  # fmt: skip


def _files() -> st.SearchStrategy[bytes]:
    lists = st.lists(_texts, max_size=3).map(lambda found: "[" + ", ".join(found) + "]")
    rules = st.builds(
        lambda methods, inspectors, targets: f"      - methods: {methods}\n        inspectors: {inspectors}\n"
        f"        targets: {targets}\n",
        lists, lists, lists,
    )  # fmt: skip
    limits = st.dictionaries(
        st.sampled_from(["calls", "streams", "calls_per_second", "message_bytes", "x"]),
        st.integers(-1, 10**7).map(str) | _texts,
        max_size=2,
    ).map(lambda found: "{" + ", ".join(f"{name}: {value}" for name, value in found.items()) + "}")
    whole = st.builds(
        lambda version, common, name, identities, rule: (
            f"version: {version}\nlimits: {common}\ncallers:\n  {name}:\n"
            f"    identities: {identities}\n    allow:\n{rule}"
        ),
        st.sampled_from(["1", "1", "1", "2", "x"]),
        limits,
        st.just("desk") | _texts,
        st.just('["spiffe://example/desk", "jwt:desk"]') | lists,
        st.just('      - methods: [Intercept]\n        inspectors: [101-199]\n        targets: ["200-300"]\n') | rules,
    )
    return (whole | st.text(max_size=60)).map(lambda text: text.encode("utf-8", "replace"))


TARGETS = (Target("policy", check_policy, _files),)
