"""What a look through audit records says of them."""

from __future__ import annotations

import hashlib

import orjson
import pytest

from qc_adapter.audit.chain import Chain
from qc_adapter.audit.record import canonical, joined
from tests.support.chains import KEY, chained, judged, kinds

OTHER_KEY = b"o" * 32


def head(line):
    """The hash of a record."""
    return orjson.loads(line)["hash"]


def remade(line, **changes):
    """The record with other contents and a hash that fits them, as anybody can make it who has no key."""
    record = orjson.loads(line) | changes
    del record["hash"]
    return joined(canonical(record), hashlib.sha256(canonical(record)).hexdigest())


def test_a_whole_chain_is_told_with_its_times_and_its_end():
    """From when to when, how many records, whose, and that it ended."""
    lines = chained(3)
    found = judged(lines)
    assert found.whole
    [chain] = found.chains.values()
    assert (chain.records, chain.replica, chain.ended, chain.keyed) == (5, "one", True, False)
    assert chain.head == head(lines[-1])
    assert chain.first_time.startswith("2026-01-01")


@pytest.mark.parametrize(
    ("edit", "expected", "line"),
    [
        (lambda lines: lines[:2] + lines[3:], ["missing"], 0),
        (lambda lines: lines[1:], ["missing"], 0),
        (lambda lines: lines[:-1], ["not_ended"], 0),
        (lambda lines: [*lines[:2], lines[1], *lines[2:]], ["duplicate"], 3),
        (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], ["reordered"], 3),
        (lambda lines: [*lines[:2], lines[2].replace(b'"101"', b'"102"'), *lines[3:]], ["changed"], 3),
        (lambda lines: [*lines[:2], lines[2].replace(b",", b", ", 1), *lines[3:]], ["changed"], 3),
        (lambda lines: [*lines[:2], remade(lines[2], agent_id="102"), *lines[3:]], ["unlinked"], 4),
        (lambda lines: [*lines, remade(lines[-1], seq=5, prev=head(lines[-1]))], ["after_end"], 6),
        (lambda lines: [*lines[:-1], remade(lines[-1], audit=2)], ["format", "not_ended"], 5),
        (lambda _: [], ["empty"], 0),
        (lambda _: [b"no record"], ["empty"], 0),
    ],
)
def test_each_kind_of_break_is_told_with_its_line(edit, expected, line):
    """One edit is one break, at the line where it shows; what is missing has none."""
    found = judged(edit(chained(3)))
    assert kinds(found) == expected
    assert found.breaks[0].line == line


def test_files_are_read_in_the_order_of_their_rotation():
    """A chain goes on from one file to the next; in the wrong order its records stand behind later ones."""
    lines = chained(4)
    assert judged(lines[:3], lines[3:]).whole
    turned = judged(lines[3:], lines[:3])
    assert kinds(turned) == ["reordered"]
    assert (turned.breaks[0].file, turned.breaks[0].line) == ("file 2", 1)


def test_files_that_are_not_kept_any_more_are_vouched_for_by_the_hash_of_their_last_record():
    """Without it the records before are missing."""
    lines = chained(4)
    assert kinds(judged(lines[3:])) == ["missing"]
    assert judged(lines[3:], after=head(lines[2])).whole
    assert kinds(judged(lines[3:], after=head(lines[1]))) == ["missing"]


def test_a_chain_says_what_it_follows_so_that_a_removed_one_shows():
    """The whole chain before it, or its last records: the next chain's beginning names a record that is not there."""
    first = chained(2)
    second = chained(2, follows=head(first[-1]))
    assert judged(first + second).whole
    assert kinds(judged(second)) == ["follows_lost"]
    assert kinds(judged(first[:-1] + second)) == ["follows_lost", "not_ended"]
    assert judged(second, after=head(first[-1])).whole


def test_chains_may_stand_between_each_other():
    """Several processes may write to what becomes one stream; each chain is judged by itself."""
    one, other = chained(3, replica="one"), chained(3, replica="other")
    mixed = [line for pair in zip(one, other, strict=True) for line in pair]
    assert judged(mixed).whole
    assert kinds(judged(mixed[:4] + mixed[5:])) == ["missing"]


def test_an_anchor_shows_that_a_tail_was_cut_and_vouches_for_a_chain_that_runs_on():
    """The hash of a record that the ordinary log has told of must be there; its chain may have no end yet."""
    lines = chained(3)
    assert judged(lines[:-1], head=head(lines[3])).whole
    assert kinds(judged(lines[:3], head=head(lines[3]))) == ["head", "not_ended"]
    remade_whole = chained(3)
    assert kinds(judged(remade_whole, head=head(lines[3]))) == ["head"]


@pytest.mark.parametrize(
    ("written_with", "judged_with", "said"),
    [
        (KEY, b"", "QC_AUDIT_KEY is needed"),
        (KEY, OTHER_KEY, "another key"),
        (b"", KEY, "has no key"),
    ],
)
def test_a_chain_of_another_key_is_no_whole_one(written_with, judged_with, said):
    """Said once of the chain, and not of each record; what is removed is found all the same."""
    lines = chained(3, written_with)
    found = judged(lines, key=judged_with)
    assert kinds(found) == ["key"]
    assert said in found.breaks[0].what
    assert kinds(judged(lines[:2] + lines[3:], key=judged_with)) == ["key", "missing"]


def test_who_has_no_key_can_make_no_record():
    """A record with a hash that anybody can make does not fit into a keyed chain, nor does a whole chain made anew."""
    lines = chained(3, KEY)
    assert judged(lines, key=KEY).whole
    assert kinds(judged([*lines[:2], remade(lines[2], agent_id="102"), *lines[3:]], key=KEY)) == ["changed", "unlinked"]
    pretended = orjson.loads(lines[0])["key"]
    forged = Chain(b"", "one")
    anew = [forged.add({"event": "audit_began", "key": pretended, "follows": ""}), forged.add({"event": "audit_ended"})]
    assert kinds(judged(anew, key=KEY)) == ["changed"]


def test_a_torn_line_is_told_and_breaks_nothing_when_its_record_came_after_all():
    """A full disk leaves half a line; the record is written whole when there is room again."""
    lines = chained(3)
    found = judged([*lines[:2], lines[2][:40], *lines[2:]])
    assert found.whole
    assert (found.torn_lines, found.foreign_lines) == (1, 0)


def test_very_many_breaks_are_counted_and_not_all_kept():
    """A file that is damaged throughout must not fill the memory."""
    lines = [line.replace(b'"101"', b'"102"') for line in chained(500)]
    found = judged(lines)
    assert found.counts["changed"] == 500
    assert len(found.breaks) == 100


def test_gaps_without_end_are_told():
    """More of them than are remembered are told at once."""
    found = judged(chained(2600)[::2])
    assert found.counts["missing"] == 1300
