"""A stream that is ended from outside."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from qc_adapter.model.errors import CallerNotAllowed
from qc_adapter.rpc import revocation as revocation_module
from qc_adapter.rpc.revocation import Revocation
from tests.support.watching import until

ERROR = CallerNotAllowed("dns:desk", "Watch for inspector 101")


class Source:
    """Messages that come when the test says so; knows whether it was closed."""

    def __init__(self):
        self.messages = asyncio.Queue()
        self.closed = False

    async def stream(self):
        try:
            while (message := await self.messages.get()) is not None:
                yield message
        finally:
            self.closed = True


async def read(revocation, source, heard, then=lambda: None):
    """Read the stream as a call does; `then` happens while a message is written."""

    async def write(message):
        heard.append(message)
        then()

    async with aclosing(source.stream()) as messages:
        await revocation.pass_on(messages, write)


async def test_a_stream_that_nobody_revokes_passes_everything_on():
    """Messages and the end come through."""
    source, heard = Source(), []
    for message in ("a", "b", None):
        source.messages.put_nowait(message)
    await read(Revocation(), source, heard)
    assert (heard, source.closed) == (["a", "b"], True)


async def test_a_waiting_stream_ends_at_once():
    """Nothing has to come for the stream to end, and its source is closed."""
    source, heard, revocation = Source(), [], Revocation()
    reading = asyncio.create_task(read(revocation, source, heard))
    source.messages.put_nowait("a")
    await until(lambda: heard == ["a"])
    revocation.revoke(ERROR)
    with pytest.raises(CallerNotAllowed):
        await reading
    assert source.closed


async def test_a_stream_that_is_just_written_ends_before_its_next_message():
    """A write is not cut off; what comes after it is not sent."""
    source, revocation = Source(), Revocation()
    for message in ("a", "b"):
        source.messages.put_nowait(message)
    heard = []
    with pytest.raises(CallerNotAllowed):
        await read(revocation, source, heard, lambda: revocation.revoke(ERROR))
    assert heard == ["a"]


@pytest.mark.parametrize("revoked", [False, True])
async def test_a_caller_that_goes_away_is_no_revocation(revoked):
    """A cancellation from elsewhere stays one, also when both come at once."""
    source, revocation = Source(), Revocation()
    reading = asyncio.create_task(read(revocation, source, []))
    await until(lambda: revocation._waiting)
    reading.cancel()
    if revoked:
        revocation.revoke(ERROR)
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert source.closed


async def test_a_stream_that_was_revoked_before_it_began_sends_nothing():
    """The policy may change between a call's check and its first message."""
    source, heard, revocation = Source(), [], Revocation()
    source.messages.put_nowait("a")
    revocation.revoke(ERROR)
    with pytest.raises(CallerNotAllowed):
        await read(revocation, source, heard)
    assert heard == []


async def test_a_stream_whose_message_nobody_takes_is_cut_off(monkeypatch):
    """The task that writes is cancelled after a while, and the error is kept."""
    monkeypatch.setattr(revocation_module, "_LAST_WRITE_SECONDS", 0.01)
    source, heard, revocation = Source(), [], Revocation()

    async def write(message):
        heard.append(message)
        await asyncio.Event().wait()

    writing = asyncio.create_task(revocation.pass_on(source.stream(), write))
    source.messages.put_nowait("a")
    await until(lambda: heard == ["a"])
    assert revocation.cut is None
    revocation.revoke(ERROR)
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert revocation.cut is ERROR
