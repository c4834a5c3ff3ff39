"""One timer for all who wait equally long."""

import asyncio

import pytest

from qc_adapter.model.time_limit import TimeLimit


async def wait(limit, entered=None):
    """Wait for what does not come; return how it ended."""
    try:
        with limit:
            if entered is not None:
                entered.set()
            await asyncio.Event().wait()
    except TimeoutError:
        return "late"
    except asyncio.CancelledError:
        return "cancelled"


async def test_whoever_waits_too_long_is_told_so():
    """All that wait are told when their time is over, those too that come while others wait, and may go on then."""
    limit = TimeLimit(0.02)

    async def twice():
        return await wait(limit), await wait(limit)

    waiting = [asyncio.create_task(twice()) for _ in range(2)]
    assert await asyncio.gather(*waiting) == [("late", "late")] * 2
    assert await wait(limit) == "late"
    assert [one.cancelling() for one in waiting] == [0, 0]


async def test_whoever_is_in_time_is_left_alone():
    """What ends in time has its result, also after the timer has run for somebody else."""
    limit = TimeLimit(0.02)
    with limit:
        await asyncio.sleep(0)
    assert await wait(limit) == "late"
    with limit:
        await asyncio.sleep(0)


async def test_an_error_of_its_own_comes_through():
    """What fails in time fails with that."""
    with pytest.raises(KeyError), TimeLimit(5):
        raise KeyError


@pytest.mark.parametrize("late", [False, True])
async def test_a_cancellation_from_elsewhere_stays_one(late):
    """Who is cancelled is no one that is late, also when both come at once."""
    limit, entered = TimeLimit(5), asyncio.Event()
    waiting = asyncio.create_task(wait(limit, entered))
    await entered.wait()
    if late:
        limit._seconds = 0.0
        limit._look(asyncio.get_running_loop())
    waiting.cancel()
    assert await waiting == "cancelled"
