"""What tests of whole adapters share: sites before a simulated gateway."""

from __future__ import annotations

import contextlib

import grpc
import pytest

from tests.support.callers import PASSWORD
from tests.support.opening import simulated
from tests.support.sites import site_before
from tests.support.watching import leaving_nothing, recorded, until


@pytest.fixture
async def nothing_leaks():
    """After the test and the end of its site, tasks and sockets are what they were."""
    async with leaving_nothing():
        yield


@pytest.fixture
def tape():
    """What is logged, at the finest level."""
    with recorded() as made:
        yield made


@pytest.fixture
async def open_site(nothing_leaks, tape):
    """Open a site with other settings; after the test it is checked for leaks and secrets, and closed."""
    async with contextlib.AsyncExitStack() as stack:

        async def opening(*, gateway=None, **environment):
            simulator = await stack.enter_async_context(simulated(**gateway or {}))
            return await site_before(stack, simulator, tape, environment)

        yield opening


@pytest.fixture
async def site(open_site):
    """A site with inspector 101 signed in."""
    made = await open_site()
    assert (await made.ending(made.sign_in())).code is grpc.StatusCode.OK
    return made


@pytest.fixture(name="until")
def until_fixture():
    """The function that waits for a condition."""
    return until


@pytest.fixture
def password():
    """The password that sign-ins of this folder send."""
    return PASSWORD
