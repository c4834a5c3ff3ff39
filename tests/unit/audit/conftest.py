"""What tests of the audit log share."""

from __future__ import annotations

import pytest

from tests.support.watching import recorded


@pytest.fixture
def tape():
    """What is logged."""
    with recorded() as made:
        yield made
