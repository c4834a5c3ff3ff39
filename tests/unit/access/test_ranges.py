"""Looking ids up: ranges that overlap, touch or lie within each other, and texts that are no ids."""

import pytest

from qc_adapter.access.asked import place_of
from qc_adapter.access.ranges import OF_THE_INSPECTOR, Span, ranges_of


@pytest.mark.parametrize(
    ("spans", "held"),
    [
        ([(1, 9), (3, 5)], set(range(1, 10))),
        ([(3, 5), (1, 4)], {1, 2, 3, 4, 5}),
        ([(1, 2), (3, 4)], {1, 2, 3, 4}),
        ([(1, 2), (4, 4), (7, 9), (8, 8)], {1, 2, 4, 7, 8, 9}),
        ([(5, 5), (5, 5)], {5}),
        ([], set()),
    ],
)
def test_ranges_hold_what_their_spans_hold(spans, held):
    """However they lie to each other, no id is lost and none is added."""
    ranges = ranges_of("", [Span("north", *span) for span in spans])
    assert {number for number in range(12) if ranges.cover("north", number)} == held
    assert not any(ranges.cover("default", number) for number in range(12))


def test_what_names_no_gateway_is_at_that_of_the_inspector():
    """Targets without a gateway hold at each, those with one there only."""
    ranges = ranges_of("", [Span(OF_THE_INSPECTOR, 1, 2), Span("north", 5, 5)])
    assert [ranges.cover("default", number) for number in (1, 5)] == [True, False]
    assert [ranges.cover("north", number) for number in (1, 5)] == [True, True]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("101", ("default", 101)),
        ("default/101", ("default", 101)),
        ("north/101", ("north", 101)),
        ("999999999", ("default", 999999999)),
        *[(text, None) for text in ("", "0", "0101", "101 ", "101\n", "+101", "1e2", "north/", "/101", "9" * 10,
                                    "\uff11\uff10\uff11", "\u0661\u0660\u0661", "101/north")],
    ],
)  # fmt: skip
def test_a_text_is_judged_as_an_id_only_if_it_is_one(text, place):
    """What the handlers take for no id is not taken for one that the policy has."""
    assert place_of(text) == place
