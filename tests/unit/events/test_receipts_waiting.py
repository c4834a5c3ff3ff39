"""Receipts that wait for the store, without a store."""

from qc_adapter.events import receipts
from qc_adapter.events.hub import Hub
from qc_adapter.events.inspection import Acceptance, Act, Mode, accepted
from qc_adapter.events.receipts import RedisReceipts
from qc_adapter.events.standing import NOTHING_HEARD
from tests.support.watching import recorded


def _acceptance(number):
    return Acceptance(Act.BEGIN, str(200 + number), NOTHING_HEARD, number, number, Mode.LISTENING)


def test_receipts_that_find_no_room_are_told_of_and_cost_the_command_nothing(monkeypatch):
    """However many come while the store is away, so many wait; what this replica itself knows is right all the same."""
    monkeypatch.setattr(receipts, "_MOST_WAITING", 2)
    hub = Hub()
    feed = hub.feed("101")
    with recorded() as tape:
        waiting = RedisReceipts(None, hub)
        for acceptance in (made := [_acceptance(number) for number in range(4)]):
            waiting.note("101", acceptance)
        assert [line["event"] for line in tape.lines] == ["receipt_not_recorded"] * 2
    expected = None
    for acceptance in made:
        expected = accepted(expected, acceptance)
    assert feed.inspection == expected
