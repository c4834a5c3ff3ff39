"""The environment: every text of it is a setting, or a problem that is named without its secrets."""
# ruff: noqa: PT017 - an error of the reader is one of its answers, and has rules too

from __future__ import annotations

from hypothesis import strategies as st

from qc_adapter import variables
from qc_adapter.environment import Listen, listen
from qc_adapter.settings import InvalidSettings, Settings, describe, read_settings
from qc_adapter.store.opening import parse_store_url
from qc_adapter.store.seal import Seal, parse_keys
from tests.fuzz.target import CANARY, Target

#: They name files of the machine that fuzzes.
_FILES = ("_FILE", "QC_AUDIT_LOG")
_SECRET = frozenset(one.name for one in variables.VARIABLES if one.secret)


def check_settings(data: bytes) -> None:
    """Lines NAME=value are settings or `InvalidSettings`; neither shows a password, a key or a token."""
    environment = {}
    for line in data.decode("utf-8", "replace").replace("\x00", "").split("\n"):
        name, _, value = line.partition("=")
        if name.startswith("QC_") and not name.endswith(_FILES):
            environment[name] = f"{CANARY}{value}" if name in _SECRET and "://" not in value else value
    try:
        found = read_settings(environment)
    except InvalidSettings as invalid:
        assert invalid.problems
        assert CANARY not in str(invalid)
        assert all(len(problem.shown) <= 200 for problem in invalid.problems)
    else:
        assert isinstance(found, Settings)
        assert CANARY not in repr(found)
        assert CANARY not in "".join(found.warnings)
    assert CANARY not in "".join(row.value for row in describe(environment))


def check_texts(data: bytes) -> None:
    """An address, a store URL or a ring of keys is what its text says, or `ValueError`, which repeats none of it."""
    text = data.decode("utf-8", "replace").strip()
    try:
        where = listen(text)
    except ValueError as refused:
        assert len(str(refused)) < 120
    else:
        assert isinstance(where, Listen)
        assert listen(str(where)) == where
        assert 0 <= where.port <= 65535
    for parse in (parse_store_url, parse_keys):
        try:
            found = parse(text)
        except ValueError as refused:
            assert len(str(refused)) < 200
        else:
            assert text not in repr(found) or "://" not in text or "@" not in text
            if isinstance(found, tuple) and found:
                assert Seal(found).open(Seal(found).close(b"x")) == b"x"


_names = st.sampled_from(
    [*sorted(one.name for one in variables.VARIABLES if not one.name.endswith(_FILES)), "QC_GATEWAY_NORTH_URL"]
)
_parts = st.text(max_size=12) | st.sampled_from(
    ["0", "1", "-1", "1e400", "nan", "127.0.0.1:0", "[::1]:1", ":99999", "http://h:1", "https://u:p@h", "redis://h/0",
     "rediss://u:p@[::1]:7/1", "redis+sentinel://a,b:1/m/2", "memory://", "north, south", "push", "debug"]
)  # fmt: skip


def _environments() -> st.SearchStrategy[bytes]:
    return st.dictionaries(_names, _parts, max_size=5).map(
        lambda found: "\n".join(f"{name}={value}" for name, value in found.items()).encode("utf-8", "replace")
    )


def _texts() -> st.SearchStrategy[bytes]:
    pieces = st.text(max_size=10) | st.sampled_from(
        ["redis", "rediss", "redis+sentinel", "memory", "://", "u:p@", "h", "[::1]", ":", "0", "6379", "/", ",", "?",
         "ca_file=", "#", "%41", "[", "]", "A" * 43 + "="]
    )  # fmt: skip
    return st.lists(pieces, max_size=7).map(lambda parts: "".join(parts).encode("utf-8", "replace"))


TARGETS = (Target("settings", check_settings, _environments), Target("addresses", check_texts, _texts))
