"""Garbage is looked for when memory grows or after a long time, and not because polls come and go."""

import asyncio
import gc
import weakref

import pytest

from qc_adapter.cli.collector import THRESHOLDS, Collector, rarely_collected, resident_bytes

MIB = 1 << 20


@pytest.fixture(autouse=True)
def nothing_frozen():
    """What a test has frozen is looked at again by others."""
    yield
    gc.unfreeze()


class Ring:
    """Refers to itself: only the collector frees it."""

    def __init__(self):
        self.itself = self


async def test_the_collector_runs_rarely_within_a_block_only():
    """Whoever embeds the adapter keeps thresholds of their own, and no task is left."""
    before, tasks = gc.get_threshold(), asyncio.all_tasks()
    async with rarely_collected():
        assert gc.get_threshold() == THRESHOLDS
        assert len(asyncio.all_tasks()) == len(tasks) + 1
    assert gc.get_threshold() == before
    assert asyncio.all_tasks() == tasks


async def test_young_garbage_goes_soon():
    """What refers to itself and was just made is gone within a moment, without many objects more."""
    async with rarely_collected():
        ring = weakref.ref(Ring())
        async with asyncio.timeout(10):
            while ring() is not None:  # noqa: ASYNC110 - nobody tells when garbage goes
                await asyncio.sleep(0.01)


def test_all_objects_are_looked_through_when_memory_has_grown():
    """A quarter more and 32 MiB: then garbage that refers to itself goes, and the new size is what counts."""
    memory = 100 * MIB
    collector = Collector(lambda: memory, lambda: 0.0)
    assert not collector.look()
    memory = 156 * MIB
    assert not collector.look()
    ring = weakref.ref(Ring())
    memory = 158 * MIB
    assert collector.look()
    assert ring() is None
    assert not collector.look()


def test_all_objects_are_looked_through_after_ten_minutes():
    """Also where memory does not grow: a descriptor may be among the garbage."""
    now = 0.0
    collector = Collector(lambda: 0, lambda: now)
    now = 599.0
    assert not collector.look()
    now = 601.0
    assert collector.look()
    assert not collector.look()


def test_what_was_seen_is_seen_again_after_ten_minutes():
    """Garbage of objects that a look has found in use waits for the look at all of them, and goes then."""
    now, memory = 0.0, 0
    collector = Collector(lambda: memory, lambda: now)
    ring = Ring()
    gone = weakref.ref(ring)
    memory += 100 * MIB
    assert collector.look()
    del ring
    memory += 100 * MIB
    assert collector.look()
    assert gone() is not None
    now = 601.0
    assert collector.look()
    assert gone() is None


def test_memory_is_read_from_the_system():
    """A test process has more than 10 MiB and less than 100 GiB."""
    assert 10 * MIB < resident_bytes() < 100_000 * MIB
