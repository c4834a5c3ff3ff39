"""A watch that outlives its streams: over real sockets, with replicas that fail in every way."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools

import grpc
import pytest
import trustme
from grpc import StatusCode

from qc_adapter.client import CallFailed, OnExpired, QualityControlClient
from qc_adapter.v1 import events_pb2

GAP = events_pb2.WatchResponse(cursor="c-3", gap=events_pb2.Gap(reason="CURSOR_EXPIRED", to="c-3"))


async def take(watch, count):
    """The next messages of a watch."""
    return [await anext(watch) for _ in range(count)]


def names(messages):
    """What the events are called, and what else came."""
    return [one.event.event_type if one.HasField("event") else one.WhichOneof("update") for one in messages]


@pytest.fixture
def endings(draining, status):
    """In which ways a stream ends that can be resumed."""
    return {
        "draining": draining("c-99"),  # the client trusts what it has read, not what a replica says that it wrote
        "broken": status(StatusCode.UNAVAILABLE),
        "ended": "end",
        "too slow": status(StatusCode.RESOURCE_EXHAUSTED, "SLOW_CONSUMER"),
        "internal": status(StatusCode.INTERNAL),
    }


@pytest.mark.parametrize("way", ["draining", "broken", "ended", "too slow", "internal"])
async def test_a_stream_that_ends_is_resumed_right_after_the_last_event(replica, log, open_client, endings, way):
    """However the streams end, each event comes once and in order."""
    ending = endings[way]
    replica.watches = [[2, ending], [ending], [3, ending], [1, ending]]
    client = await open_client(replica.port)
    async with client.watch("101", "oldest") as watch:
        log.append("a", "b", "c", "d")
        first = await take(watch, 4)
        log.append("e", "f", "g", "h")
        assert names(first + await take(watch, 4)) == list("abcdefgh")
    assert [request.cursor for request in replica.requests] == ["oldest", "c-2", "c-2", "c-5", "c-6"]
    assert watch.gaps == 0


async def test_a_watch_from_now_misses_nothing_after_its_first_stream_stood(replica, log, open_client, status):
    """An event between two streams is not lost because the first one said where the watch began."""
    log.append("old")
    replica.watches = [[status(StatusCode.UNAVAILABLE)]]
    client = await open_client(replica.port)
    async with client.watch("101", subscribed=True) as watch:
        assert names(await take(watch, 1)) == ["subscribed"]
        log.append("new")
        assert names(await take(watch, 2)) == ["subscribed", "new"]
    assert [request.cursor for request in replica.requests] == ["", "c-1"]


async def test_a_stream_that_fell_silent_is_left(replica, log, open_client, quick):
    """A frozen replica keeps its connection open: silence ends the stream, and the next one goes on."""
    replica.watches = [[1, "freeze"]]
    client = await open_client(replica.port, timing=dataclasses.replace(quick, silence_seconds=0.2))
    log.append("a", "b")
    seen = []
    async with client.watch("101", "oldest", on_broken=seen.append) as watch:
        assert names(await take(watch, 2)) == ["a", "b"]
    assert (seen[0].failure.reason, seen[0].cursor) == ("STREAM_SILENT", "c-1")


async def test_a_replica_that_never_answers_is_left(replica, deaf_port, log, open_client):
    """A port that takes connections and says nothing holds nobody up while another replica serves."""
    client = await open_client(deaf_port, replica.port)
    log.append("a")
    async with client.watch("101", "oldest") as watch:
        assert names(await take(watch, 1)) == ["a"]


async def test_a_first_answer_has_a_time_of_its_own(deaf_port, open_client, quick):
    """Where nothing but a frozen replica is, the watch ends with its patience."""
    client = await open_client(deaf_port, timing=dataclasses.replace(quick, answer_seconds=0.1))
    with pytest.raises(CallFailed) as failed:
        await anext(client.watch("101", patience_seconds=0.2))
    assert failed.value.reason == "STREAM_SILENT"


async def test_the_wait_that_a_replica_asks_for_is_kept(replica, log, open_client, draining):
    """RetryInfo is the shortest pause, and pauses without it grow until something comes."""
    replica.watches = [[draining(retry_seconds=0.1)], ["end"], ["end"], ["end"], [1, "end"]]
    seen = []
    client = await open_client(replica.port)
    log.append("a", "b")
    async with client.watch("101", "oldest", on_broken=seen.append) as watch:
        await take(watch, 2)
    assert [round(broken.pause_seconds, 3) for broken in seen] == [0.1, 0.02, 0.04, 0.05, 0.01]


async def test_gaps_and_bookmarks_are_passed_on_as_asked(replica, open_client, log):
    """A gap is always shown and counted; bookmarks and `subscribed` by wish; their cursors count all the same."""
    bookmark = events_pb2.WatchResponse(cursor="c-3", bookmark=events_pb2.Bookmark())
    replica.watches = [[GAP, bookmark, "end"]]
    log.append("a", "b", "c", "d")
    client = await open_client(replica.port)
    async with client.watch("101", "c-1") as watch:
        assert names(await take(watch, 2)) == ["gap", "d"]
        assert watch.gaps == 1
    replica.watches = [[GAP, bookmark, "end"]]
    async with client.watch("101", "c-1", bookmarks=True, subscribed=True) as watch:
        assert names(await take(watch, 5)) == ["subscribed", "gap", "bookmark", "subscribed", "d"]


async def test_a_gap_that_was_not_read_is_not_hidden(replica, open_client, log, status):
    """A stream that breaks between `subscribed` and its gap is resumed before the gap."""
    beyond = events_pb2.WatchResponse(cursor="c-3", subscribed=events_pb2.Subscribed())
    replica.watches = [[beyond, status(StatusCode.UNAVAILABLE)], [beyond, GAP]]
    log.append("a", "b", "c", "d")
    client = await open_client(replica.port)
    async with client.watch("101", "c-1") as watch:
        assert (await anext(watch)).HasField("gap")
    assert [request.cursor for request in replica.requests] == ["c-1", "c-1"]


@pytest.mark.parametrize(
    "told",
    [
        (StatusCode.FAILED_PRECONDITION, "INSPECTOR_NOT_SIGNED_IN"),
        (StatusCode.OUT_OF_RANGE, "CURSOR_EXPIRED"),
        (StatusCode.UNAUTHENTICATED, ""),
    ],
    ids=["signed out", "expired", "not told by an adapter"],
)
async def test_what_resuming_cannot_help_ends_the_watch(replica, open_client, log, status, told):
    """The error has the reason, and the cursor to go on from; the watch is over."""
    replica.watches = [[1, status(*told)]]
    log.append("a")
    client = await open_client(replica.port)
    watch = client.watch("101", "oldest", on_expired=OnExpired.FAIL)
    await anext(watch)
    with pytest.raises(CallFailed) as failed:
        await anext(watch)
    assert (failed.value.code, failed.value.reason, failed.value.cursor) == (*told, "c-1")
    assert [one async for one in watch] == []
    assert len(replica.requests) == 1
    assert replica.requests[0].on_expired == events_pb2.ON_EXPIRED_FAIL


async def test_patience_has_an_end(replica, log, open_client):
    """A watch whose replicas stay away ends with the last failure and its cursor."""
    log.append("a")
    client = await open_client(replica.port)
    watch = client.watch("101", "oldest", patience_seconds=0.3)
    await anext(watch)
    await replica.stop()
    with pytest.raises(CallFailed) as failed:
        await anext(watch)
    assert (failed.value.code, failed.value.cursor) == (StatusCode.UNAVAILABLE, "c-1")


async def test_a_first_failure_is_an_error_when_asked_for(replica, open_client):
    """Where nothing listens a library tries again, and a person is told at once."""
    client = await open_client(1)
    seen = []
    with pytest.raises(CallFailed) as failed:
        await anext(client.watch("101", retry_first_failure=False, on_broken=seen.append))
    assert failed.value.never_sent
    assert seen == []
    with pytest.raises(CallFailed):
        await anext(client.watch("101", patience_seconds=0.1, on_broken=seen.append))
    assert seen


async def test_a_replica_that_starts_late_is_found(replica, log, open_client):
    """Nothing listens at first; the watch stands once something does."""
    await replica.stop()
    client = await open_client(replica.port)
    reading = asyncio.create_task(take(client.watch("101", "oldest"), 1))
    log.append("a")
    await replica.start()
    assert names(await reading) == ["a"]


async def test_when_one_replica_dies_the_other_goes_on(replicas, log, open_client, until):
    """Replicas die in turn under a watch; no event is lost or comes twice."""
    client = await open_client(*(replica.port for replica in replicas))
    numbers = itertools.count()
    expected, seen = [], []
    async with client.watch("101", "oldest") as watch:
        for _ in range(4):
            name = f"e{next(numbers)}"
            expected.append(name)
            log.append(name)
            seen += await take(watch, 1)
            serving = next(replica for replica in replicas if replica.open)
            await serving.stop()
            await serving.start()
    assert names(seen) == expected


async def test_a_list_of_names_is_looked_up(replicas, log, open_client):
    """Several replicas may be given by name; one of them is enough."""
    dead, alive = replicas
    await dead.stop()
    log.append("a")
    async with QualityControlClient(f"localhost:{dead.port}, localhost:{alive.port}") as client:
        assert names(await take(client.watch("101", "oldest"), 1)) == ["a"]


async def test_a_list_under_tls_is_checked_by_its_first_name(replicas, log):
    """The certificate of every replica has to hold for the host that the list begins with."""
    ca = trustme.CA()
    certificate = ca.issue_cert("localhost")
    pair = (certificate.private_key_pem.bytes(), certificate.cert_chain_pems[0].bytes())
    for replica in replicas:
        await replica.stop()
        replica.port = 0
        await replica.start(grpc.ssl_server_credentials([pair]))
    dead, alive = replicas
    await dead.stop()
    log.append("a")
    credentials = grpc.ssl_channel_credentials(ca.cert_pem.bytes())
    async with QualityControlClient([f"localhost:{dead.port}", f"127.0.0.1:{alive.port}"], credentials) as client:
        assert names(await take(client.watch("101", "oldest"), 1)) == ["a"]
    async with QualityControlClient([f"127.0.0.1:{dead.port}", f"localhost:{alive.port}"], credentials) as client:
        with pytest.raises(CallFailed) as failed:
            await anext(client.watch("101", patience_seconds=0.1))
    assert failed.value.never_sent


async def test_cancelling_a_reader_leaves_nothing(replica, log, open_client, until):
    """Neither a task nor an open call is left when the reader is cancelled."""
    client = await open_client(replica.port)
    before = asyncio.all_tasks()
    seen = []

    async def read():
        async for message in client.watch("101", "oldest"):
            seen.append(message)  # noqa: PERF401 - it never ends

    reading = asyncio.create_task(read())
    log.append("a")
    await until(lambda: seen, "an event")
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    assert reading.cancelled()
    await until(lambda: not replica.open, "the end of the call")
    await until(lambda: not [one for one in asyncio.all_tasks() - before if "grpc" not in repr(one)], "no task")


async def test_a_wait_that_is_cancelled_loses_nothing(replica, log, open_client):
    """A reader may wait with a timeout again and again, and still gets every event once."""
    client = await open_client(replica.port)
    async with client.watch("101", "oldest") as watch:
        log.append("a")
        seen = await take(watch, 1)
        for name in "bc":
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(watch), 0.05)
            log.append(name)
            seen += await take(watch, 1)
    assert names(seen) == ["a", "b", "c"]


async def test_a_reader_that_stops_leaves_no_call(replica, log, open_client, until):
    """Leaving the loop without closing anything ends the call."""
    client = await open_client(replica.port)
    log.append("a")
    async for _ in client.watch("101", "oldest"):
        break
    await until(lambda: not replica.open, "the end of the call")


async def test_closing_the_client_ends_its_watches(replica, log, open_client, until):
    """A reader is told that the client was closed; it is not cancelled itself."""
    client = await open_client(replica.port)
    reading = asyncio.create_task(take(client.watch("101", "oldest"), 1))
    await until(lambda: replica.open, "a stream")
    await client.close()
    with pytest.raises(CallFailed) as failed:
        await reading
    assert failed.value.reason == "CLIENT_CLOSED"
    assert len(replica.requests) == 1
