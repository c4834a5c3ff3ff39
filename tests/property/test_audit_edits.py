"""Whatever is done to the lines of an audit file afterwards, a look through it finds it."""

from __future__ import annotations

import orjson
from hypothesis import given
from hypothesis import strategies as st

from qc_adapter.audit.record import canonical, joined
from tests.support.chains import KEY, chained, judged

KEYS = st.sampled_from([b"", KEY])
LINES = {key: chained(12, key) for key in (b"", KEY)}
PLACES = st.integers(0, 13)


@given(KEYS, PLACES, st.data())
def test_a_changed_byte_is_found(key, place, data):
    """In any record, at any place of it, to any other byte."""
    lines = list(LINES[key])
    line = bytearray(lines[place])
    at = data.draw(st.integers(0, len(line) - 1))
    line[at] = data.draw(st.integers(0, 255).filter(lambda byte: byte != line[at]))
    lines[place] = bytes(line)
    assert not judged(lines, key=key).whole


@given(KEYS, PLACES, st.data())
def test_a_changed_field_is_found(key, place, data):
    """Also when the line is still a record in its proper form: any field changed, added or left out."""
    lines = list(LINES[key])
    record = orjson.loads(lines[place])
    name = data.draw(st.sampled_from([*sorted(record), "more"]))
    if name in record and data.draw(st.booleans()):
        del record[name]
    else:
        before = record.get(name)
        values = st.one_of(st.text(st.characters(codec="utf-8"), max_size=8), st.integers(-(2**53), 2**53))
        record[name] = data.draw(values.filter(lambda one: one != before))
    hashed = record.pop("hash", "")
    lines[place] = joined(canonical(record), str(hashed))
    assert not judged(lines, key=key).whole


@given(KEYS, st.sets(PLACES, min_size=1))
def test_removed_lines_are_found(key, places):
    """One or many, at the begin, in the midst, at the end, or all of them."""
    found = judged([line for place, line in enumerate(LINES[key]) if place not in places], key=key)
    assert not found.whole


@given(KEYS, PLACES, PLACES)
def test_a_line_that_is_there_twice_is_found(key, place, again):
    """Wherever the second one stands."""
    lines = list(LINES[key])
    lines.insert(again, lines[place])
    assert not judged(lines, key=key).whole


@given(KEYS, st.permutations(range(14)))
def test_lines_in_another_order_are_found(key, order):
    """Two that were swapped, or all of them shuffled; only their own order is whole."""
    lines = LINES[key]
    assert judged([lines[place] for place in order], key=key).whole is (list(order) == sorted(order))


@given(KEYS, st.lists(st.tuples(PLACES, st.binary(max_size=40)), max_size=5))
def test_foreign_lines_between_the_records_break_nothing(key, foreign):
    """What is no record is counted and passed over, whatever it is."""
    lines = list(LINES[key])
    for place, line in foreign:
        lines.insert(place, line.replace(b"\n", b"").replace(b"{", b""))
    found = judged(lines, key=key)
    assert found.whole
    assert found.records == 14
    assert found.foreign_lines == sum(bool(line.replace(b"\n", b"").replace(b"{", b"")) for _, line in foreign)


@given(st.binary(max_size=300))
def test_any_bytes_can_be_looked_through(content):
    """Nothing that stands in a file makes the look fail."""
    assert not judged(content).whole


@given(KEYS, PLACES, st.data())
def test_a_file_that_is_cut_off_is_found(key, place, data):
    """At any byte: what is left of the last line is told as torn or foreign, and the chain has no end."""
    whole = b"".join(line + b"\n" for line in LINES[key])
    # Without the end of its last line it still is whole.
    at = data.draw(st.integers(0, len(whole) - 2))
    found = judged(whole[:at], key=key)
    assert not found.whole
    assert found.torn_lines + found.foreign_lines <= 1
