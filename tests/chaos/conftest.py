"""A whole site for the short chaos runs: three replicas, a real Redis, the simulated gateway, watchers and callers."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest_asyncio

from bench.chaos import form
from bench.chaos.site import running


@asynccontextmanager
async def kept_running(measures=form.SHORT, **options):
    """Run a site in a task of its own: a fixture's two halves run in different ones."""
    up, over = asyncio.get_running_loop().create_future(), asyncio.Event()

    async def run():
        async with running(measures, **options) as site:
            up.set_result(site)
            await over.wait()

    task = asyncio.create_task(run(), name="chaos site")
    try:
        await asyncio.wait([task, up], return_when=asyncio.FIRST_COMPLETED)
        yield task.result() if task.done() else up.result()
    finally:
        over.set()
        await task


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site():
    """A site that all faults of a module happen to, one after the other."""
    async with kept_running() as running_site:
        yield running_site


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pushed_site():
    """A site whose gateway pushes events, to one of three replicas behind a balancer."""
    async with kept_running(form.SHORT.pushed()) as running_site:
        yield running_site
