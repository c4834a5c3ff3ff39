"""The table of return codes."""

from __future__ import annotations

import pytest

from qc_adapter.gateway.retcodes import RETCODES, Category, describe


def test_the_table_is_whole():
    """All 131 known codes are there, each with a meaning, an advice sentence and a source."""
    assert len(RETCODES) == 131
    for code, row in RETCODES.items():
        assert row.code == code
        assert row.listed
        assert row.meaning
        assert row.source
        assert row.advice.endswith(".")


@pytest.mark.parametrize(
    ("code", "category"),
    [
        ("0", Category.OK),
        ("000-003", Category.UNAUTHENTICATED),
        ("000-004", Category.UNAVAILABLE),
        ("000-005", Category.INVALID_ARGUMENT),
        ("100-002", Category.ALREADY_EXISTS),
        ("100-006", Category.UNAUTHENTICATED),
        ("900-001", Category.UNAVAILABLE),
        ("900-002", Category.PERMISSION_DENIED),
        ("900-004", Category.NOT_FOUND),
        ("900-005", Category.FAILED_PRECONDITION),
    ],
)
def test_codes_that_inspection_meets_have_their_category(code, category):
    """A code that inspection can meet is of the documented kind."""
    assert describe(code).category is category


@pytest.mark.parametrize(
    ("code", "category", "words"),
    [
        ("200-999", Category.NOT_FOUND, "calls"),
        ("500-999", Category.FAILED_PRECONDITION, "playing"),
        ("900-099", Category.UNKNOWN, "inspection"),
        ("555-001", Category.UNKNOWN, "not in the documented tables"),
        ("100006", Category.UNKNOWN, "not in the documented tables"),
        ("", Category.UNKNOWN, "not in the documented tables"),
        ("no code at all", Category.UNKNOWN, "not in the documented tables"),
    ],
)
def test_a_code_outside_the_table_is_described_by_its_group(code, category, words):
    """An unlisted code has the category of more than half of its group, or UNKNOWN, and never fails."""
    found = describe(code)
    assert (found.code, found.category, found.listed) == (code, category, False)
    assert words in found.meaning
    assert found.advice


def test_no_guess_promises_that_trying_again_is_safe():
    """No unlisted code is UNAVAILABLE, whatever its group."""
    for group in {code[:3] for code in RETCODES}:
        assert describe(f"{group}-998").category is not Category.UNAVAILABLE
