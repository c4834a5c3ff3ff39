"""What very many readers do at once is spread in time, and what they log at once is counted."""

import asyncio

from qc_adapter.events.crowd import MOST_LINES, WINDOW_SECONDS, CrowdLog
from qc_adapter.events.leases import PollState
from qc_adapter.events.reader import Pace
from qc_adapter.events.turns import Turns
from qc_adapter.model.errors import GatewayUnavailable
from tests.support.watching import recorded

MANY = 150


class Clock:
    """A clock that the test moves."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def test_turns_keep_their_distance():
    """A hundred have their turn at once after a quiet time, the others one after the other; a pause is not saved up."""
    clock = Clock()
    turns = Turns(100.0, clock)
    clock.now += 3600.0
    waits = [round(turns.take(), 6) for _ in range(300)]
    assert waits[:100] == [0.0] * 100
    assert waits[100:] == [round(0.01 * number, 6) for number in range(1, 201)]


async def test_those_who_are_found_in_the_store_begin_one_after_the_other(post):
    """After a start only the first hundred are polled for at once, whatever the store holds, of all gateways."""
    for number in range(MANY):
        await post.sign_in(agent_id=str(200 + number) if number % 2 else f"north/{200 + number}")
    readers = post.readers(Pace(turns_a_second=0.001))
    await post.look(readers)
    assert len(post.mailbox.polls) == 100
    assert len(readers._tasks) == MANY + 1


async def test_who_signs_in_does_not_wait_behind_those_who_were_found(post):
    """A sign-in through this replica is polled for at once while the others take their turns."""
    for number in range(MANY):
        await post.sign_in(agent_id=str(200 + number))
    readers = post.readers(Pace(turns_a_second=0.001))
    await post.look(readers)
    before = len(post.mailbox.polls)
    await readers.notice(await post.sign_in(agent_id="999"))
    await post.look(readers)
    assert [poll.session.agent_id for poll in post.mailbox.polls[before:]] == ["999"]


async def test_who_waits_for_a_turn_hands_the_lease_back_at_once(post):
    """A drain does not wait for first polls that were not sent."""
    for number in range(MANY):
        await post.sign_in(agent_id=str(200 + number))
    readers = post.readers(Pace(turns_a_second=0.001))
    await post.look(readers)
    waiting = [reader for reader in readers._reading.values() if not reader.polling]
    assert waiting
    for reader in waiting:
        reader.leave()
    await post.until(lambda: len(readers._tasks) == len(post.mailbox.polls))
    assert set(post.counts.leases) == {"won", "released"}


async def test_polls_after_an_outage_are_spread(post):
    """When all polls fail at the same moment, those beyond the first hundred wait for turns, longer than a back-off."""
    for number in range(MANY):
        await post.sign_in(agent_id=str(200 + number))
    readers = post.readers(Pace(first_backoff_seconds=0.001, last_backoff_seconds=0.001, turns_a_second=0.001))
    for agent_id in await post.store.agent_ids():
        await readers.notice(await post.store.get(agent_id))
    await post.look(readers)
    assert len(post.mailbox.polls) == MANY + 1
    for poll in list(post.mailbox.polls):
        poll.fail(GatewayUnavailable("getAgentEvent", "connection refused"))
    await post.until(lambda: sum(reader.state is PollState.DEGRADED for reader in readers._reading.values()) > MANY)
    await post.until(lambda: len(post.mailbox.polls) == MANY + 1 + 100)
    waiting = [reader for reader in readers._reading.values() if not reader.polling]
    assert len(waiting) == MANY + 1 - 100


async def test_very_many_sessions_are_taken_in_parts(post):
    """What a store holds at the start is claimed a few hundred at a time, so that calls are answered in between."""
    for number in range(600):
        await post.sign_in(agent_id=str(200 + number))
    readers = post.readers(Pace())
    await post.look(readers)
    assert len(readers._tasks) == 500
    readers.start()
    await post.until(lambda: len(readers._tasks) == 601)


def test_a_crowd_is_counted_and_not_written():
    """Of one kind of line so many are written in a time, then the others are told in one; other kinds go on."""
    clock = Clock()
    with recorded() as tape:
        log = CrowdLog(clock)
        for number in range(MOST_LINES + 7):
            log.write("warning", "polling_degraded", str(101 + number), detail="refused")
        log.write("info", "lease_changed", "101", kind="won", reason="won")
        log.write("warning", "polling_degraded", "north/101", detail="refused")
        log.sum_up()
        events = [line["event"] for line in tape.lines]
        assert events == ["polling_degraded"] * MOST_LINES + ["lease_changed", "polling_degraded"]
        clock.now += WINDOW_SECONDS
        log.sum_up()
        left_out = tape.lines[len(events) :]
        told = {name: left_out[0][name] for name in ("event", "level", "gateway", "of", "count")}
        assert told == {
            "event": "lines_left_out",
            "level": "warning",
            "gateway": "default",
            "of": "polling_degraded",
            "count": 7,
        }
        assert len(left_out) == 1
        log.write("warning", "polling_degraded", "101", detail="refused")
        assert tape.lines[-1]["event"] == "polling_degraded"


async def test_what_was_left_out_is_told_at_the_end(post):
    """A process that stops says how many lines it did not write."""
    for number in range(MANY):
        await post.sign_in(agent_id=str(200 + number))
    with recorded() as tape:
        readers = post.readers(Pace())
        await post.look(readers)
        assert [line["event"] for line in tape.lines].count("lease_changed") == MOST_LINES
        await readers.stop()
        told = {(line["of"], line["reason"]): line["count"] for line in tape.lines if line["event"] == "lines_left_out"}
    assert told["lease_changed", "won"] == MANY + 1 - MOST_LINES


async def test_a_census_is_taken_in_parts(post):
    """Counting very many for the metrics lets others have their turn, and finds all of them."""
    for number in range(600):
        await post.sign_in(agent_id=str(200 + number))
    readers = post.readers(Pace())
    await post.look(readers, times=2)
    turns = 0

    async def others():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(others())
    post.tasks.append(other)
    await readers.take_census()
    assert turns >= 2
    assert readers.counted() == {("default", "starting"): 601}


async def test_more_inspectors_than_polls_are_told_once(post):
    """As many as polls may be open are no word worth; one more is an error, said when it begins."""
    for agent_id in ("102", "103"):
        await post.sign_in(agent_id=agent_id)
    with recorded() as tape:
        readers = post.readers(Pace(most_polls=3))
        await post.look(readers)
        assert [line for line in tape.lines if line["event"] == "too_many_inspectors"] == []
        await post.sign_in(agent_id="104")
        await post.look(readers, times=3)
        [told] = [line for line in tape.lines if line["event"] == "too_many_inspectors"]
    assert (told["level"], told["gateway"]) == ("error", "default")
    assert told["detail"].startswith("4 inspectors share 3 polls")
