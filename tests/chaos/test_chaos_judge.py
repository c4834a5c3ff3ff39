"""The judge of the chaos run itself: it must see what is wrong, or the run proves nothing."""

from __future__ import annotations

import pytest

from bench.chaos.judge import judge


def test_a_whole_trail_is_delivered():
    """Every number in order and no gap: nothing is covered, nothing is lost."""
    found = judge([1, 2, 3], 1, 3)
    assert (found.sent, found.delivered, found.covered, found.lost, found.gaps_without_loss) == (3, 3, 0, [], 0)


def test_a_gap_covers_what_is_missing_at_its_place_only():
    """A missing number counts as covered only when a gap stood between its neighbours."""
    found = judge([1, "TAKEOVER", 3, 5], 1, 5)
    assert (found.delivered, found.covered, found.lost) == (3, 1, [4])


@pytest.mark.parametrize(("trail", "lost"), [([2, 3], [1]), ([1, 2], [3]), ([], [1, 2, 3]), ([1, "x", 2], [3])])
def test_what_is_missing_at_an_end_is_lost(trail, lost):
    """The first and the last numbers are no exception."""
    assert judge(trail, 1, 3).lost == lost


def test_a_gap_after_the_last_event_covers_the_end():
    """A gap at the end stands for what is missing there."""
    found = judge([1, "TAKEOVER"], 1, 3)
    assert (found.covered, found.lost) == (2, [])


@pytest.mark.parametrize("trail", [[1, 2, 2, 3], [1, 3, 2], [1, "TAKEOVER", 1, 2, 3]])
def test_a_number_twice_or_late_is_out_of_order(trail):
    """Numbers rise strictly, gap or no gap."""
    assert judge(trail, 1, 3).out_of_order


@pytest.mark.parametrize(
    ("trail", "told_again", "out_of_order"),
    [([1, 2, "LOG_LOST", 2, 3], 1, []), ([1, 2, 2, "LOG_LOST", 3], 0, [2]), ([1, 2, "TAKEOVER", 2, 3], 0, [2])],
)
def test_what_is_pushed_may_be_told_again_only_behind_a_log_that_lost_its_end(trail, told_again, out_of_order):
    """Its push was not answered, so it comes again; with polls, or behind another gap, it must not."""
    found = judge(trail, 1, 3, pushes=True)
    assert (found.told_again, found.out_of_order, found.lost) == (told_again, out_of_order, [])
    assert judge(trail, 1, 3).out_of_order == [2]


def test_a_gap_where_nothing_is_missing_is_counted():
    """It is honest after a forced takeover, and nothing to be proud of."""
    found = judge([1, "TAKEOVER", 2], 1, 2)
    assert (found.gaps_without_loss, found.gaps) == (1, {"TAKEOVER": 1})
