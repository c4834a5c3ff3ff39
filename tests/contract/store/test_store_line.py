"""The line that all scripts share: whose reply is whose, whatever callers and connections do."""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest
import uvloop

from qc_adapter.model.errors import StoreUnavailable
from qc_adapter.store.opening import open_link
from qc_adapter.store.script import Script
from tests.support.wire import Wire

ECHO = Script.of("return ARGV[1]")
ADD = Script.of("return redis.call('RPUSH', 'line', ARGV[1])")
FAILS = Script.of("return redis.call('NO-SUCH-COMMAND')")
MANY = 300


@contextlib.asynccontextmanager
async def opened(port, timeout_seconds=30.0):
    """A link through a wire that can be cut."""
    wire = Wire()
    await wire.start(port)
    link = open_link(f"redis://127.0.0.1:{wire.port}/0", timeout_seconds=timeout_seconds)
    try:
        yield link, wire
    finally:
        wire.flow()
        await link.close()
        await wire.refuse()


def echo(link, number):
    """Begin to ask for a number."""
    return asyncio.create_task(link.script("echo", ECHO, str(number)))


async def test_callers_that_leave_shift_no_reply(redis_server, redis_url):
    """Whoever is cancelled, before its script went out or after, each of the others gets its own reply."""
    chance = random.Random(7)  # noqa: S311 - no secret
    async with opened(redis_server.port) as (link, _):
        for _round in range(5):
            asked = [echo(link, number) for number in range(MANY)]
            for task in asked[::3]:
                asyncio.get_running_loop().call_later(chance.random() * 0.01, task.cancel)
            replies = await asyncio.gather(*asked, return_exceptions=True)
            for number, reply in enumerate(replies):
                assert reply == str(number).encode() or isinstance(reply, asyncio.CancelledError)
            assert replies[1] == b"1"


async def test_a_script_that_fails_is_the_failure_of_its_caller_alone(redis_server, redis_url):
    """An error among the replies belongs to one command; those before and behind it are answered."""
    async with opened(redis_server.port) as (link, _):
        mixed = [link.script("echo", FAILS) if number % 5 == 0 else echo(link, number) for number in range(MANY)]
        for number, reply in enumerate(await asyncio.gather(*mixed, return_exceptions=True)):
            assert isinstance(reply, StoreUnavailable) if number % 5 == 0 else reply == str(number).encode()


async def test_the_script_of_a_caller_that_left_is_run(own_redis_server):
    """It is carried out to the end, also on a Redis that has to be told its text first."""
    async with opened(own_redis_server.port) as (link, _):
        task = asyncio.create_task(link.script("add", ADD, "one"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await link.script("add", ADD, "two") == 2


@pytest.mark.parametrize("how", ["cut", "closed"])
def test_on_uvloop_a_line_that_broke_is_replaced(redis_server, redis_url, how):
    """Connections that broke while nobody asked cost nobody a script, and the replies stay with their callers."""

    async def main():
        async with opened(redis_server.port) as (link, wire):
            for _ in range(3):
                replies = await asyncio.gather(*(echo(link, number) for number in range(MANY)))
                assert replies == [str(number).encode() for number in range(MANY)]
                if how == "cut":
                    wire.cut()
                else:
                    await wire.refuse()
                    await wire.accept()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


async def test_what_waits_on_a_line_that_breaks_is_run_once_more(redis_server, redis_url):
    """Scripts whose replies are lost with their connection are answered on the next one, each with its own reply."""
    async with opened(redis_server.port) as (link, wire):
        assert await echo(link, 1) == b"1"
        wire.stall()
        asked = [echo(link, number) for number in range(MANY)]
        await asyncio.sleep(0.01)
        wire.cut()
        wire.flow()
        assert await asyncio.gather(*asked) == [str(number).encode() for number in range(MANY)]


async def test_a_silent_line_is_given_up_and_heals(redis_server, redis_url):
    """When nothing comes for a caller's whole patience the connection is dropped, and the next caller has a new one."""
    async with opened(redis_server.port, timeout_seconds=0.3) as (link, wire):
        assert await echo(link, 1) == b"1"
        wire.stall()
        with pytest.raises(StoreUnavailable, match="no answer within"):
            await echo(link, 2)
        wire.flow()
        assert await echo(link, 3) == b"3"


class Odd(asyncio.Protocol):
    """A server that answers each read with the bytes it was made with, and counts the reads that hold scripts."""

    def __init__(self, answers):
        self.answers = answers
        self.reads = []
        self.lost = asyncio.Event()

    def connection_made(self, transport):
        """Keep the way back."""
        self.transport = transport

    def connection_lost(self, error):  # noqa: ARG002 - asyncio gives it
        """The client went away."""
        self.lost.set()

    def data_received(self, data):
        """Answer whatever the client says when it connects, and count what comes then."""
        scripts = data.count(b"EVALSHA")
        if not scripts:
            self.transport.write(b"+OK\r\n" * data.count(b"*"))
            return
        self.reads.append(scripts)
        self.transport.write(b"".join(self.answers(number) for number in range(scripts)))


@contextlib.asynccontextmanager
async def odd(answers):
    """Serve so, and open a link to it."""
    made = []
    server = await asyncio.get_running_loop().create_server(
        lambda: made.append(Odd(answers)) or made[-1], "127.0.0.1", 0
    )
    async with server:
        link = open_link(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0", timeout_seconds=1.0)
        try:
            yield link, made
        finally:
            await link.close()


async def test_what_is_asked_at_once_goes_out_in_one_write():
    """Twenty callers in one turn of the loop cost one read at the server."""
    async with odd(lambda number: b":%d\r\n" % number) as (link, made):
        assert await asyncio.gather(*(echo(link, number) for number in range(20))) == list(range(20))
        assert [reads for server in made for reads in server.reads] == [20]


async def test_a_reply_that_nobody_asked_for_ends_the_connection():
    """The next reply could be anybody's: what was asked meanwhile is answered on a new connection."""
    async with odd(lambda _number: b":1\r\n:666\r\n") as (link, made):
        assert await echo(link, 1) == 1
        async with asyncio.timeout(10):
            await made[0].lost.wait()
        assert await echo(link, 2) == 1


@pytest.mark.parametrize("known", [True, False], ids=["known", "told"])
async def test_a_line_to_a_server_that_takes_no_writes_is_left(own_redis_server, known):
    """Whoever is refused is told so, the others are run on another connection, and promoted it takes writes again."""
    async with opened(own_redis_server.port) as (link, _):
        assert await link.script("add", ADD, "one") == 1
        with own_redis_server.client() as client:
            for number in range(2, 12):
                client.execute_command("REPLICAOF", "127.0.0.1", "1")
                if not known:
                    client.script_flush()
                asked = [link.script("add", ADD, "two") if one % 2 else echo(link, one) for one in range(6)]
                for one, reply in enumerate(await asyncio.gather(*asked, return_exceptions=True)):
                    assert isinstance(reply, StoreUnavailable) if one % 2 else reply == str(one).encode()
                client.execute_command("REPLICAOF", "NO", "ONE")
                assert await link.script("add", ADD, "three") == number


class Deaf(Odd):
    """A server whose first connection that brings scripts is dead, and whose later ones take their time to begin."""

    def __init__(self, made):
        super().__init__(lambda _number: b":1\r\n")
        self.made = made

    @property
    def dead(self):
        """Whether it is the first that brought scripts."""
        return next((one for one in self.made if one.reads), None) is self

    def data_received(self, data):
        """Answer late, or nothing."""
        if b"EVALSHA" in data and not any(one.reads for one in self.made):
            self.reads.append(0)
        if not self.dead:
            asyncio.get_running_loop().call_later(0.1, super().data_received, data)


async def test_who_gives_up_does_not_cut_off_the_next_connection():
    """Callers of a dead connection lose patience one after the other: who still has some is answered on the next."""
    made = []
    server = await asyncio.get_running_loop().create_server(lambda: made.append(Deaf(made)) or made[-1], "127.0.0.1", 0)
    async with server:
        link = open_link(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0", timeout_seconds=3.0)
        try:
            asked = []
            for _ in range(30):
                asked.append(echo(link, 1))
                await asyncio.sleep(0.05)
            replies = await asyncio.gather(*asked, return_exceptions=True)
            assert isinstance(replies[0], StoreUnavailable)
            assert replies[-1] == 1
        finally:
            await link.close()


def on_line(server):
    """The server's names of the connections that brought scripts last."""
    with server.client() as client:
        return {one["id"] for one in client.client_list() if one["cmd"].startswith("eval")}


async def test_a_server_that_was_silent_for_long_is_looked_for_anew(own_redis_server, take):
    """Who waited is answered, and the next script takes another connection: the server may be no master any more."""
    link = open_link(own_redis_server.url, timeout_seconds=30.0)
    try:
        assert await echo(link, 1) == b"1"
        first = on_line(own_redis_server)
        own_redis_server.freeze()
        asked = [echo(link, number) for number in range(MANY)]
        await take.until(lambda: link.doubts)
        own_redis_server.thaw()
        assert await asyncio.gather(*asked) == [str(number).encode() for number in range(MANY)]
        assert await echo(link, 2) == b"2"
        assert len(first) == len(on_line(own_redis_server)) == 1
        assert on_line(own_redis_server) != first
        assert await echo(link, 3) == b"3"
        assert link.doubts == 2
    finally:
        own_redis_server.thaw()
        await link.close()


async def test_a_server_that_was_replaced_is_left_when_it_has_answered(redis_server, redis_url):
    """Who waits on it is answered by it; what is asked from then on goes where the sentinels say."""
    async with opened(redis_server.port) as (link, wire):
        assert await echo(link, 1) == b"1"
        first = on_line(redis_server)
        wire.stall()
        asked = [echo(link, number) for number in range(MANY)]
        await asyncio.sleep(0)
        link._line.lead_to(("127.0.0.1", wire.port))
        link._line.lead_to(("another", 1))
        asked += [echo(link, number) for number in range(MANY, 2 * MANY)]
        wire.flow()
        assert await asyncio.gather(*asked) == [str(number).encode() for number in range(2 * MANY)]
        assert on_line(redis_server).isdisjoint(first)
        assert link.doubts == 1


async def test_what_is_told_after_a_long_silence_is_asked_once_more(own_redis_server, take):
    """What a frozen master runs when it wakes up is lost, if another one has its place by then."""
    link = open_link(own_redis_server.url, timeout_seconds=30.0)
    try:
        assert await link.script("add", ADD, "before") == 1
        own_redis_server.freeze()
        asked = asyncio.create_task(link.script("add", ADD, "meanwhile"))
        await take.until(lambda: link.doubts)
        own_redis_server.thaw()
        assert await asked == 3
        assert await link.script("add", ADD, "after") == 4
    finally:
        own_redis_server.thaw()
        await link.close()
