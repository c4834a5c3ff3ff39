"""What the SDK and its exporter may log."""

from __future__ import annotations

import logging

from qc_adapter.telemetry.sdk import Sparing


def test_a_logger_says_the_same_thing_once_a_minute(caplog):
    """Repetitions and what is below the level are dropped, other messages are not; at the end all pass again."""
    now = 0.0
    log = logging.getLogger("a library of this test")
    sparing = Sparing(log.name, logging.ERROR, lambda: now)
    sparing.begin()
    for now in (0.0, 1.0, 59.0, 60.0, 61.0):
        log.error("cannot send to %s", "there")
        log.warning("will try again")
        if now == 1.0:
            log.error("something else")
    assert caplog.messages == ["cannot send to there", "something else", "cannot send to there"]
    sparing.end()
    log.error("cannot send to %s", "there")
    log.warning("will try again")
    assert len(caplog.messages) == 5
