"""docs/performance.md is made of what the parts of the bench have kept."""

from __future__ import annotations

import pytest

from bench.speed import page
from bench.speed.figures import Goal, Ratio, Reading, Section, Table, in_turns

CALLS = Section(
    key="calls",
    title="A call",
    command="python -m bench.speed --only calls",
    ratios=(
        Ratio(
            "a call", "ours", "empty", "CPU us", (20.0, 33.0, 30.0), (10.0, 11.0, 10.0), Goal(at_most=2, stretch=1.4)
        ),
        Ratio("a call", "naive", "ours", "CPU us", (90.0,), (20.0,), Goal(at_least=3)),
    ),
    readings=(Reading("a poll", "bytes", (50_000.0, 51_000.0)),),
    before="What was called.",
    after="Why it is so.",
    tables=(Table("Rates", ("at once", "ours"), (("1", "2.00"),)),),
)


def test_what_is_kept_is_read_again_as_it_was(tmp_path):
    """The page may be made at any time of what a run left behind."""
    CALLS.keep(tmp_path)
    assert Section.kept(tmp_path / "calls.json") == CALLS


def test_the_page_begins_with_the_goals_and_says_which_are_not_met(tmp_path):
    """The first table has each figure that has a goal: goal, measured with its spread, met or not, and the command."""
    CALLS.keep(tmp_path)
    page.write(tmp_path / "performance.md", tmp_path)

    lines = (tmp_path / "performance.md").read_text().splitlines()
    goals = lines[lines.index("## Goals") :]
    again = "`python -m bench.speed --only calls`"
    assert goals[2] == "| what | of | against | goal | measured | met | again by |"
    assert goals[4] == f"| a call | ours | empty | at most 2, better 1.40 | 3 (2 to 3) | **no** | {again} |"
    assert goals[5] == f"| a call | naive | ours | at least 3 | 4.50 | yes | {again} |"


def test_a_section_shows_its_figures_tables_and_words():
    """Everything that a section holds stands on the page, in the order of before, figures, tables, after."""
    text = page.rendered([CALLS])

    places = [
        text.index(part) for part in ("## A call", "What was called.", "| a poll |", "### Rates", "Why it is so.")
    ]
    assert places == sorted(places)
    assert "| a call | ours | empty | 3 (2 to 3) | 30 | 10 | CPU us |" in text


def test_a_ratio_is_taken_round_by_round():
    """A round that was slow for both does not move the ratio: each value is compared with the one of its own round."""
    ratio = Ratio("", "", "", "", (20.0, 200.0, 22.0), (10.0, 100.0, 11.0))
    assert ratio.ratios == (2.0, 2.0, 2.0)


async def test_every_second_round_goes_backwards():
    """Whoever comes first in one round comes last in the next, so that a drift of the machine favours nobody."""
    order = []

    def measure(name):
        async def one():
            order.append(name)
            return float(len(order))

        return one

    found = await in_turns({name: measure(name) for name in "abc"}, rounds=2)

    assert "".join(order) == "abccba"
    assert found == {"a": (1.0, 6.0), "b": (2.0, 5.0), "c": (3.0, 4.0)}


@pytest.mark.parametrize(
    ("value", "shown"), [(2.0, "2"), (1.4, "1.40"), (12.34, "12.3"), (1234.5, "1,234"), (0.0312, "0.03")]
)
def test_numbers_have_three_digits_or_so(value, shown):
    """A number has as many digits as the measurement is good for."""
    assert page.number(value) == shown
